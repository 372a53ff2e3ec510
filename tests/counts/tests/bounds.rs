//! No step takes more instructions a record than is written down.

use std::path::Path;

use counts::{WAYS, measure};

#[test]
fn no_step_costs_more_instructions_than_its_bound() {
    let program = Path::new(env!("CARGO_BIN_EXE_counts"));
    let counted: Vec<_> = WAYS.iter().map(|way| (way, measure(program, way).unwrap())).collect();
    for (way, count) in &counted {
        println!("{:<14}{count:>10} of {:>10}", way.name, way.bound);
    }
    for (way, count) in &counted {
        // A bound far above what it takes would let the next fault through.
        let least = way.bound / 100 * way.least;
        assert!(
            *count <= way.bound,
            "{} takes {count} instructions a record, its bound is {}",
            way.name,
            way.bound
        );
        assert!(
            *count >= least,
            "{} takes {count} instructions a record now: lower its bound of {}",
            way.name,
            way.bound
        );
    }
    let count =
        |name| counted.iter().find(|(way, _)| way.name == name).map(|(_, count)| *count as f64).unwrap();
    // What may be asked of the transform beside, as a share of it. Of protection a part is SHA-256, for which valgrind has no
    // instructions of its own, as every processor of today has.
    for (beside, alone, most) in [
        ("counted", "transform", 1.03),
        ("all-counted", "all-columns", 1.03),
        ("protected", "transform", 1.15),
    ] {
        let share = count(beside) / count(alone);
        assert!(
            share <= most,
            "{beside} takes {share:.3} of the instructions of {alone}, at most {most} are allowed"
        );
    }
}
