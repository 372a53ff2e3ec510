//! How long live hits wait until they are durable, from what was sent when and what was durable when.

use crate::livestream::TOGETHER;
use crate::watch::{Sample, seconds};

/// The live edge over some time.
pub(crate) struct Edge {
    /// Hits accepted a second.
    pub(crate) rate: f64,
    /// For how many milliseconds the oldest hit that was not durable had been waiting, in the middle and at worst.
    pub(crate) p50: f64,
    pub(crate) worst: f64,
}

impl Edge {
    /// Hits become rows in the order in which they are sent, so the number of durable rows says which hit is the oldest that is
    /// not. `live` are the pieces that were sent: how many hits came before each, and when.
    pub(crate) fn of(samples: &[Sample], live: &[(u64, u64)]) -> Self {
        let mut waits: Vec<f64> = samples.iter().map(|sample| waited(sample, live)).collect();
        waits.sort_by(f64::total_cmp);
        let (first, last) = (&samples[0], &samples[samples.len() - 1]);
        Self {
            rate: (last.durable - first.durable) as f64 / seconds(first.at, last.at),
            p50: waits[waits.len() / 2],
            worst: waits[waits.len() - 1],
        }
    }
}

fn waited(sample: &Sample, live: &[(u64, u64)]) -> f64 {
    let piece = live.partition_point(|(first, _)| first + TOGETHER <= sample.durable);
    live.get(piece).map_or(0.0, |(_, written)| seconds(*written, sample.at) * 1e3)
}
