//! The way of one connection through the hits. Partitions that lag go by one clock: at a tick each of them comes to the
//! index that is its lag below it. Without a skew ticks are indexes.

use std::ops::Range;

use super::delivery::{InHits, PARTITIONS, is_twice, partition};
use crate::records::Generator;

/// Which partitions a connection reads, as bits.
pub(crate) type Mask = u8;

/// Some ticks to write, valid as long as nobody joins or leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) ticks: Range<u64>,
    pub(crate) mask: Mask,
    /// Partitions of another connection, of which some hits are sent here too.
    pub(crate) echo: Mask,
    /// Of each partition, the index below which everything has been written.
    pub(crate) positions: [u64; PARTITIONS],
    pub(crate) order: InHits,
    pub(crate) hits: u64,
    pub(crate) epoch: u64,
}

impl Claim {
    /// A walk from its beginning.
    pub(crate) fn walk(&self) -> Walk<'_> {
        let mut lanes: Vec<(u64, Mask)> = Vec::new();
        for (p, lag) in self.order.lags.iter().enumerate() {
            match lanes.iter_mut().find(|(known, _)| known == lag) {
                Some((_, members)) => *members |= 1 << p,
                None => lanes.push((*lag, 1 << p)),
            }
        }
        lanes.sort_unstable();
        Walk { claim: self, lanes, tick: self.ticks.start, lane: 0 }
    }

    fn sends(&self, generator: &Generator, index: u64, part: usize) -> bool {
        let is_in = |mask: Mask| mask & (1 << part) != 0;
        (is_in(self.mask) && index >= self.positions[part])
            || (is_in(self.echo) && is_twice(generator, index, self.order.twice_per_mille))
    }
}

/// How far a walk has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The first tick it has not begun.
    pub(crate) tick: u64,
    pub(crate) positions: [u64; PARTITIONS],
}

pub(crate) struct Walk<'a> {
    claim: &'a Claim,
    /// Partitions with the same lag, the foremost first.
    lanes: Vec<(u64, Mask)>,
    tick: u64,
    /// How many lanes of this tick are done.
    lane: usize,
}

impl Walk<'_> {
    /// The next hit to write.
    pub(crate) fn next(&mut self, generator: &Generator) -> Option<u64> {
        while self.tick < self.claim.ticks.end {
            while let Some((lag, members)) = self.lanes.get(self.lane).copied() {
                self.lane += 1;
                let at = self.tick.checked_sub(lag);
                let Some(index) = at.filter(|index| *index < self.claim.hits) else { continue };
                let part = partition(generator, index);
                if members & (1 << part) != 0 && self.claim.sends(generator, index, part) {
                    return Some(index);
                }
            }
            self.lane = 0;
            self.tick += 1;
        }
        None
    }

    pub(crate) fn reached(&self) -> Reached {
        let mut positions = self.claim.positions;
        for (number, (lag, members)) in self.lanes.iter().enumerate() {
            let done = self.tick + u64::from(number < self.lane);
            let index = done.saturating_sub(*lag).min(self.claim.hits);
            for (p, position) in positions.iter_mut().enumerate() {
                if members & self.claim.mask & (1 << p) != 0 {
                    *position = (*position).max(index);
                }
            }
        }
        Reached { tick: self.tick + u64::from(self.lane > 0), positions }
    }
}
