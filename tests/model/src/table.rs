//! The table decides what is new, as a small model: logs that remember some of what they took, copies of logs, batches,
//! two ingesters, a table that another tool filled, a ledger that is trimmed.
//!
//! It stands for the rule by which a load goes the plain or the staged way. What decides is the product's own code:
//! `stage_reasons` of `ingester/src/redshift/stage_reason.rs`, which asks `Compared::covers` of the seal.
//!
//! | here | in the code |
//! |---|---|
//! | [`log::Log`] | `state/src/log`: run, window with its horizon, the batch that fills, sealed ones |
//! | `Act::Copy` | a copy of the log that another producer opens; the first goes on, and so is every case in it in which it does not |
//! | [`warehouse`] | lock, look, COPY into the table or beside it, comparing, ledger row, COMMIT |
//! | `Act::Lose`, `Act::Cut` | COMMIT done and not answered; a session that outlives its client |
//! | `Act::Trim` | `ingester ledger trim`, of any batch, also one that will be loaded again |
//! | `Act::Tell` | `ingester ledger knows-from` |
//!
//! Hit `n` is received at time `n + 1`. Any of them may be delivered to any log at any time, as long as deliveries last.

pub mod log;
pub mod rule;
pub mod warehouse;

use stateright::{Model, Property};

use log::{Batch, HITS, Hits, Log};
use rule::Rule;
use warehouse::{Next, Session, Step, Warehouse};

/// A set of batches by their ids.
pub type Ids = u32;

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The product's rule, or one that must be found wanting.
    pub rule: Rule,
    /// Logs there are at the beginning.
    pub logs: usize,
    /// Ingesters.
    pub ingesters: usize,
    /// Different hits.
    pub hits: usize,
    /// What may happen how often.
    pub often: Often,
    /// Hits that another tool has put into the table.
    pub foreign: Hits,
    /// Hits come once and in order, and batches are loaded in order: what is usual.
    pub undisturbed: bool,
}

/// How often something may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Often {
    /// A hit reaches a log that does not know it.
    pub deliveries: u8,
    /// A window forgets hits.
    pub forgets: u8,
    /// A producer starts again on its log.
    pub restarts: u8,
    /// A log is copied, and the copy opened.
    pub copies: u8,
    /// A COMMIT is not answered, or a connection breaks before it.
    pub faults: u8,
    /// A batch is deleted from the ledger.
    pub trims: u8,
}

/// One ingester.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ingester {
    /// Batches that it calls loaded.
    book: Ids,
    doing: Option<Session>,
    /// Whether a COPY of several was given up for one that needs comparing.
    apart: bool,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    logs: Vec<Log>,
    /// In S3, by id.
    published: Vec<Batch>,
    ingesters: Vec<Ingester>,
    warehouse: Warehouse,
    /// Hits that some log has accepted.
    accepted: Hits,
    often: Often,
}

/// What happens next. Logs and ingesters have numbers, batches ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A hit reaches a log.
    Deliver(usize, usize),
    /// A window forgets what is of this time or earlier.
    Forget(usize, u8),
    /// A log's batch is sealed.
    Seal(usize),
    /// A log's oldest sealed batch is published.
    Publish(usize),
    /// A producer starts again on its log.
    Restart(usize),
    /// A log is copied, and the copy opened by another producer.
    Copy(usize),
    /// An ingester begins to load these batches.
    Start(usize, Ids),
    /// Its next statement is executed and answered.
    Step(usize),
    /// Its COMMIT is executed and not answered.
    Lose(usize),
    /// Its connection breaks, with COMMIT on the way.
    Cut(usize),
    /// A COMMIT that was on the way is executed.
    OrphanCommits,
    /// A session without client ends.
    OrphanEnds,
    /// A batch is deleted from the ledger.
    Trim(u8),
    /// A person says from when on the ledger knows everything.
    Tell,
}

impl Deciding {
    fn next(&self, state: &mut State, act: &Act) -> Option<()> {
        match *act {
            Act::Deliver(log, hit) => {
                state.logs.get_mut(log)?.accept(hit)?;
                state.often.deliveries = state.often.deliveries.checked_sub(1)?;
                state.accepted |= 1 << hit;
            }
            Act::Forget(log, time) => {
                state.often.forgets = state.often.forgets.checked_sub(1)?;
                state.logs.get_mut(log)?.forget(time);
            }
            Act::Seal(log) => state.logs.get_mut(log)?.seal(log)?,
            Act::Publish(log) => {
                let batch = state.logs.get_mut(log)?.publish()?;
                if let Err(at) = state.published.binary_search_by_key(&batch.id, |other| other.id) {
                    state.published.insert(at, batch);
                }
            }
            Act::Restart(log) => {
                state.often.restarts = state.often.restarts.checked_sub(1)?;
                state.logs.get_mut(log)?.open(log, self.rule);
            }
            Act::Copy(log) => {
                state.often.copies = state.often.copies.checked_sub(1)?;
                let copy = state.logs.get(log)?.copied(state.logs.len(), self.rule);
                state.logs.push(copy);
            }
            Act::Start(number, ids) => {
                state.ingesters.get_mut(number)?.doing = Some(Session::new(ids, self.rule));
            }
            Act::Step(number) => self.step(state, number)?,
            Act::Lose(number) => {
                state.often.faults = state.often.faults.checked_sub(1)?;
                let session = state.ingesters.get_mut(number)?.doing.take()?;
                state.warehouse.commit(self.rule, &session, &state.published);
            }
            Act::Cut(number) => {
                state.often.faults = state.often.faults.checked_sub(1)?;
                state.warehouse.orphan = state.ingesters.get_mut(number)?.doing.take();
            }
            Act::OrphanCommits => {
                let session = state.warehouse.orphan.take()?;
                state.warehouse.commit(self.rule, &session, &state.published);
            }
            Act::OrphanEnds => {
                let session = state.warehouse.orphan.take()?;
                state.warehouse.end(&session);
            }
            Act::Trim(id) => {
                state.often.trims = state.often.trims.checked_sub(1)?;
                state.warehouse.trim(self.rule, id)?;
            }
            Act::Tell => {
                state.warehouse.knows_from = Some(log::times(self.foreign).map_or(0, |(_, last)| last + 1));
            }
        }
        Some(())
    }

    fn step(&self, state: &mut State, number: usize) -> Option<()> {
        let ingester = state.ingesters.get_mut(number)?;
        let mut session = ingester.doing.take()?;
        match state.warehouse.execute(self.rule, &mut session, &state.published)? {
            Next::Goes => ingester.doing = Some(session),
            Next::Settled(ids) => ingester.book |= ids,
            Next::Isolated => ingester.apart = true,
        }
        Some(())
    }

    /// Batches in S3 that this ingester does not call loaded.
    fn open(&self, state: &State, ingester: &Ingester) -> Vec<u8> {
        let ids = state.published.iter().map(|batch| batch.id);
        let open = ids.filter(|id| ingester.book & (1 << id) == 0);
        if self.undisturbed { open.take(1).collect() } else { open.collect() }
    }

    fn starts(&self, state: &State, ingester: &Ingester) -> Vec<Ids> {
        let open = self.open(state, ingester);
        let mut sets: Vec<Ids> = open.iter().map(|id| 1 << id).collect();
        if !ingester.apart {
            let pairs =
                open.iter().enumerate().flat_map(|(n, a)| open.iter().skip(n + 1).map(move |b| (*a, *b)));
            sets.extend(pairs.map(|(a, b)| 1 << a | 1 << b));
        }
        sets
    }

    fn acts_of_logs(&self, state: &State, acts: &mut Vec<Act>) {
        for (number, log) in state.logs.iter().enumerate() {
            if state.often.deliveries > 0 {
                let wanted = |hit: &usize| !self.undisturbed || state.accepted >> hit == 0;
                let mut new = (0..self.hits).filter(|hit| !log.remembers(*hit)).filter(wanted);
                if self.undisturbed {
                    acts.extend(new.next().map(|hit| Act::Deliver(number, hit)));
                } else {
                    acts.extend(new.map(|hit| Act::Deliver(number, hit)));
                }
            }
            if state.often.forgets > 0 {
                acts.extend(log.may_forget().map(|time| Act::Forget(number, time)));
            }
            if log.may_seal() {
                acts.push(Act::Seal(number));
            }
            if log.may_publish() {
                acts.push(Act::Publish(number));
            }
            if state.often.restarts > 0 {
                acts.push(Act::Restart(number));
            }
            if state.often.copies > 0 && log.has_anything() {
                acts.push(Act::Copy(number));
            }
        }
    }

    fn is_done(&self, state: &State) -> bool {
        let all = state.published.iter().fold(0, |ids, batch| ids | 1 << batch.id);
        state.ingesters.iter().all(|ingester| ingester.book == all)
            && (0..HITS).all(|hit| state.accepted & (1 << hit) == 0 || state.warehouse.table.of(hit) > 0)
    }
}

impl Model for Deciding {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            logs: (0..self.logs).map(Log::new).collect(),
            published: Vec::new(),
            ingesters: vec![Ingester::default(); self.ingesters],
            warehouse: Warehouse::new(self.foreign),
            accepted: 0,
            often: self.often,
        }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        self.acts_of_logs(state, acts);
        for (number, ingester) in state.ingesters.iter().enumerate() {
            let Some(session) = &ingester.doing else {
                acts.extend(self.starts(state, ingester).into_iter().map(|ids| Act::Start(number, ids)));
                continue;
            };
            if state.warehouse.may_execute(self.rule, session) {
                acts.push(Act::Step(number));
            }
            if state.often.faults > 0 && session.comes_to(self.rule) == Some(Step::Commit) {
                acts.push(Act::Lose(number));
                if state.warehouse.orphan.is_none() {
                    acts.push(Act::Cut(number));
                }
            }
        }
        if state.warehouse.orphan.is_some() {
            acts.extend([Act::OrphanCommits, Act::OrphanEnds]);
        }
        if state.often.trims > 0 && state.warehouse.may_trim(self.rule) {
            acts.extend(state.warehouse.ledger.iter().map(|entry| Act::Trim(entry.batch)));
        }
        if state.warehouse.knows_from.is_none() {
            acts.push(Act::Tell);
        }
    }

    fn next_state(&self, state: &State, act: Act) -> Option<State> {
        let mut next = state.clone();
        self.next(&mut next, &act)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NONE_TWICE, |_, state: &State| {
                (0..HITS).all(|hit| state.warehouse.table.of(hit) <= 1)
            }),
            Property::always(NONE_LOST, |model: &Self, state: &State| {
                let mut acts = Vec::new();
                model.actions(state, &mut acts);
                !acts.is_empty() || model.is_done(state)
            }),
            Property::always(NUMBERS, |model: &Self, state: &State| {
                let Warehouse { table, ledger, trimmed, .. } = &state.warehouse;
                let rows =
                    |id| state.published.iter().find(|batch| batch.id == id).map(|batch| batch.rows.count());
                let loaded: u8 = ledger.iter().map(|entry| entry.loaded).sum();
                ledger.iter().all(|entry| Some(entry.loaded + entry.known) == rows(entry.batch))
                    && u32::from(table.count()) == model.foreign.count_ones() + u32::from(loaded + trimmed)
            }),
            Property::always(ONE_ENTRY, |_, state: &State| {
                state.warehouse.ledger.windows(2).all(|two| two[0].batch != two[1].batch)
            }),
            Property::sometimes("everything is loaded", |model: &Self, state: &State| {
                state.accepted != 0 && model.is_done(state)
            }),
        ];
        if self.undisturbed {
            properties.push(Property::always(PLAIN, |_, state: &State| {
                state.warehouse.ledger.iter().all(|entry| !entry.staged)
            }));
        }
        properties
    }
}

/// No row is loaded twice.
pub const NONE_TWICE: &str = "a hit is in the table at most once";
/// No accepted hit is lost.
pub const NONE_LOST: &str = "whatever happens, it ends with every accepted hit in the table";
/// Nothing vanishes.
pub const NUMBERS: &str = "loaded and known rows are those sealed, and the table has what the ledger says";
/// Nothing is entered twice.
pub const ONE_ENTRY: &str = "a batch is in the ledger at most once";
/// Nothing is compared that need not be.
pub const PLAIN: &str = "what an undisturbed producer sends is loaded the plain way";
