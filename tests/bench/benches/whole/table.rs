//! The figures as text.

use std::collections::BTreeSet;

use crate::Compared;
use crate::way::Way;

/// A kind of thread that takes less is not worth a line.
const LEAST_MICROS: f64 = 0.05;

/// All ways of one schema, and the producer's threads.
pub(crate) fn print(compared: &Compared) {
    println!(
        "\n{} columns\n{:31}{:>9}  {:>5}  {:>12}  {:>10}  {:>10}  {:>5}  {:>6}  {:>5}  {:>6}",
        compared.columns,
        "",
        "records/s",
        "MB/s",
        "of inflation",
        "x Python's",
        "CPU µs/rec",
        "MiB",
        "syncs",
        "PUTs",
        "spread"
    );
    let (inflation, python) = (compared.ways[0].rate(), compared.ways[compared.ways.len() - 1].rate());
    for way in &compared.ways {
        println!(
            "  {:29}{:>9.0}  {:>5.0}  {:>12.2}  {:>10.1}  {:>10.1}  {:>5}  {:>6}  {:>5}  {:>5.0}%",
            way.kind.name(),
            way.rate(),
            way.middle(|turn| turn.text_bytes as f64 / turn.time.as_secs_f64() / 1e6),
            way.rate() / inflation,
            way.rate() / python,
            way.micros(|turn| turn.cpu),
            shown(way.middle(|turn| turn.peak_memory as f64 / f64::from(1 << 20)), 0),
            shown(way.syncs, 1),
            shown(way.middle(|turn| turn.puts as f64 * 1e3 / turn.records as f64), 2),
            way.spread() * 100.0
        );
    }
    let ours: Vec<&Way> = compared.ways.iter().filter(|way| way.kind.connections().is_some()).collect();
    threads(&ours);
    println!("  others had {:.2} of a core meanwhile", compared.others);
}

/// Nothing where nothing was counted.
fn shown(figure: f64, digits: usize) -> String {
    if figure > 0.0 { format!("{figure:.digits$}") } else { String::new() }
}

/// By kind, the dearest first; those that took nothing are left out.
fn threads(ways: &[&Way]) {
    let of = |way: &Way, kind: &str| way.micros(|turn| turn.threads.get(kind).copied().unwrap_or_default());
    let kinds: BTreeSet<&String> =
        ways.iter().flat_map(|way| &way.turns).flat_map(|turn| turn.threads.keys()).collect();
    let mut kinds: Vec<&String> =
        kinds.into_iter().filter(|kind| of(ways[0], kind) >= LEAST_MICROS).collect();
    kinds.sort_by(|a, b| of(ways[0], b).total_cmp(&of(ways[0], a)));
    let line = |name: &str, figures: &mut dyn Iterator<Item = String>| {
        println!("    {name:27}{}", figures.map(|figure| format!("{figure:>11}")).collect::<String>());
    };
    line(
        "CPU µs/rec by connections",
        &mut ways.iter().filter_map(|way| way.kind.connections()).map(|n| n.to_string()),
    );
    for kind in kinds {
        line(kind, &mut ways.iter().map(|way| format!("{:.2}", of(way, kind))));
    }
    line("(the stand-ins)", &mut ways.iter().map(|way| format!("{:.2}", way.micros(|turn| turn.stand_ins))));
}
