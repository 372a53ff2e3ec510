//! Redshift's side: tables, the ledger's lock, and sessions that may outlive their clients.

use crate::{BAD, BATCHES, Loading, Parts, SEALED, Step, each};

/// What a statement is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It was executed; a look found nothing.
    Done,
    /// These batches are in the ledger.
    There(Parts),
    /// COPY met rows it does not take.
    BadRows,
    /// 1023: rolled back.
    Conflict,
}

/// What a transaction reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Snapshot {
    ledger: Parts,
    /// How many transactions had committed.
    at: u8,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Session {
    /// The batches its statements are about.
    parts: Parts,
    /// Those whose files are named without their bad rows.
    sifted: Parts,
    /// Received and not executed.
    pending: Option<Step>,
    snapshot: Option<Snapshot>,
    locked: bool,
    /// Whether its transaction has copied, and entered, its parts.
    copied: bool,
    entered: bool,
}

impl Session {
    pub(crate) fn new(parts: Parts, sifted: Parts, first: Step) -> Self {
        let pending = Some(first);
        Self { parts, sifted, pending, snapshot: None, locked: false, copied: false, entered: false }
    }

    pub(crate) fn parts(&self) -> Parts {
        self.parts
    }

    pub(crate) fn pending(&self) -> Option<Step> {
        self.pending
    }

    pub(crate) fn holds_lock(&self) -> bool {
        self.locked
    }

    pub(crate) fn send(&mut self, step: Step) {
        self.pending = Some(step);
    }

    /// What is left of the transaction when it has ended.
    fn end_transaction(&mut self) {
        let Self { parts, sifted, pending, .. } = *self;
        *self = Self { parts, sifted, pending, snapshot: None, locked: false, copied: false, entered: false };
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Entry {
    entries: u8,
    loaded: u8,
    quarantined: u8,
}

/// What is committed, and who is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// Rows of each batch in the table.
    rows: [u8; BATCHES],
    ledger: [Entry; BATCHES],
    /// Only counted where it makes a difference.
    commits: u8,
    /// Whether a session holds the ledger's lock.
    locked: bool,
    /// In order, so that equal sets are equal.
    orphans: Vec<Session>,
}

impl Server {
    pub(crate) fn entries(&self, batch: usize) -> u8 {
        self.ledger.get(batch).map_or(0, |entry| entry.entries)
    }

    pub(crate) fn rows_entered(&self, batch: usize) -> u8 {
        self.ledger.get(batch).map_or(0, |entry| entry.loaded)
    }

    pub(crate) fn rows_quarantined(&self, batch: usize) -> u8 {
        self.ledger.get(batch).map_or(0, |entry| entry.quarantined)
    }

    pub(crate) fn rows(&self, batch: usize) -> u8 {
        self.rows.get(batch).copied().unwrap_or(0)
    }

    pub(crate) fn orphans(&self) -> &[Session] {
        &self.orphans
    }

    /// Whether what the session has received can be executed now: LOCK waits for its holder.
    pub(crate) fn may_execute(&self, session: &Session) -> bool {
        match session.pending {
            None => false,
            Some(Step::Lock) => !self.locked,
            Some(_) => true,
        }
    }

    /// Executes what the session has received.
    pub(crate) fn execute(&mut self, model: &Loading, session: &mut Session) -> Option<Answer> {
        if !self.may_execute(session) {
            return None;
        }
        match session.pending.take()? {
            Step::Begin => {}
            Step::Lock => {
                self.locked = true;
                session.locked = true;
            }
            Step::Look => {
                let there = self.snapshot(session).ledger & session.parts;
                if there != 0 {
                    return Some(Answer::There(there));
                }
            }
            Step::Copy => {
                self.snapshot(session);
                if model.bad & session.parts & !session.sifted != 0 {
                    return Some(Answer::BadRows);
                }
                session.copied = true;
            }
            Step::Enter => session.entered = true,
            Step::Commit => return Some(self.commit(model, session)),
        }
        Some(Answer::Done)
    }

    fn snapshot(&self, session: &mut Session) -> Snapshot {
        let there = (0..BATCHES).filter(|batch| self.entries(*batch) > 0);
        let now = Snapshot { ledger: there.fold(0, |all, batch| all | 1 << batch), at: self.commits };
        *session.snapshot.get_or_insert(now)
    }

    fn commit(&mut self, model: &Loading, session: &mut Session) -> Answer {
        if session.locked {
            self.locked = false;
        }
        // Both have read the ledger, and both write it: a cycle, unless one came wholly after the other.
        let overtaken = session.snapshot.is_some_and(|snapshot| snapshot.at != self.commits);
        if model.serializable && overtaken {
            session.end_transaction();
            return Answer::Conflict;
        }
        for batch in each(session.parts) {
            let bad = model.bad & (1 << batch) != 0;
            let quarantined = if bad { BAD } else { 0 };
            let (Some(rows), Some(entry)) = (self.rows.get_mut(batch), self.ledger.get_mut(batch)) else {
                continue;
            };
            if session.copied {
                *rows += SEALED - quarantined;
            }
            if session.entered {
                entry.entries += 1;
                entry.loaded += SEALED - quarantined;
                entry.quarantined += quarantined;
            }
        }
        if model.serializable {
            self.commits += 1;
        }
        session.end_transaction();
        Answer::Done
    }

    /// A session's client has gone. One that has nothing to do and nothing to undo is gone with it.
    pub(crate) fn leave(&mut self, session: Session) {
        if session.pending.is_some() || session.locked {
            self.orphans.push(session);
            self.orphans.sort_unstable();
        }
    }

    pub(crate) fn orphan_executes(&mut self, model: &Loading, number: usize) -> Option<()> {
        if number >= self.orphans.len() {
            return None;
        }
        let mut session = self.orphans.remove(number);
        // Nobody hears the answer.
        self.execute(model, &mut session)?;
        self.leave(session);
        Some(())
    }

    pub(crate) fn orphan_ends(&mut self, number: usize) -> Option<()> {
        if number >= self.orphans.len() {
            return None;
        }
        if self.orphans.remove(number).locked {
            self.locked = false;
        }
        Some(())
    }
}
