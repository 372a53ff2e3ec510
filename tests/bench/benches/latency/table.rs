//! The figures as text.

use crate::batching::Batching;
use crate::livestream::Stream;
use crate::turn::Taken;

/// The turns of one rate and one way to batch.
pub(crate) struct Line {
    followed: usize,
    p50: f64,
    pub(crate) p99: f64,
    worst: f64,
    /// The p50 of each turn.
    turns: Vec<f64>,
    copies: Vec<f64>,
    batches: u64,
    writes: u64,
    late: f64,
    blind: f64,
    others: f64,
}

impl Line {
    pub(crate) fn of(turns: &[Taken]) -> Self {
        let most = |figure: fn(&Taken) -> f64| turns.iter().map(figure).fold(0.0, f64::max);
        let (late, blind) = (most(|turn| turn.late), most(|turn| turn.blind));
        let others = most(|turn| turn.others);
        let all = sorted(turns.iter().flat_map(|turn| turn.latencies.iter().copied()));
        let copies = sorted(turns.iter().flat_map(|turn| turn.copies.iter().copied()));
        let sum = |figure: fn(&Taken) -> u64| turns.iter().map(figure).sum();
        let (batches, writes) = (sum(|turn| turn.batches), sum(|turn| turn.writes));
        let middle = |turn: &Taken| at(&sorted(turn.latencies.iter().copied()), 0.5);
        Self {
            followed: all.len(),
            p50: at(&all, 0.5),
            p99: at(&all, 0.99),
            worst: at(&all, 1.0),
            turns: turns.iter().map(middle).collect(),
            copies,
            batches,
            writes,
            late,
            blind,
            others,
        }
    }

    /// By how much equal turns differ, of the middle of both.
    fn spread(&self) -> String {
        match self.turns[..] {
            [one, other] => format!("{:.0}%", (one - other).abs() / self.p50 * 100.0),
            _ => "one turn".to_owned(),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this share of all lies.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a place in the list")]
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

pub(crate) fn head(streams: &[Stream]) {
    let bytes: u64 = streams.iter().map(|stream| std::fs::metadata(&stream.file).unwrap().len()).sum();
    println!(
        "75 columns; {} cores; {} MB of stream, compressed before; p50, p99 and worst: ms from the socket to the table\n",
        std::thread::available_parallelism().unwrap(),
        bytes / 1_000_000
    );
    println!(
        "{:>6}  {:<11}  {:>8}  {:>6}  {:>6}  {:>6}  {:>8}  {:>7}  {:>12}  {:>5}  {:>7}  {:>7}  {:>7}  {:>8}  {:>6}",
        "hits/s",
        "batching",
        "followed",
        "p50",
        "p99",
        "worst",
        "spread",
        "batches",
        "writes/batch",
        "COPYs",
        "COPY ms",
        "longest",
        "late ms",
        "blind ms",
        "others"
    );
}

pub(crate) fn print(rate: u64, batching: &Batching, line: &Line) {
    println!(
        "{rate:>6}  {:<11}  {:>8}  {:>6.0}  {:>6.0}  {:>6.0}  {:>8}  {:>7}  {:>12.1}  {:>5}  {:>7.0}  {:>7.0}  {:>7.0}  {:>8.0}  {:>6.2}",
        batching.name(),
        line.followed,
        line.p50,
        line.p99,
        line.worst,
        line.spread(),
        line.batches,
        line.writes as f64 / line.batches as f64,
        line.copies.len(),
        at(&line.copies, 0.5),
        at(&line.copies, 1.0),
        line.late,
        line.blind,
        line.others
    );
}
