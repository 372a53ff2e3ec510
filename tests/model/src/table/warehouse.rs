//! Redshift's side: the table, the ledger with its mark, the lock, and the transaction that loads.

use super::Ids;
use super::log::{Batch, HITS, Hits, Rows};
use super::rule::{Rule, must_be_staged};

/// A statement of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `LOCK` of the table that nobody reads; waits for its holder.
    Lock,
    /// Which of the batches are in the ledger, and which runs loaded rows of their time?
    Look,
    /// `COPY`, into the table or into a temporary one.
    Copy,
    /// What the table has is deleted from the temporary one, the rest inserted.
    Compare,
    /// `COMMIT` of the rows with their ledger rows.
    Commit,
}

fn steps(rule: Rule) -> &'static [Step] {
    use Step::{Commit, Compare, Copy, Lock, Look};
    match rule {
        Rule::LookBeforeLock => &[Look, Lock, Copy, Compare, Commit],
        _ => &[Lock, Look, Copy, Compare, Commit],
    }
}

/// A load under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    parts: Ids,
    at: u8,
    locked: bool,
    /// Whether the look said that rows must be compared.
    staged: bool,
    /// The table as its snapshot has it.
    seen: Rows,
}

impl Session {
    pub(crate) fn new(parts: Ids, rule: Rule) -> Self {
        debug_assert!(!steps(rule).is_empty());
        Self { parts, at: 0, locked: false, staged: false, seen: Rows::default() }
    }

    /// The statement it comes to.
    pub(crate) fn comes_to(&self, rule: Rule) -> Option<Step> {
        steps(rule).get(usize::from(self.at)).copied()
    }

    fn batches<'a>(&self, published: &'a [Batch]) -> impl Iterator<Item = &'a Batch> {
        let parts = self.parts;
        published.iter().filter(move |batch| parts & (1 << batch.id) != 0)
    }
}

/// A ledger row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    pub(crate) batch: u8,
    pub(crate) run: u8,
    pub(crate) number: u8,
    pub(crate) uncompared: u8,
    pub(crate) first: u8,
    pub(crate) last: u8,
    pub(crate) loaded: u8,
    pub(crate) known: u8,
    pub(crate) staged: bool,
}

/// What becomes of a load after a statement.
pub(crate) enum Next {
    /// It goes on.
    Goes,
    /// These batches are loaded, now or before; it has ended.
    Settled(Ids),
    /// One of several must be compared; it has ended.
    Isolated,
}

/// What is committed, and who is left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warehouse {
    pub(crate) table: Rows,
    /// By batch.
    pub(crate) ledger: Vec<Entry>,
    /// The ledger speaks for all rows of this time or later.
    pub(crate) knows_from: Option<u8>,
    /// Rows that deleted ledger rows spoke for.
    pub(crate) trimmed: u8,
    /// A session whose client has gone, with COMMIT on the way.
    pub(crate) orphan: Option<Session>,
    locked: bool,
}

impl Warehouse {
    /// With a new ledger over what another tool loaded.
    pub(crate) fn new(foreign: Hits) -> Self {
        Self {
            table: Rows::each(foreign),
            ledger: Vec::new(),
            knows_from: (foreign == 0).then_some(0),
            trimmed: 0,
            orphan: None,
            locked: false,
        }
    }

    pub(crate) fn may_execute(&self, rule: Rule, session: &Session) -> bool {
        session.comes_to(rule) != Some(Step::Lock) || !self.locked
    }

    /// Executes the next statement of a load.
    pub(crate) fn execute(&mut self, rule: Rule, session: &mut Session, published: &[Batch]) -> Option<Next> {
        match session.comes_to(rule)? {
            Step::Lock if self.locked => return None,
            Step::Lock => (self.locked, session.locked) = (true, true),
            Step::Look => {
                if let Some(ended) = self.look(rule, session, published) {
                    self.end(session);
                    return Some(ended);
                }
            }
            Step::Copy | Step::Compare => {}
            Step::Commit => {
                self.commit(rule, session, published);
                return Some(Next::Settled(session.parts));
            }
        }
        session.at += 1;
        if !session.staged && session.comes_to(rule) == Some(Step::Compare) {
            session.at += 1;
        }
        Some(Next::Goes)
    }

    /// What the ledger says of these batches; `None`: they are loaded, one way or the other.
    fn look(&self, rule: Rule, session: &mut Session, published: &[Batch]) -> Option<Next> {
        session.seen = self.table;
        let there = self.ledger.iter().fold(0, |ids: Ids, entry| ids | 1 << entry.batch) & session.parts;
        if there != 0 {
            return Some(Next::Settled(there));
        }
        let parts: Vec<&Batch> = session.batches(published).collect();
        let staged = must_be_staged(rule, &parts, &self.ledger, self.knows_from);
        session.staged = staged.contains(&true);
        (parts.len() > 1 && session.staged).then_some(Next::Isolated)
    }

    /// Rows and ledger rows become visible together.
    pub(crate) fn commit(&mut self, rule: Rule, session: &Session, published: &[Batch]) {
        for batch in session.batches(published) {
            let Some((first, last)) = batch.rows.times() else { continue };
            let mut loaded = 0;
            for (hit, time) in (0..HITS).zip(1..) {
                let rows = batch.rows.of(hit);
                let compared = match rule {
                    Rule::EdgesLeftOut => first < time && time < last,
                    _ => true,
                };
                let new = match session.staged {
                    true if compared && session.seen.of(hit) > 0 => 0,
                    true => rows.min(1),
                    false => rows,
                };
                self.table.add(hit, new);
                loaded += new;
            }
            self.ledger.push(Entry {
                batch: batch.id,
                run: batch.run,
                number: batch.number,
                uncompared: batch.uncompared,
                first,
                last,
                loaded,
                known: batch.rows.count() - loaded,
                staged: session.staged,
            });
        }
        self.ledger.sort_unstable();
        self.end(session);
    }

    /// The session has ended.
    pub(crate) fn end(&mut self, session: &Session) {
        self.locked &= !session.locked;
    }

    pub(crate) fn may_trim(&self, rule: Rule) -> bool {
        !self.locked && (self.knows_from.is_some() || rule == Rule::TrimmedTooEarly)
    }

    /// Deletes the row of a batch; the mark moves beyond what it spoke for.
    pub(crate) fn trim(&mut self, rule: Rule, batch: u8) -> Option<()> {
        let at = self.ledger.iter().position(|entry| entry.batch == batch)?;
        let entry = self.ledger.remove(at);
        let beyond = entry.last + u8::from(rule != Rule::TrimmedTooLittle);
        self.knows_from = self.knows_from.map(|from| from.max(beyond));
        self.trimmed += entry.loaded;
        Some(())
    }
}
