//! What happens to the stream, decided by a seed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use adobe::{Adobe, Door, Fault, Plan};
use fastrand::Rng;

/// Faults in a run, whatever its length.
const FAULTS: u64 = 34;

/// What Adobe holds for those who come back: a minute, and more than can be under way in buffers.
pub(crate) fn hold(plan: &Plan) -> u64 {
    (60 * plan.hits_per_second).max(20_000)
}

/// Every kind of fault, in some order, at some distance; says how many of each.
pub(crate) fn write(adobe: &Adobe, seed: u64) -> String {
    let (faults, mut random) = (adobe.faults(), Rng::with_seed(seed));
    let plan = *adobe.generator().plan();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    // Each kind comes before any comes again.
    let mut kinds = Vec::new();
    let mut at = 0;
    // Hits a connection is sent again before anything new.
    let mut again = 0;
    let step = plan.hits / FAULTS;
    while at + 6 * step < plan.hits {
        if kinds.is_empty() {
            kinds = KINDS.to_vec();
        }
        let kind = kinds.swap_remove(random.usize(..kinds.len()));
        let new = step / 2 + random.u64(0..step);
        at += new;
        let after = again + new;
        again = hold(&plan);
        *counts.entry(kind).or_default() += 1;
        match kind {
            "end" => faults.push(Fault::End { after }),
            "cut" => faults.push(Fault::Cut { after }),
            "stall" => faults.push(Fault::Stall { after, lasting: Duration::from_millis(1_500) }),
            "short stall" => faults.push(Fault::Stall { after, lasting: Duration::from_millis(200) }),
            "not authorized" => faults.push(Fault::NotAuthorized { after }),
            "garbage" => faults.push(Fault::Garbage { after }),
            "expired token" => {
                faults.push(Fault::Cut { after });
                faults.push(Fault::ExpireToken);
            }
            "forbidden host" => {
                faults.push(Fault::Cut { after });
                faults.push(Fault::RedirectTo("https://stream.example.com/steal".to_owned()));
            }
            "lapse" => {
                faults.push(Fault::Cut { after });
                again = 0;
                let seconds = 60 + random.u64(0..120);
                faults.push(Fault::Lapse { hits: seconds * plan.hits_per_second });
                at += seconds * plan.hits_per_second;
            }
            "replay" => {
                faults.push(Fault::Cut { after });
                // Up to six times the window.
                again = random.u64(60..1_800) * plan.hits_per_second;
                faults.push(Fault::Replay { back: again });
            }
            status => {
                let status: u16 = status.parse().unwrap();
                let door = if status == 503 { Door::Stream } else { Door::Front };
                faults.push(Fault::Cut { after });
                faults.push(Fault::Refuse { door, status, body: None });
            }
        }
    }
    let mut told = String::new();
    for (kind, count) in counts {
        let _ = write!(told, "{count} {kind}, ");
    }
    told.trim_end_matches(", ").to_owned()
}

const KINDS: [&str; 16] = [
    "end",
    "cut",
    "stall",
    "short stall",
    "not authorized",
    "garbage",
    "expired token",
    "forbidden host",
    "lapse",
    "replay",
    "replay",
    "replay",
    "409",
    "424",
    "500",
    "503",
];

/// Connections that break, and nothing else.
pub(crate) fn cuts(adobe: &Adobe, seed: u64) {
    let (faults, mut random) = (adobe.faults(), Rng::with_seed(seed));
    let step = adobe.generator().plan().hits / 20;
    for _ in 0..12 {
        faults.push(Fault::Cut { after: random.u64(0..step) });
    }
}
