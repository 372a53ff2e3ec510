//! The load transactions that Redshift saw, put together from the log of its stand-in.

use std::collections::HashMap;
use std::time::Duration;

use model::{Order, Step};
use redshift::{Faults, Kind, Seen};

/// A LOCK that was answered later than this had to wait.
const WAITED: Duration = Duration::from_millis(100);

/// The row of the ledger that is no batch.
const MARK: &str = "00000000-0000-7000-8000-000000000000";

/// The statements of one load's transaction, from BEGIN to its end, without those about the COPY's count and about limits
/// of time.
pub(crate) struct Transaction(Vec<Seen>);

impl Transaction {
    /// All of them, in the order of their BEGIN.
    pub(crate) fn all(faults: &Faults) -> Vec<Self> {
        let mut open: HashMap<i32, usize> = HashMap::new();
        let mut all: Vec<Self> = Vec::new();
        for seen in faults.statements() {
            if seen.kind == Kind::Begin {
                open.insert(seen.pid, all.len());
                all.push(Self(Vec::new()));
            }
            let Some(at) = open.get(&seen.pid) else { continue };
            if matches!(seen.kind, Kind::Commit | Kind::Rollback) {
                let at = *at;
                open.remove(&seen.pid);
                all[at].0.push(seen);
            } else if !seen.sql.contains("pg_last_copy_") && !seen.sql.starts_with("SET ") {
                all[*at].0.push(seen);
            }
        }
        all.retain(|transaction| !transaction.is_about_the_mark());
        all
    }

    /// Whether it makes or moves the mark, and loads nothing.
    fn is_about_the_mark(&self) -> bool {
        self.statement(Kind::Select).is_some_and(|look| look.sql.contains(MARK))
    }

    /// First words; what the ledger is asked one after the other is one look.
    fn words(&self) -> Vec<&str> {
        let mut words: Vec<_> = self.0.iter().filter_map(|seen| seen.sql.split_whitespace().next()).collect();
        words.dedup_by(|one, before| *one == "SELECT" && *before == "SELECT");
        words
    }

    /// Whether it ended because what it would load was loaded before.
    pub(crate) fn was_loaded_before(&self) -> bool {
        self.words() == ["BEGIN", "LOCK", "SELECT", "ROLLBACK"]
    }

    /// Whether its client has sent the end.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.last().is_some_and(|seen| matches!(seen.kind, Kind::Commit | Kind::Rollback))
    }

    /// Whether it had to wait for the lock.
    pub(crate) fn waited(&self) -> bool {
        self.locked_at().is_some_and(|(asked, had)| had - asked >= WAITED)
    }

    /// When it asked for the lock, and when it had it.
    pub(crate) fn locked_at(&self) -> Option<(std::time::Instant, std::time::Instant)> {
        let at = self.0.iter().position(|seen| seen.kind == Kind::Lock)?;
        Some((self.0.get(at)?.at, self.0.get(at + 1)?.at))
    }

    /// The statement of this kind, if it came.
    pub(crate) fn statement(&self, kind: Kind) -> Option<&Seen> {
        self.0.iter().find(|seen| seen.kind == kind)
    }
}

/// The real transactions are those of the model: the same statements in the same order, cut off or rolled back
/// anywhere.
#[track_caller]
pub(crate) fn assert_as_modelled(transactions: &[Transaction]) {
    let mut steps: Vec<_> = Order::Product.steps().iter().copied().map(Step::keyword).collect();
    steps.dedup();
    for transaction in transactions {
        let mut words = transaction.words();
        if words.last() == Some(&"ROLLBACK") {
            words.pop();
        }
        assert!(steps.starts_with(&words), "{words:?} is not as the model has it: {steps:?}");
    }
}
