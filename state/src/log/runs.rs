//! The runs of a log: each start of its producer is one. A seal names the earlier runs of this log and what they sealed. A
//! copy of this log has runs of its own, which this log does not know.

use serde::{Deserialize, Serialize};
use shared::ids::RunId;
use shared::seal::{Compared, KnownRun};

use crate::store::{Change, Store, StoreError, Table};

pub(super) const RUNS: &[u8] = b"runs";
/// Earlier runs remembered at most, so that a seal stays small. What a forgotten one sealed counts as unknown: it is
/// compared with the table, should it lie in the same time.
const KNOWN: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Runs {
    current: RunId,
    known: Vec<KnownRun>,
}

impl Runs {
    /// A new run begins; `last` is the number of the last batch that the log has sealed.
    pub(super) fn begin(store: &Store, last: Option<u64>, change: &mut Change) -> Result<Self, StoreError> {
        let before: Option<Self> = store.get(Table::Meta, RUNS)?;
        let mut known = before.map_or_else(Vec::new, |before| {
            let Self { current, mut known } = before;
            let sealed = last.filter(|last| known.last().is_none_or(|known| known.until < *last));
            known.extend(sealed.map(|until| KnownRun { run: current, until }));
            known
        });
        known.drain(..known.len().saturating_sub(KNOWN));
        let runs = Self { current: RunId::new(), known };
        change.put(Table::Meta, RUNS, &runs);
        Ok(runs)
    }

    /// What the rows of batch `number`, which this run seals, were compared with, but for `uncompared` of them.
    pub(super) fn compared(&self, number: u64, uncompared: u64) -> Compared {
        Compared { run: self.current, number, known: self.known.clone(), uncompared }
    }
}
