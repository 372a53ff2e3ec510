//! Records as they pass through the producer, for those who ask to see some. While nobody does, the stream pays one
//! relaxed load for each block of records. While somebody does, it never waits for them: what finds no room is counted
//! and not shown. Nothing here survives a restart, and nothing of it is logged: records hold data of customers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::lock::locked;
use shared::object_store::base64;
use tokio::sync::mpsc;

use crate::log::HitId;

/// Those who may tap a producer at once.
const TAPPERS: usize = 4;
/// Records that wait for one who taps. With [`RECORD_BYTES_MAX`] it bounds the memory a tap takes.
const WAITING: usize = 128;
/// Bytes of a record that are shown at most, whoever asks for more.
pub const RECORD_BYTES_MAX: u32 = 16 << 10;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// The log took its row, which is durable with the next commit.
    Row,
    /// The log knows its hit.
    Duplicate,
    /// A filter dropped it.
    Filtered,
    /// It cannot become a row.
    Rejected,
}

/// What somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Only records that became one of these; none: every record.
    #[serde(default)]
    pub only: Vec<Became>,
    /// Bytes to show of each record, [`RECORD_BYTES_MAX`] at most.
    pub record_bytes: u32,
}

/// A value that no column could hold as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    /// The column.
    pub column: String,
    /// What was done to it, in one word such as `cut`.
    pub how: String,
}

/// A record that passed. No `Debug`: it holds data of customers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapRecord {
    /// When the log took it.
    pub at: DateTime<Utc>,
    /// The connection it came over.
    pub connection: u8,
    /// What became of it.
    pub became: Became,
    /// `hitIdHigh` and `hitIdLow`, with a hyphen between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit: Option<String>,
    /// Its `receivedTimeGMT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<DateTime<Utc>>,
    /// The filter that dropped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The kind of the reason for a reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it is a reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was altered in its row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<Altered>,
    /// Bytes of the whole record.
    pub bytes: u64,
    /// Its beginning, as far as it was asked for, as its protections leave it; None if that is no UTF-8, or if fields are
    /// protected and it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The same in base64, if it is no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_base64: Option<String>,
}

/// What became of a record, for the hub, which may not have its bytes.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Fate<'r> {
    Row { hit: Option<HitId>, received: Option<DateTime<Utc>> },
    Duplicate { hit: Option<HitId>, received: Option<DateTime<Utc>> },
    Filtered { filter: &'r str, received: Option<DateTime<Utc>> },
    Rejected { code: &'r str, reason: &'r str },
}

impl Fate<'_> {
    fn became(&self) -> Became {
        match self {
            Self::Row { .. } => Became::Row,
            Self::Duplicate { .. } => Became::Duplicate,
            Self::Filtered { .. } => Became::Filtered,
            Self::Rejected { .. } => Became::Rejected,
        }
    }
}

/// The beginning of a record that passed, and what was altered in its row.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// None: nothing of it may be shown.
    head: Option<Vec<u8>>,
    bytes: u64,
    altered: Vec<Altered>,
}

impl Seen {
    /// Keeps so much of a record.
    #[must_use]
    pub fn new(record: &[u8], keep: usize, altered: Vec<Altered>) -> Self {
        let head = Some(record.get(..keep).unwrap_or(record).to_vec());
        Self { head, bytes: record.len() as u64, altered }
    }

    /// Keeps nothing of a record of so many bytes.
    #[must_use]
    pub fn hidden(bytes: u64, altered: Vec<Altered>) -> Self {
        Self { head: None, bytes, altered }
    }

    fn record(&self, wanted: &Wanted, connection: u8, fate: &Fate<'_>, at: DateTime<Utc>) -> TapRecord {
        let keep = wanted.record_bytes.min(RECORD_BYTES_MAX) as usize;
        let head = self.head.as_deref().map(|head| head.get(..keep).unwrap_or(head));
        let (mut record, mut record_base64) = (None, None);
        match head.map(|head| (head, std::str::from_utf8(head))) {
            Some((_, Ok(text))) => record = Some(text.to_owned()),
            // Cut within a character.
            Some((head, Err(error))) if error.error_len().is_none() && (head.len() as u64) < self.bytes => {
                let whole = head.get(..error.valid_up_to()).unwrap_or_default();
                record = Some(String::from_utf8_lossy(whole).into_owned());
            }
            Some((head, Err(_))) => record_base64 = Some(base64(head)),
            None => {}
        }
        let (mut filter, mut code, mut reason) = (None, None, None);
        let (hit, received) = match *fate {
            Fate::Row { hit, received } | Fate::Duplicate { hit, received } => (hit, received),
            Fate::Filtered { filter: name, received } => {
                filter = Some(name.to_owned());
                (None, received)
            }
            Fate::Rejected { code: kind, reason: why } => {
                (code, reason) = (Some(kind.to_owned()), Some(why.to_owned()));
                (None, None)
            }
        };
        TapRecord {
            at,
            connection,
            became: fate.became(),
            hit: hit.map(|HitId { high, low }| format!("{high}-{low}")),
            received,
            filter,
            code,
            reason,
            altered: if fate.became() == Became::Row { self.altered.clone() } else { Vec::new() },
            bytes: self.bytes,
            record,
            record_base64,
        }
    }
}

/// Where records are shown as they pass. Clones share it.
#[derive(Clone, Default)]
pub struct Tap(Arc<Hub>);

#[derive(Default)]
struct Hub {
    /// Whether anybody taps: all that the stream looks at while nobody does.
    open: AtomicBool,
    tappers: Mutex<Vec<Arc<Tapper>>>,
}

struct Tapper {
    wanted: Wanted,
    records: mpsc::Sender<TapRecord>,
    missed: AtomicU64,
}

impl Tapper {
    fn wants(&self, became: Became) -> bool {
        self.wanted.only.is_empty() || self.wanted.only.contains(&became)
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("tappers", &self.0.tappers().len()).finish()
    }
}

/// How much of the next records is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// So many records at most.
    pub records: usize,
    /// So many bytes of each at most.
    pub record_bytes: usize,
    only: Vec<Became>,
}

impl Room {
    /// Whether somebody with room wants records that became this.
    #[must_use]
    pub fn wants(&self, became: Became) -> bool {
        self.only.contains(&became)
    }
}

impl Tap {
    /// What to keep of the next block; None while nobody taps.
    #[must_use]
    #[inline]
    pub fn room(&self) -> Option<Room> {
        if self.0.open.load(Ordering::Relaxed) { Some(self.room_of_all()) } else { None }
    }

    #[cold]
    fn room_of_all(&self) -> Room {
        let tappers = self.0.tappers();
        let with_room: Vec<_> = tappers.iter().filter(|tapper| tapper.records.capacity() > 0).collect();
        let records = with_room.iter().map(|tapper| tapper.records.capacity()).max().unwrap_or(0);
        let bytes = with_room.iter().map(|tapper| tapper.wanted.record_bytes.min(RECORD_BYTES_MAX)).max();
        let mut only = vec![Became::Row, Became::Duplicate, Became::Filtered, Became::Rejected];
        only.retain(|became| with_room.iter().any(|tapper| tapper.wants(*became)));
        Room { records, record_bytes: bytes.unwrap_or(0) as usize, only }
    }

    /// Shows records of one connection, in their order. What was not kept, or finds no room, is counted as missed.
    pub fn show<'r>(
        &self,
        connection: u8,
        at: DateTime<Utc>,
        records: impl IntoIterator<Item = (Fate<'r>, Option<&'r Seen>)>,
    ) {
        let tappers = self.0.tappers();
        for (fate, seen) in records {
            for tapper in tappers.iter().filter(|tapper| tapper.wants(fate.became())) {
                // Made only if there is room for it.
                let sent = seen.and_then(|seen| {
                    let room = tapper.records.try_reserve().ok()?;
                    room.send(seen.record(&tapper.wanted, connection, &fate, at));
                    Some(())
                });
                if sent.is_none() {
                    tapper.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Begins to tap; None when as many do as may.
    #[must_use]
    pub fn open(&self, wanted: Wanted) -> Option<Tapping> {
        let mut tappers = self.0.tappers();
        if tappers.len() >= TAPPERS {
            return None;
        }
        let (records, receiver) = mpsc::channel(WAITING);
        let tapper = Arc::new(Tapper { wanted, records, missed: AtomicU64::new(0) });
        tappers.push(tapper.clone());
        self.0.open.store(true, Ordering::Relaxed);
        drop(tappers);
        Some(Tapping { tap: self.clone(), tapper, records: receiver })
    }
}

impl Hub {
    /// For a list that a panic leaves whole.
    fn tappers(&self) -> MutexGuard<'_, Vec<Arc<Tapper>>> {
        locked(&self.tappers)
    }
}

/// One who taps, until it is dropped.
pub struct Tapping {
    tap: Tap,
    tapper: Arc<Tapper>,
    records: mpsc::Receiver<TapRecord>,
}

impl Tapping {
    /// The next record that waits, if one does.
    pub fn take(&mut self) -> Option<TapRecord> {
        self.records.try_recv().ok()
    }

    /// How many records were not shown since the last call.
    pub fn missed(&self) -> u64 {
        self.tapper.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        let mut tappers = self.tap.0.tappers();
        tappers.retain(|tapper| !Arc::ptr_eq(tapper, &self.tapper));
        self.tap.0.open.store(!tappers.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(only: &[Became], record_bytes: u32) -> Wanted {
        Wanted { only: only.to_vec(), record_bytes }
    }

    fn row() -> Fate<'static> {
        Fate::Row { hit: Some(HitId { high: 7, low: 9 }), received: None }
    }

    const AT: DateTime<Utc> = DateTime::UNIX_EPOCH;

    #[test]
    fn nothing_is_kept_while_nobody_taps_and_nothing_more_after_the_last_one_has_gone() {
        let tap = Tap::default();
        assert_eq!(tap.room(), None);
        let (one, other) = (tap.open(wanted(&[], 10)).unwrap(), tap.open(wanted(&[], u32::MAX)).unwrap());
        let room = tap.room().unwrap();
        assert_eq!((room.records, room.record_bytes), (WAITING, RECORD_BYTES_MAX as usize));
        drop(other);
        assert_eq!(tap.room().unwrap().record_bytes, 10);
        drop(one);
        assert_eq!(tap.room(), None);
    }

    #[test]
    fn who_takes_nothing_misses_records_and_is_told_how_many() {
        let tap = Tap::default();
        let (mut slow, mut quick) = (tap.open(wanted(&[], 99)).unwrap(), tap.open(wanted(&[], 99)).unwrap());
        let seen = Seen::new(b"{}", 99, Vec::new());
        let many = WAITING as u64 + 50;
        let mut taken = 0;
        for _ in 0..many {
            tap.show(0, AT, [(row(), Some(&seen))]);
            taken += u64::from(quick.take().is_some());
        }
        assert_eq!((taken, quick.missed()), (many, 0));
        assert_eq!((slow.missed(), slow.missed()), (50, 0));
        drop(quick);
        assert!(!tap.room().unwrap().wants(Became::Row), "nothing is kept for who takes nothing");
        assert_eq!(std::iter::from_fn(|| slow.take()).count(), WAITING);
        tap.show(0, AT, [(row(), None)]);
        assert_eq!(slow.missed(), 1, "a record that was not kept");
    }

    #[test]
    fn each_gets_the_kinds_and_the_bytes_it_asked_for() {
        let tap = Tap::default();
        let mut rejects = tap.open(wanted(&[Became::Rejected], 4)).unwrap();
        let room = tap.room().unwrap();
        assert!(room.wants(Became::Rejected) && !room.wants(Became::Row));
        let mut all = tap.open(wanted(&[], 99)).unwrap();
        let altered = vec![Altered { column: "evar1".to_owned(), how: "cut".to_owned() }];
        let seen = Seen::new("{\"aé\"}".as_bytes(), 99, altered.clone());
        let reject = || Fate::Rejected { code: "not_json", reason: "not JSON: at 3" };
        tap.show(1, AT, [(row(), Some(&seen)), (reject(), Some(&seen))]);
        let rejected = rejects.take().unwrap();
        assert_eq!(rejected.code.as_deref(), Some("not_json"));
        // Four bytes end within the é.
        assert_eq!((rejected.record.as_deref(), rejected.bytes), (Some("{\"a"), 7));
        assert!(rejects.take().is_none() && rejected.altered.is_empty());
        let row = all.take().unwrap();
        assert_eq!((row.hit.as_deref(), row.connection, row.became), (Some("7-9"), 1, Became::Row));
        assert_eq!((row.record.as_deref(), row.altered), (Some("{\"aé\"}"), altered));
        assert!(all.take().unwrap().reason.unwrap().contains("at 3"));
    }

    #[test]
    fn of_a_record_that_must_not_be_shown_only_the_length_comes() {
        let tap = Tap::default();
        let mut all = tap.open(wanted(&[], 99)).unwrap();
        let fate = Fate::Rejected { code: "not_json", reason: "not JSON" };
        tap.show(0, AT, [(fate, Some(&Seen::hidden(7, Vec::new())))]);
        let record = all.take().unwrap();
        assert_eq!((record.record, record.record_base64, record.bytes), (None, None, 7));
    }

    #[test]
    fn bytes_that_are_no_text_come_in_base64() {
        let tap = Tap::default();
        let mut all = tap.open(wanted(&[], 99)).unwrap();
        let fate = Fate::Rejected { code: "not_utf8", reason: "not UTF-8 from byte 0" };
        tap.show(0, AT, [(fate, Some(&Seen::new(b"\xff{}", 99, Vec::new())))]);
        let record = all.take().unwrap();
        assert_eq!((record.record, record.record_base64.as_deref()), (None, Some("/3t9")));
    }

    #[test]
    fn only_a_few_may_tap_at_once() {
        let tap = Tap::default();
        let mut open: Vec<_> = (0..TAPPERS).map(|_| tap.open(wanted(&[], 1)).unwrap()).collect();
        assert!(tap.open(wanted(&[], 1)).is_none());
        open.pop();
        assert!(tap.open(wanted(&[], 1)).is_some());
    }
}
