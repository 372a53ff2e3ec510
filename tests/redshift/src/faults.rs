//! Faults a test asks for, and the log of statements seen.
//!
//! A fault has a side: *refused* (nothing happened), *applied then lost* (it happened, nobody was told), *held*
//! or *slow*, and *orphan* (the client is gone, the session is not). Each is used up by the first statement
//! that matches it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::errors::{SqlError, Where};
use crate::recorder::Recorder;

/// What a statement does, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// BEGIN or START TRANSACTION.
    Begin,
    /// LOCK.
    Lock,
    /// SELECT.
    Select,
    /// COPY.
    Copy,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// CREATE, ALTER, DROP, TRUNCATE.
    Ddl,
    /// SET, SHOW, ANALYZE, CANCEL and what was refused.
    Other,
    /// In a fault: whatever comes next. No statement has this kind.
    Any,
}

/// An error text of Redshift's to answer with.
#[derive(Debug, Clone)]
pub enum Failure {
    /// `1023`, "Serializable isolation violation on table".
    SerializableIsolation,
    /// "could not complete because of conflict with concurrent transaction".
    SnapshotConflict,
    /// "Cannot execute write query because system is in resize mode".
    ResizeMode,
    /// "Disk Full", code 1016.
    DiskFull,
    /// S3 asks for patience: Status 503, SlowDown.
    S3SlowDown,
    /// S3 or the role forbids it: Status 403, AccessDenied.
    S3AccessDenied,
    /// Any other text, with `XX000` and a DETAIL block with this code.
    Text {
        /// The message.
        message: String,
        /// `code:` in the DETAIL.
        code: u32,
    },
}

/// How an orphaned session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanEnd {
    /// Its transaction is undone.
    Rollback,
    /// Its transaction becomes visible, long after the client has gone.
    Commit,
}

/// One thing that goes wrong once.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is cut before the statement is executed; an open transaction rolls back.
    Refused(Kind),
    /// The connection is cut after the statement took effect, before the reply.
    AppliedThenLost(Kind),
    /// The statement is not executed and answers with this error.
    Fails(Kind, Failure),
    /// The statement is executed this much later. Another fault may strike the same statement afterwards.
    Slow(Kind, Duration),
    /// The client's connection is cut at once; the session executes the statement (but not COMMIT), keeps its
    /// transaction and its locks for `hold`, and then ends it.
    Orphan {
        /// The statement at which the client is lost.
        kind: Kind,
        /// How long the transaction lives on after the statement.
        hold: Duration,
        /// What becomes of it.
        end: OrphanEnd,
    },
    /// The session stands still until [`Faults::release`]; [`Faults::until_held`] tells a test of it, so that it can
    /// kill the client exactly there.
    Hold {
        /// The statement at which it stands still.
        kind: Kind,
        /// Whether the statement has had its effect by then.
        applied: bool,
        /// What becomes of the session if its client goes meanwhile; none: it ends at once, as PostgreSQL's do. A
        /// statement that has not had its effect has it then, but COMMIT, which is up to this.
        orphan: Option<(Duration, OrphanEnd)>,
    },
}

impl Fault {
    /// Its side and its statement, in words.
    fn name(&self) -> String {
        let side = match self {
            Self::Refused(_) => "refused".to_owned(),
            Self::AppliedThenLost(_) => "applied then lost".to_owned(),
            Self::Fails(_, failure) => format!("fails: {}", failure.name()),
            Self::Slow(_, time) if *time >= HELD => "held".to_owned(),
            Self::Slow(..) => "slow".to_owned(),
            Self::Orphan { end, .. } => format!("orphan, {end:?}").to_lowercase(),
            Self::Hold { .. } => "stopped".to_owned(),
        };
        format!("{:?} {side}", self.kind()).to_lowercase()
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Refused(kind)
            | Self::AppliedThenLost(kind)
            | Self::Fails(kind, _)
            | Self::Slow(kind, _) => *kind,
            Self::Orphan { kind, .. } | Self::Hold { kind, .. } => *kind,
        }
    }
}

/// From this on a slow statement counts as one that is held.
const HELD: Duration = Duration::from_secs(5);

/// A statement the stand-in was sent.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Process id of the session, as in `pg_backend_pid()`.
    pub pid: i32,
    /// What it does.
    pub kind: Kind,
    /// Its text, as sent.
    pub sql: String,
    /// When it came.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Fault>,
    /// Those that wait for the n-th statement with a text in it.
    aimed: Vec<(u32, String, Fault)>,
    statements: Vec<Seen>,
    struck: BTreeMap<String, u64>,
    conflicts: u64,
    cancels: u64,
    /// Sessions that stand still and nobody was told of.
    held: VecDeque<i32>,
    recorder: Option<Recorder>,
}

/// The faults to come and the statements that went by. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    held: Arc<Notify>,
    released: Arc<Notify>,
}

impl Faults {
    /// Adds a fault behind those already waiting.
    pub fn push(&self, fault: Fault) {
        self.state().pending.push_back(fault);
    }

    /// Adds a fault that strikes the `nth` statement from now on, from 1, whose text contains `text`.
    pub fn push_at(&self, nth: u32, text: &str, fault: Fault) {
        self.state().aimed.push((nth, text.to_owned(), fault));
    }

    /// How many faults still wait for their statement.
    #[must_use]
    pub fn pending(&self) -> usize {
        let state = self.state();
        state.pending.len() + state.aimed.len()
    }

    /// Forgets the faults that have not struck.
    pub fn clear(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.aimed.clear();
    }

    /// How often each kind of fault struck, by statement and side.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.state().struck.clone()
    }

    /// How many statements failed because of concurrent transactions, and not because a fault said so.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.state().conflicts
    }

    /// How many requests to cancel a statement came, with the key of a session.
    #[must_use]
    pub fn cancels(&self) -> u64 {
        self.state().cancels
    }

    /// Returns when a session stands still at a [`Fault::Hold`], with its process id. Each is told of once.
    pub async fn until_held(&self) -> i32 {
        loop {
            let told = self.held.notified();
            if let Some(pid) = self.state().held.pop_front() {
                return pid;
            }
            told.await;
        }
    }

    /// Lets every session go on that stands still now.
    pub fn release(&self) {
        self.released.notify_waiters();
    }

    /// Says that a session stands still; what is returned ends with [`Faults::release`].
    pub(crate) fn hold(&self, pid: i32) -> OwnedNotified {
        let released = Arc::clone(&self.released).notified_owned();
        self.state().held.push_back(pid);
        self.held.notify_one();
        released
    }

    pub(crate) fn met_cancel(&self) {
        self.state().cancels += 1;
    }

    pub(crate) fn met_conflict(&self) {
        self.state().conflicts += 1;
    }

    /// Every statement so far, in the order of arrival.
    #[must_use]
    pub fn statements(&self) -> Vec<Seen> {
        self.state().statements.clone()
    }

    /// Empties the log of statements.
    pub fn forget_statements(&self) {
        self.state().statements.clear();
    }

    /// Writes every kind of statement from now on to this file, behind what others wrote: one JSON string a line.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn record(&self, path: &Path) -> io::Result<()> {
        self.state().recorder = Some(Recorder::to(path)?);
        Ok(())
    }

    #[allow(clippy::panic, reason = "a record with a hole would prove nothing")]
    pub(crate) fn saw(&self, pid: i32, kind: Kind, sql: &str) {
        let mut state = self.state();
        if let Some(recorder) = &mut state.recorder
            && let Err(error) = recorder.note(sql)
        {
            panic!("a statement cannot be recorded: {error}");
        }
        state.statements.push(Seen { pid, kind, sql: sql.to_owned(), at: Instant::now() });
        let waiting = std::mem::take(&mut state.aimed);
        for (nth, text, fault) in waiting {
            match if sql.contains(&text) { nth.saturating_sub(1) } else { nth } {
                // Its turn has come: before all others that wait for this kind.
                0 => state.pending.push_front(fault),
                left => state.aimed.push((left, text, fault)),
            }
        }
    }

    /// The oldest fault for this kind of statement; it is used up.
    pub(crate) fn take(&self, kind: Kind) -> Option<Fault> {
        let mut state = self.state();
        let at = state.pending.iter().position(|fault| fault.kind() == kind || fault.kind() == Kind::Any)?;
        let fault = state.pending.remove(at)?;
        *state.struck.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    fn name(&self) -> &'static str {
        match self {
            Self::SerializableIsolation => "1023",
            Self::SnapshotConflict => "conflict",
            Self::ResizeMode => "resize",
            Self::DiskFull => "disk full",
            Self::S3SlowDown => "S3 503",
            Self::S3AccessDenied => "S3 403",
            Self::Text { .. } => "text",
        }
    }

    pub(crate) fn error(&self, pid: i32) -> SqlError {
        let block = |message: &str, code: u32, location: &str| {
            SqlError::block(message, &Where { code, context: "", query: 0, location, pid })
        };
        match self {
            Self::SerializableIsolation => SqlError::serializable(pid),
            Self::SnapshotConflict => SqlError::conflict(),
            Self::ResizeMode => {
                SqlError::internal("Cannot execute write query because system is in resize mode")
            }
            Self::DiskFull => block("Disk Full", 1016, "fdisk_api.cpp:343"),
            Self::S3SlowDown => block(
                "S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown,Rid 0,ExtRid 0,CanRetry 1",
                8001,
                "s3_utility.cpp:672",
            ),
            Self::S3AccessDenied => block(
                "S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 0,ExtRid 0,CanRetry 1",
                8001,
                "s3_utility.cpp:672",
            ),
            Self::Text { message, code } => block(message, *code, "stand-in"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aimed_fault_waits_for_its_statement() {
        let faults = Faults::default();
        faults.push_at(2, "NOLOAD", Fault::Refused(Kind::Copy));
        for sql in ["COPY t", "COPY t NOLOAD"] {
            faults.saw(1, Kind::Copy, sql);
            assert!(faults.take(Kind::Copy).is_none());
        }
        faults.saw(1, Kind::Copy, "COPY t NOLOAD MAXERROR 9");
        assert!(matches!(faults.take(Kind::Copy), Some(Fault::Refused(Kind::Copy))));
        assert_eq!(faults.pending(), 0);
    }

    #[test]
    fn a_fault_waits_for_its_kind_and_strikes_once() {
        let faults = Faults::default();
        faults.push(Fault::Refused(Kind::Commit));
        faults.push(Fault::AppliedThenLost(Kind::Any));
        assert!(matches!(faults.take(Kind::Begin), Some(Fault::AppliedThenLost(Kind::Any))));
        assert!(faults.take(Kind::Begin).is_none());
        assert!(matches!(faults.take(Kind::Commit), Some(Fault::Refused(Kind::Commit))));
        assert_eq!(faults.pending(), 0);
        assert_eq!(faults.struck().get("commit refused"), Some(&1));
    }
}
