//! Loading as a small model, whose every state is looked at: ingesters and their sessions in Redshift, connections
//! that break at any statement, sessions that outlive their clients, and processes that are killed.
//!
//! It stands for `ingester/src/redshift/transaction.rs`, function `transaction`, and for what `batch_loader.rs` does with its
//! outcome. A scenario (`tests/sandbox/tests/scenario/many.rs`) compares the statements of the real ingester with
//! [`Order::steps`], so that the two do not part.
//!
//! | here | in the code |
//! |---|---|
//! | [`Step`] | the `run(…)` lines of `transaction`, in their order; counting belongs to the COPY |
//! | `Act::Start` | `BatchLoader::attempt`: one batch, or several that share a COPY |
//! | `Act::Execute` | what Redshift does with a statement that has arrived |
//! | `Act::Answer` | what `transaction` does with the answer: the next statement, or the end of the attempt |
//! | `Act::Cut`, `Act::Kill` | `SqlFailure::Lost`, in whatever way; SIGKILL |
//! | `Act::Orphan…` | a session whose client has gone: it goes on with what it has received, and ends |
//! | `Act::Note` | `LoadStore::note(Loaded)`, durable before the next attempt |
//! | `Ingester::sifted` | `quarantine::load_good_rows`: the next COPY names files without the bad rows |
//!
//! Isolation is Redshift's: a transaction reads what was committed before its first statement that reads, LOCK is
//! none of them, and nobody checks that a batch is entered once. Which batches need comparing with the table, and what
//! that comparing is good for, is the model in [`table`].

mod server;
pub mod table;

use server::{Answer, Session};
use stateright::{Model, Property};

/// Batches there are at most.
pub const BATCHES: usize = 2;
/// Rows of a batch.
const SEALED: u8 = 2;
/// Of these, in a batch that has bad ones.
const BAD: u8 = 1;

/// A set of batches, one bit each.
pub type Parts = u8;

fn each(parts: Parts) -> impl Iterator<Item = usize> {
    (0..BATCHES).filter(move |batch| parts & (1 << batch) != 0)
}

/// A statement of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `BEGIN`.
    Begin,
    /// `LOCK` of the table that nobody reads; waits for its holder.
    Lock,
    /// Which of the batches are in the ledger?
    Look,
    /// `COPY`, and whether it found as many rows as it should.
    Copy,
    /// `INSERT` of the ledger rows.
    Enter,
    /// `COMMIT`.
    Commit,
}

impl Step {
    /// The first word of its SQL.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN",
            Self::Lock => "LOCK",
            Self::Look => "SELECT",
            Self::Copy => "COPY",
            Self::Enter => "INSERT",
            Self::Commit => "COMMIT",
        }
    }
}

/// The statements' order: the product's, and those that must be found wanting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// As the product has it.
    Product,
    /// Without LOCK.
    NoLock,
    /// The look comes before LOCK, and so does the snapshot.
    LookBeforeLock,
    /// Whatever failed is done again without a look.
    NoLook,
    /// The ledger row follows in a transaction of its own.
    LedgerApart,
    /// The product's, but a COMMIT without an answer is taken for done.
    CommitTakenForDone,
}

impl Order {
    /// The statements.
    #[must_use]
    pub fn steps(self) -> &'static [Step] {
        use Step::{Begin, Commit, Copy, Enter, Lock, Look};
        match self {
            Self::Product | Self::CommitTakenForDone => &[Begin, Lock, Look, Copy, Enter, Commit],
            Self::NoLock => &[Begin, Look, Copy, Enter, Commit],
            Self::LookBeforeLock => &[Begin, Look, Lock, Copy, Enter, Commit],
            Self::NoLook => &[Begin, Lock, Copy, Enter, Commit],
            Self::LedgerApart => &[Begin, Lock, Look, Copy, Commit, Begin, Enter, Commit],
        }
    }
}

/// What is checked.
#[derive(Debug, Clone)]
pub struct Loading {
    /// The statements' order.
    pub order: Order,
    /// Whether the database is SERIALIZABLE; otherwise SNAPSHOT.
    pub serializable: bool,
    /// How many ingesters there are.
    pub ingesters: usize,
    /// The batches.
    pub batches: Parts,
    /// Those with bad rows, which no COPY takes.
    pub bad: Parts,
    /// How many connections break and processes are killed.
    pub faults: u8,
}

/// One ingester.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ingester {
    /// Batches its bookkeeping calls loaded: durable.
    book: Parts,
    doing: Doing,
    /// Batches whose bad rows it has taken out; forgotten when it is killed, and done again.
    sifted: Parts,
    /// Whether a COPY of several met bad rows, so that each goes alone.
    apart: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
enum Doing {
    #[default]
    Nothing,
    /// The statement with this number was sent.
    Attempt { at: usize, session: Session, answer: Option<Answer> },
    /// These are settled, and it is about to note that.
    Settled(Parts),
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    ingesters: Vec<Ingester>,
    server: server::Server,
    faults: u8,
}

/// What happens next. Ingesters and orphans have numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// An ingester begins to load these batches.
    Start(usize, Parts),
    /// The statement an ingester sent is executed.
    Execute(usize),
    /// The answer reaches it.
    Answer(usize),
    /// It notes what is settled.
    Note(usize),
    /// Its connection breaks; the session does not know yet.
    Cut(usize),
    /// It is killed, and starts again.
    Kill(usize),
    /// A session without client executes what it had received.
    OrphanExecutes(usize),
    /// A session without client ends; an open transaction rolls back.
    OrphanEnds(usize),
}

impl Loading {
    fn awaits(&self, state: &State, number: usize) -> Option<Parts> {
        let ingester = state.ingesters.get(number)?;
        matches!(ingester.doing, Doing::Nothing).then_some(self.batches & !ingester.book)
    }

    fn next(&self, state: &mut State, act: &Act) -> Option<()> {
        match *act {
            Act::Start(number, parts) => {
                let ingester = state.ingesters.get_mut(number)?;
                let first = *self.order.steps().first()?;
                let session = Session::new(parts, ingester.sifted & parts, first);
                ingester.doing = Doing::Attempt { at: 0, session, answer: None };
            }
            Act::Execute(number) => {
                let Doing::Attempt { session, answer, .. } = &mut state.ingesters.get_mut(number)?.doing
                else {
                    return None;
                };
                *answer = Some(state.server.execute(self, session)?);
            }
            Act::Answer(number) => self.answered(state, number)?,
            Act::Note(number) => {
                let ingester = state.ingesters.get_mut(number)?;
                let Doing::Settled(parts) = ingester.doing else { return None };
                ingester.book |= parts;
                ingester.doing = Doing::Nothing;
            }
            Act::Cut(number) => {
                state.faults = state.faults.checked_sub(1)?;
                let ingester = state.ingesters.get_mut(number)?;
                let Doing::Attempt { at, session, .. } = std::mem::take(&mut ingester.doing) else {
                    return None;
                };
                if self.order == Order::CommitTakenForDone
                    && self.order.steps().get(at) == Some(&Step::Commit)
                {
                    ingester.doing = Doing::Settled(session.parts());
                }
                state.server.leave(session);
            }
            Act::Kill(number) => {
                state.faults = state.faults.checked_sub(1)?;
                let ingester = state.ingesters.get_mut(number)?;
                let book = ingester.book;
                let killed = std::mem::replace(ingester, Ingester { book, ..Ingester::default() });
                if let Doing::Attempt { session, .. } = killed.doing {
                    state.server.leave(session);
                }
            }
            Act::OrphanExecutes(number) => state.server.orphan_executes(self, number)?,
            Act::OrphanEnds(number) => state.server.orphan_ends(number)?,
        }
        Some(())
    }

    /// What `transaction`, `load` and the loader make of an answer.
    fn answered(&self, state: &mut State, number: usize) -> Option<()> {
        let ingester = state.ingesters.get_mut(number)?;
        let Doing::Attempt { at, mut session, answer } = std::mem::take(&mut ingester.doing) else {
            return None;
        };
        match answer? {
            Answer::Done => match self.order.steps().get(at + 1) {
                Some(step) => {
                    session.send(*step);
                    ingester.doing = Doing::Attempt { at: at + 1, session, answer: None };
                }
                None => ingester.doing = Doing::Settled(session.parts()),
            },
            // ROLLBACK is sent; how soon it arrives is as open as the end of any session.
            Answer::There(there) => {
                ingester.doing = Doing::Settled(there);
                state.server.leave(session);
            }
            Answer::BadRows => {
                let parts = session.parts();
                if parts.count_ones() > 1 {
                    ingester.apart = true;
                } else {
                    ingester.sifted |= parts;
                }
                state.server.leave(session);
            }
            // Rolled back; the loader tries again.
            Answer::Conflict => {}
        }
        Some(())
    }

    fn is_loaded(&self, state: &State) -> bool {
        state.ingesters.iter().all(|ingester| ingester.book == self.batches)
            && each(self.batches).all(|batch| state.server.entries(batch) == 1)
    }
}

impl Model for Loading {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let ingesters = vec![Ingester::default(); self.ingesters];
        vec![State { ingesters, server: server::Server::default(), faults: self.faults }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        for (number, ingester) in state.ingesters.iter().enumerate() {
            match &ingester.doing {
                Doing::Nothing => {
                    let open = self.awaits(state, number).unwrap_or(0);
                    let sets = (1..=open).filter(|parts| parts & !open == 0);
                    let fit = sets.filter(|parts| !ingester.apart || parts.count_ones() == 1);
                    acts.extend(fit.map(|parts| Act::Start(number, parts)));
                }
                Doing::Attempt { session, answer: None, .. } if state.server.may_execute(session) => {
                    acts.push(Act::Execute(number));
                }
                Doing::Attempt { answer: None, .. } => {}
                Doing::Attempt { answer: Some(_), .. } => acts.push(Act::Answer(number)),
                Doing::Settled(_) => acts.push(Act::Note(number)),
            }
            if state.faults > 0 && ingester.doing != Doing::Nothing {
                acts.push(Act::Kill(number));
                if matches!(ingester.doing, Doing::Attempt { .. }) {
                    acts.push(Act::Cut(number));
                }
            }
        }
        for (number, orphan) in state.server.orphans().iter().enumerate() {
            if state.server.may_execute(orphan) {
                acts.push(Act::OrphanExecutes(number));
            }
            acts.push(Act::OrphanEnds(number));
        }
    }

    fn next_state(&self, state: &State, act: Act) -> Option<State> {
        let mut next = state.clone();
        self.next(&mut next, &act)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXACTLY_ONCE, |_, state: &State| {
                (0..BATCHES).all(|batch| {
                    state.server.entries(batch) <= 1
                        && state.server.rows(batch) == state.server.rows_entered(batch)
                })
            }),
            Property::always(ADD_UP, |_, state: &State| {
                (0..BATCHES).all(|batch| {
                    let (entries, entered) = (state.server.entries(batch), state.server.rows_entered(batch));
                    entered + state.server.rows_quarantined(batch) == entries * SEALED
                })
            }),
            Property::always(BOOK, |_, state: &State| {
                let books = state.ingesters.iter().fold(0, |all, ingester| all | ingester.book);
                each(books).all(|batch| state.server.entries(batch) > 0)
            }),
            // No act leads back to an earlier state, so every run comes to rest; this says where.
            Property::always(AT_REST, |model: &Self, state: &State| {
                let mut acts = Vec::new();
                model.actions(state, &mut acts);
                !acts.is_empty() || model.is_loaded(state)
            }),
            Property::sometimes("everything is loaded", Self::is_loaded),
            Property::sometimes("a loader waits while an orphan is about to commit", |_, state: &State| {
                let waits = |ingester: &Ingester| {
                    matches!(&ingester.doing, Doing::Attempt { session, .. }
                        if session.pending() == Some(Step::Lock) && !state.server.may_execute(session))
                };
                state.ingesters.iter().any(waits)
                    && state
                        .server
                        .orphans()
                        .iter()
                        .any(|orphan| orphan.holds_lock() && orphan.pending() == Some(Step::Commit))
            }),
            Property::sometimes("a look finds what was loaded before", |_, state: &State| {
                state.ingesters.iter().any(|ingester| {
                    matches!(ingester.doing, Doing::Attempt { answer: Some(Answer::There(1..)), .. })
                })
            }),
        ]
    }
}

/// The property that matters.
pub const EXACTLY_ONCE: &str =
    "a batch's rows are in the table exactly as often as its ledger row says, and that is at most once";
/// Quarantine.
pub const ADD_UP: &str = "loaded and quarantined rows are the rows sealed";
/// Nothing is forgotten.
pub const BOOK: &str = "what a bookkeeping calls loaded is in the ledger";
/// Nothing hangs.
pub const AT_REST: &str = "whatever happens, it ends with everything loaded";
