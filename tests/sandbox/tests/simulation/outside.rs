//! What lies outside the services, in one place: the clock, the seed, the bucket, the warehouse, what goes wrong, and the
//! trace of all of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::lock::locked;
use shared::object_store::crc32;
use tokio::sync::Notify;

use crate::bucket::{Bucket, Write};
use crate::warehouse::Warehouse;

/// Shared by the services' ends of their connections, which all live on one thread.
#[derive(Debug, Clone)]
pub(crate) struct World(Arc<Mutex<Outside>>);

impl World {
    pub(crate) fn new(seed: u64, clock: &Clock) -> Self {
        let outside = Outside {
            clock: clock.clone(),
            random: fastrand::Rng::with_seed(seed),
            trace: Trace::default(),
            met: BTreeMap::new(),
            faulty: true,
            s3_away: false,
            redshift_away: false,
            later: Vec::new(),
            crash: Arc::default(),
            bucket: Bucket::default(),
            warehouse: Warehouse::default(),
            well: None,
            listings: Vec::new(),
            wrong: Vec::new(),
        };
        Self(Arc::new(Mutex::new(outside)))
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, Outside> {
        locked(&self.0)
    }

    /// Runs a step of a process; None if the process is killed within it.
    pub(crate) async fn unless_killed<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let crash = Arc::new(Notify::new());
        self.get().crash = crash.clone();
        tokio::select! {
            biased;
            () = crash.notified() => None,
            done = step => Some(done),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) clock: Clock,
    pub(crate) random: fastrand::Rng,
    pub(crate) trace: Trace,
    /// How often each kind of fault and each rare path was met.
    pub(crate) met: BTreeMap<&'static str, u64>,
    /// Whether single requests and statements go wrong.
    pub(crate) faulty: bool,
    /// Whether nobody reaches S3, and Redshift.
    pub(crate) s3_away: bool,
    pub(crate) redshift_away: bool,
    /// What happens later, although its sender has heard of a failure.
    pub(crate) later: Vec<(Steady, Later)>,
    crash: Arc<Notify>,
    pub(crate) bucket: Bucket,
    pub(crate) warehouse: Warehouse,
    /// Since when nothing goes wrong.
    pub(crate) well: Option<Steady>,
    /// Listings of the ingester that nobody has judged yet: when, and of what.
    pub(crate) listings: Vec<(Steady, String)>,
    /// Promises that were seen broken.
    pub(crate) wrong: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Later {
    /// A request to S3 is carried out.
    Write(Write),
    /// A session whose client has gone ends, by COMMIT or by ROLLBACK.
    SessionEnds { pid: u32, commits: bool },
}

/// What becomes of one request or statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// Answered with this number of the neighbour's kinds of refusal.
    Refused(u8),
    LostBefore,
    LostAfter,
    /// Lost to the sender, and carried out later.
    Held,
    /// The process that sent it is killed before, or after it had its effect.
    KilledBefore,
    KilledAfter,
}

impl Outside {
    /// Draws what becomes of the next request. What decides most goes wrong most often.
    pub(crate) fn fate(&mut self, decides: bool) -> Fate {
        if !self.faulty {
            return Fate::Fine;
        }
        match self.random.u32(0..if decides { 200 } else { 1_000 }) {
            0..8 => Fate::Refused(self.random.u8(0..4)),
            8..13 => Fate::LostBefore,
            13..20 => Fate::LostAfter,
            20..24 => Fate::Held,
            24..26 => Fate::KilledBefore,
            26..28 => Fate::KilledAfter,
            _ => Fate::Fine,
        }
    }

    pub(crate) fn met(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    /// Ends the process whose step is running.
    pub(crate) fn kill(&mut self) {
        self.crash.notify_one();
    }

    pub(crate) fn happens_later(&mut self, what: Later) {
        let wait = Duration::from_secs(self.random.u64(1..1_800));
        self.later.push((self.clock.steady() + wait, what));
    }

    /// Carries out what is due by now.
    pub(crate) fn catch_up(&mut self) {
        let now = self.clock.steady();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Steady, Later)> = due;
        for (_, what) in due {
            match what {
                Later::Write(write) => {
                    self.note(format_args!("S3 late {write}"));
                    let now = self.clock.wall();
                    self.bucket.carry_out(write, now);
                }
                Later::SessionEnds { pid, commits } => {
                    self.note(format_args!("session {pid} ends, commits: {commits}"));
                    let ended = self.warehouse.end(pid, commits);
                    self.wrong.extend(ended.err());
                }
            }
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, what: impl std::fmt::Display) {
        let at = self.clock.steady().millis();
        self.trace.add(at, &what.to_string());
    }

    /// A few digits that stand for a statement or a body: equal for equal ones, whatever their ids are.
    pub(crate) fn digest(&mut self, text: &str) -> String {
        let named = without_hashes(&self.trace.named(text));
        crc32(named.as_bytes())
    }

    /// Adds what the ledger says of each batch.
    pub(crate) fn note_ledger(&mut self) {
        let entries: Vec<String> = self.warehouse.ledger.values().map(|entry| format!("{entry:?}")).collect();
        let named = entries.iter().map(|entry| without_hashes(&self.trace.named(entry)));
        let mut named: Vec<String> = named.collect();
        named.sort();
        named.into_iter().for_each(|entry| self.note(format_args!("in the ledger: {entry}")));
    }

    /// Notes that a promise was seen broken.
    pub(crate) fn breaks(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("BROKEN {what}"));
        self.wrong.push(what);
    }
}

/// What happened, in an order that depends on the seed alone. Ids of batches are drawn anew in each run: they stand here by
/// the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) lines: Vec<String>,
    names: HashMap<String, usize>,
    began: Option<i64>,
}

/// Characters of an id, and of a hash at least.
const ID: usize = 36;
const HASH: usize = 12;

impl Trace {
    fn add(&mut self, at: i64, what: &str) {
        let began = *self.began.get_or_insert(at);
        let line = format!("{:>9.3} {}", (at - began) as f64 / 1_000.0, self.named(what));
        self.lines.push(line);
    }

    fn named(&mut self, what: &str) -> String {
        let mut named = String::with_capacity(what.len());
        let mut rest = what;
        while let Some(c) = rest.chars().next() {
            if let Some(id) = rest.get(..ID).filter(|text| is_id(text)) {
                let next = self.names.len();
                let name = *self.names.entry(id.to_owned()).or_insert(next);
                // The folder of the day that the id was drawn on.
                if named.ends_with('/') {
                    named.truncate(named.len().saturating_sub(9));
                }
                named += &format!("#{name}");
                rest = &rest[ID..];
            } else {
                named.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        named
    }
}

/// Without words of many hexadecimal digits: what is made of an id is another one in each run.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &&str| word.len() >= HASH && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_end = |c: char| !c.is_ascii_alphanumeric();
    text.split_inclusive(is_end)
        .map(|word| if is_hash(&word.trim_end_matches(is_end)) { "#" } else { word })
        .collect()
}

fn is_id(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}
