//! In what order hits reach the connections, and how often. For tests:
//!
//! ```text
//! Options { delivery: Delivery { skew, handover, twice_per_mille }, .. }   from the start
//! adobe.deliver(delivery)                                                  from now on
//! Fault::Deliver(delivery)                                                 from the next request at the stream on
//! adobe.partition(index)                                                   which partition brings a hit, 0 to 7
//! Plan { step_seconds, late_per_mille, late_between, .. }                  hours out of few hits, and hits that are late
//! ```
//!
//! Hits are spread by visitor over [`PARTITIONS`], and these over the live connections: partition `p` goes to the
//! connection at place `p % connections`, in the order in which they joined.
//!
//! - `skew`: each partition is so many seconds of stream time behind the foremost, on the same connection. A skew as
//!   long as the stream gives one partition after the other. At full speed a partition comes to its end at once; with a
//!   rate it comes so much later by the clock.
//! - `handover`: when a connection breaks while another one is live, that one gets the visitors, and is sent again what
//!   the broken one was sent in the last so many seconds of stream time. It should be more than the two ends of a
//!   connection hold (some hundred hits), or hits that were written and not read are sent to nobody again.
//! - `twice_per_mille`: so many of 1,000 hits come on a second connection too, as long as there is one. Which ones, the
//!   seed decides.
//! - `late_per_mille`, `late_between` (seconds, 10 minutes to 3.5 hours if not said): those hits have a
//!   `receivedTimeGMT` that is so much older than that of their neighbours. `Generator::is_late` names them.
//! - `step_seconds`: seconds of stream time from one group of `hits_per_second` hits to the next. 10,500 hits with
//!   `hits_per_second: 1, step_seconds: 2` span 5.8 hours. `hold` and `Replay` count hits, a partition's by itself.
//!
//! What was sent stays what it is: every index once, however often it was written ([`crate::Adobe::distinct_sent`],
//! [`crate::Adobe::was_sent`]).

use crate::records::{For, Generator, Plan, draw, mix};

/// How many partitions the stream has.
pub const PARTITIONS: usize = 8;

/// In what order hits reach the connections, and how often. By default in the order of their indexes, and once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// By how many seconds of stream time each partition is behind the foremost.
    pub skew: [u64; PARTITIONS],
    /// How many seconds of stream time before the break are sent again when a connection breaks and its visitors are
    /// handed to another live one.
    pub handover: u64,
    /// Of 1000 hits, so many are sent on a second live connection too.
    pub twice_per_mille: u32,
}

impl Delivery {
    /// The same, counted in hits.
    pub(crate) fn in_hits(&self, plan: &Plan) -> InHits {
        let foremost = self.skew.iter().copied().min().unwrap_or(0);
        InHits {
            lags: self.skew.map(|seconds| plan.hits_in(seconds - foremost).min(plan.hits)),
            handover: plan.hits_in(self.handover),
            twice_per_mille: self.twice_per_mille,
        }
    }
}

/// A delivery counted in hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InHits {
    /// How many indexes each partition is behind; never more than there are, and 0 for the foremost.
    pub(crate) lags: [u64; PARTITIONS],
    pub(crate) handover: u64,
    pub(crate) twice_per_mille: u32,
}

/// The partition of a hit.
pub(crate) fn partition(generator: &Generator, index: u64) -> usize {
    mix(generator.visitor(index)) as usize % PARTITIONS
}

/// Whether a hit comes on a second connection too.
pub(crate) fn is_twice(generator: &Generator, index: u64, per_mille: u32) -> bool {
    per_mille > 0 && draw(generator.plan().seed, index, For::Twice) % 1_000 < u64::from(per_mille)
}
