//! Hits that come again, however late, are never lost, and never taken twice but where the log says that it could not
//! compare: random histories of a stream that is read over several connections, skips, goes back and sends again, by a
//! process that is killed in between. The stream knows what it has delivered and what of it the log keeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::FileFailurePersistence;
use state::log::{Gap, HitId, Log, Settings, Staged};
use support::number_from_env;

/// Seconds by which a hit may come later than one received after it.
const JITTER: u64 = 20;
/// Seconds.
const TOLERANCE: u64 = 60;
const DAY: u64 = 24 * 3_600;
/// Seconds after which Adobe has dropped a hit, whatever room there is.
const HELD: u64 = 6 * DAY;

/// Where a connection begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// The oldest hit that is held.
    Smallest,
    /// What has not come yet.
    Largest,
    /// So many hits before the place where it stopped reading.
    Back(usize),
}

#[derive(Debug, Clone)]
enum Operation {
    /// So many hits are received by Adobe, so many seconds apart.
    Happen(usize, u64),
    /// A connection reads so many hits.
    Read(u8, usize),
    Commit,
    /// The connection breaks, and begins again.
    Reconnect(u8, Reset),
    /// The process is killed; the next one reads with this many connections.
    Kill(u8, Reset),
    /// So many seconds pass by the clock.
    Pass(u64),
}

fn reset() -> impl Strategy<Value = Reset> {
    prop_oneof![
        3 => Just(Reset::Smallest),
        1 => Just(Reset::Largest),
        2 => (0_usize..10).prop_map(Reset::Back),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        10 => (1_usize..60, 0_u64..6).prop_map(|(hits, seconds)| O::Happen(hits, seconds)),
        2 => (1_usize..3, 100_u64..5_000).prop_map(|(hits, seconds)| O::Happen(hits, seconds)),
        1 => (1_usize..3, prop_oneof![Just(DAY), Just(8 * DAY)]).prop_map(|(hits, seconds)| O::Happen(hits, seconds)),
        20 => (0_u8..3, 1_usize..80).prop_map(|(connection, hits)| O::Read(connection, hits)),
        10 => Just(O::Commit),
        4 => (0_u8..3, reset()).prop_map(|(connection, reset)| O::Reconnect(connection, reset)),
        2 => (1_u8..4, reset()).prop_map(|(connections, reset)| O::Kill(connections, reset)),
        3 => (1_u64..30).prop_map(O::Pass),
    ]
}

fn settings(dir: &Path, connections: u8, dedup_hits: usize) -> Settings {
    Settings {
        cache: 8 << 20,
        dedup_window: Duration::from_secs(120),
        gap_tolerance: Duration::from_secs(TOLERANCE),
        connections,
        dedup_hits,
        ..support::settings(dir)
    }
}

/// A connection as the stream sees it.
#[derive(Debug, Clone, Copy)]
struct Reader {
    position: usize,
    /// Whether it has read anything in its session.
    has_read: bool,
    /// After hits were spread anew it has no place of its own where it stopped, until it has read up to here.
    free_to: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    None,
    /// This interval was skipped, first and last time in it.
    Skipped(u64, u64),
}

/// What the stream sent and what became of it.
struct World {
    log: Option<Log>,
    dir: tempfile::TempDir,
    /// Seconds at which each hit was received, in the order they are sent.
    hits: Vec<u64>,
    /// The time of the last of them without jitter.
    time: u64,
    /// Seconds by which the clock is ahead of the stream.
    ahead: u64,
    /// Hits held at most, by number.
    held: usize,
    readers: Vec<Reader>,
    /// Hits that stand in the log; those that are staged only; hits delivered and committed.
    accepted: HashSet<usize>,
    staged: HashSet<usize>,
    /// Behind the last hit that stands in the log, of those of each connection.
    committed: Vec<usize>,
    /// The wanted gaps by session.
    wanted: HashMap<u64, Wanted>,
    sessions: u64,
    open: Vec<u64>,
    random: fastrand::Rng,
    /// How many ids are remembered.
    dedup_hits: usize,
    /// Hits that were forgotten and taken again: staged, and committed.
    again: [u64; 2],
    /// What was seen: new ones, known ones, and those that were forgotten and taken again.
    seen: [u64; 3],
}

impl World {
    fn new(connections: u8, held: usize, seed: u64, dedup_hits: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            log: None,
            dir,
            hits: Vec::new(),
            time: 1_800_000_000,
            ahead: 60,
            held,
            readers: Vec::new(),
            accepted: HashSet::new(),
            staged: HashSet::new(),
            committed: Vec::new(),
            wanted: HashMap::new(),
            sessions: 0,
            open: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            dedup_hits,
            again: [0; 2],
            seen: [0; 3],
        };
        world.open(connections, dedup_hits, Reset::Largest, true);
        world
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::try_from(self.time + self.ahead).unwrap(), 0).unwrap()
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// Each connection has the hits of its visitors: every so-manieth.
    fn is_of(&self, hit: usize, connection: u8) -> bool {
        hit % self.readers.len() == usize::from(connection)
    }

    fn open(&mut self, connections: u8, dedup_hits: usize, reset: Reset, first: bool) {
        let now = self.now();
        let (log, _) = Log::open(settings(self.dir.path(), connections, dedup_hits), now).unwrap();
        self.log = Some(log);
        // With another number of connections hits are spread anew: each may have to go back to where the slowest was.
        let same = self.committed.len() == usize::from(connections);
        let slowest = self.committed.iter().min().copied().unwrap_or(0);
        if !same {
            self.committed = vec![slowest; connections.into()];
        }
        self.readers = (0..connections.into()).map(|at| self.reader(at, first || !same)).collect();
        self.open = vec![0; connections.into()];
        for connection in 0..connections {
            let stopped = self.committed[usize::from(connection)];
            self.begin(connection, reset, stopped);
        }
    }

    /// A connection of a new process.
    fn reader(&self, connection: usize, spread_anew: bool) -> Reader {
        let highest = self.accepted.iter().max().map_or(1, |hit| hit + 1);
        let free_to = if spread_anew {
            highest
        } else {
            self.readers.get(connection).map_or(highest, |reader| reader.free_to)
        };
        Reader { position: 0, has_read: false, free_to }
    }

    /// `stopped` is the first hit that this connection has not read, as the log knows it.
    fn begin(&mut self, connection: u8, reset: Reset, stopped: usize) {
        let held_since = self.time.saturating_sub(HELD);
        let by_time = self.hits.partition_point(|at| *at < held_since);
        let oldest = self.hits.len().saturating_sub(self.held).max(by_time);
        let position = match reset {
            Reset::Smallest => oldest,
            Reset::Largest => self.hits.len(),
            Reset::Back(hits) => stopped.saturating_sub(hits).max(oldest),
        };
        let skipped: Vec<_> = (stopped..position)
            .filter(|hit| self.is_of(*hit, connection))
            .map(|hit| self.hits[hit])
            .collect();
        let read_before = (0..stopped).filter(|hit| self.is_of(*hit, connection)).count();
        // Where it begins with something that was read before, nothing was missed.
        let first = (position..self.hits.len()).find(|hit| self.is_of(*hit, connection));
        let known = first.is_some_and(|first| self.accepted.contains(&first));
        let gap = match (skipped.iter().min(), skipped.iter().max()) {
            _ if self.readers[usize::from(connection)].free_to > 0 || read_before == 0 => Wanted::Any,
            (Some(first), Some(last)) => Wanted::Skipped(*first, *last),
            _ if known => Wanted::None,
            _ => Wanted::Any,
        };
        let reader = &mut self.readers[usize::from(connection)];
        (reader.position, reader.has_read) = (position, false);
        let now = self.now();
        self.log().session_started(connection, now).unwrap();
        // That makes what is staged durable.
        self.committed_now();
        self.wanted.insert(self.sessions, gap);
        self.open[usize::from(connection)] = self.sessions;
        self.sessions += 1;
    }

    fn committed_now(&mut self) {
        self.accepted.extend(self.staged.drain());
        self.again = [0, self.again[1] + self.again[0]];
        for reader in
            self.readers.iter_mut().filter(|reader| reader.has_read && reader.position >= reader.free_to)
        {
            reader.free_to = 0;
        }
        let connections = self.readers.len();
        for hit in &self.accepted {
            let stopped = &mut self.committed[hit % connections];
            *stopped = (*stopped).max(hit + 1);
        }
    }

    fn apply(&mut self, operation: &Operation) {
        let count = u8::try_from(self.readers.len()).unwrap();
        match *operation {
            Operation::Happen(hits, seconds) => {
                for _ in 0..hits {
                    self.time += seconds;
                    let jitter = self.random.u64(..=JITTER);
                    self.hits.push(self.time - jitter);
                }
            }
            Operation::Read(connection, hits) => self.read(connection % count, hits),
            Operation::Commit => {
                let now = self.now();
                self.log().commit(now).unwrap();
                self.committed_now();
            }
            Operation::Reconnect(connection, reset) => {
                let connection = connection % count;
                let now = self.now();
                self.log().session_ended(connection, "broken", now).unwrap();
                self.committed_now();
                let stopped = self.committed[usize::from(connection)];
                self.begin(connection, reset, stopped);
            }
            Operation::Kill(connections, reset) => {
                self.log = None;
                self.staged.clear();
                self.again[0] = 0;
                self.open(connections, self.dedup_hits, reset, false);
            }
            Operation::Pass(seconds) => self.ahead += seconds,
        }
    }

    fn read(&mut self, connection: u8, hits: usize) {
        let now = self.now();
        let mut left = hits;
        while left > 0 && self.readers[usize::from(connection)].position < self.hits.len() {
            let hit = self.readers[usize::from(connection)].position;
            self.readers[usize::from(connection)].position += 1;
            if !self.is_of(hit, connection) {
                continue;
            }
            left -= 1;
            self.readers[usize::from(connection)].has_read = true;
            let at = self.hits[hit];
            let id = HitId { high: 7, low: hit as u64 };
            let received = DateTime::from_timestamp(i64::try_from(at).unwrap(), 0);
            let staged = self.log().stage_row(connection, Some(id), received, b"row\n", now);
            let known = self.accepted.contains(&hit) || self.staged.contains(&hit);
            match staged {
                Staged::New if known => {
                    let horizon = self.log().reader().snapshot().unwrap().dedup.horizon;
                    assert!(received <= horizon, "hit {hit} of {at} is taken twice, and not told");
                    self.again[0] += 1;
                    self.seen[2] += 1;
                }
                Staged::New => {
                    self.staged.insert(hit);
                    self.seen[0] += 1;
                }
                Staged::Duplicate => {
                    assert!(known, "hit {hit} of {at} is taken for another");
                    self.seen[1] += 1;
                }
            }
        }
    }

    /// No gap that was none, and none left out.
    fn check_gaps(&mut self) {
        let sessions = self.log().reader().sessions(usize::MAX).unwrap();
        let live = &self.open;
        for session in sessions {
            let gap = session.gap.as_ref().map(|Gap { from, to, .. }| (from.timestamp(), to.timestamp()));
            match self.wanted[&session.session] {
                Wanted::Any => {}
                Wanted::None => assert_eq!(gap, None, "{session:?}"),
                Wanted::Skipped(first, last) => {
                    let (first, last) = (i64::try_from(first).unwrap(), i64::try_from(last).unwrap());
                    let jitter = i64::try_from(JITTER).unwrap();
                    let settled = session.first_received.is_some() && !live.contains(&session.session);
                    if settled && last - first > i64::try_from(TOLERANCE + 2 * JITTER).unwrap() {
                        let (from, to) =
                            gap.unwrap_or_else(|| panic!("no gap {first} to {last}: {session:?}"));
                        assert!(
                            from <= first + jitter && to >= last - jitter,
                            "{first} to {last}: {session:?}"
                        );
                    }
                }
            }
        }
        let totals = self.log().totals();
        assert!(totals.add_up(), "{totals:?}");
        let now = self.now();
        self.log().commit(now).unwrap();
        self.committed_now();
        let (batches, totals) = (self.log().reader().batches().unwrap(), self.log().totals());
        assert_eq!(self.accepted.len() as u64 + self.again[1], totals.rows, "{totals:?}");
        let uncompared: u64 = batches.iter().filter_map(|(_, batch)| batch.uncompared).sum();
        assert!(
            uncompared >= self.again[1],
            "{uncompared} rows are told of, {:?} were taken again",
            self.again
        );
    }
}

fn run(operations: &[Operation], connections: u8, held: usize, seed: u64, dedup_hits: usize) -> [u64; 3] {
    let mut world = World::new(connections, held, seed, dedup_hits);
    for operation in operations {
        world.apply(operation);
    }
    world.check_gaps();
    world.seen
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: u32::try_from(number_from_env("MODEL_CASES", 64)).unwrap(),
        max_shrink_iters: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/replay-regressions.txt"
        )))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_hit_is_lost_or_taken_twice_untold_however_late_it_comes_again(
        operations in prop::collection::vec(operation(), 20..160),
        connections in 1_u8..4, held in prop_oneof![50_usize..2_000, Just(100_000)], seed in any::<u64>(),
    ) {
        run(&operations, connections, held, seed, 1_000_000);
    }
}

#[test]
fn with_few_ids_remembered_no_hit_is_taken_twice_untold() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for seed in 0..number_from_env("MODEL_CASES", 64) {
        let operations = prop::collection::vec(operation(), 150).new_tree(&mut runner).unwrap().current();
        run(&operations, 1 + u8::try_from(seed % 2).unwrap(), 100_000, seed, 150);
    }
}

#[test]
fn a_gap_is_told_of_a_connection_that_another_was_far_ahead_of_when_it_first_received_something() {
    use Operation as O;
    let history = [
        O::Happen(64, 4),
        O::Reconnect(0, Reset::Largest),
        O::Happen(1, 8 * DAY),
        O::Happen(1, 0),
        O::Read(0, 1),
        O::Reconnect(0, Reset::Largest),
        // The other connection comes so late, and to hits of eight days ago.
        O::Read(1, 1),
        O::Commit,
        O::Reconnect(1, Reset::Largest),
        O::Happen(2, 0),
        O::Read(1, 1),
        O::Commit,
        O::Kill(2, Reset::Largest),
    ];
    run(&history, 2, 100_000, 0, 1_000_000);
}

#[test]
fn what_was_forgotten_before_the_first_session_was_settled_is_told_when_it_is_taken_again() {
    use Operation as O;
    let history = [
        O::Happen(180, 1),
        O::Read(0, 90),
        O::Commit,
        O::Read(0, 90),
        O::Commit,
        O::Reconnect(0, Reset::Smallest),
        O::Read(0, 90),
    ];
    run(&history, 1, 100_000, 0, 150);
}

#[test]
fn histories_bring_hits_of_every_kind() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = [0; 3];
    for seed in 0..20 {
        let operations = prop::collection::vec(operation(), 150).new_tree(&mut runner).unwrap().current();
        let more = run(&operations, 1 + u8::try_from(seed % 2).unwrap(), 100_000, seed, 1_000_000);
        seen = [seen[0] + more[0], seen[1] + more[1], seen[2] + more[2]];
    }
    println!("{seen:?} hits were new, known, and forgotten and taken again");
    assert!(seen.iter().all(|hits| *hits > 1_000), "{seen:?}");
}
