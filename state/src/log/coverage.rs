//! Finds the gaps: where the reading of the stream stopped and went on, by the `receivedTimeGMT` of the hits. What is found
//! drops no hit. The wall clock has no part in it: a time in which the producer was away is no time of the stream.
//!
//! Each connection has its own last time, since Adobe spreads hits over connections by visitor. The front is what the
//! slowest connection has received. A session is *settled* when it is known whether it went on where its connection had
//! stopped; until then its hits do not move that last time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A time of the stream: milliseconds since 1970.
pub(super) type StreamTime = i64;

pub(super) fn time(millis: StreamTime) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// Hits that settle a session: a connection that goes on where it stopped shows that with the first of them.
const SETTLED_BY: u32 = 256;
/// Milliseconds after its first hit that settle a session with fewer hits.
const SETTLED_AFTER: i64 = 10_000;

/// After so many hits from beyond a gap an older one proves nothing: hits come out of order.
const STRAYS_BEHIND: u32 = 16;
const A_DAY: StreamTime = 86_400_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whose {
    /// Its own, or of those that had its hits before hits were last spread anew.
    #[default]
    #[serde(alias = "slowest")]
    Own,
    /// Another's. It never received anything and begins where another did: what it misses before is no gap.
    Others,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// The highest time of its settled sessions.
    last: Option<StreamTime>,
    #[serde(default)]
    whose: Whose,
    /// The highest time of any connection when their number last changed. A known hit up to then may be another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spread: Option<StreamTime>,
    settled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    /// When the first hit came, in milliseconds of the steady clock of this process.
    at: i64,
    lowest: StreamTime,
    highest: StreamTime,
    hits: u32,
    /// How many of its hits lie beyond a gap, should there be one.
    #[serde(default)]
    beyond: u32,
    /// Its hits that were new: meeting them again proves nothing. Not kept, since a restart settles the session.
    #[serde(skip)]
    new: Vec<u128>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) at: StreamTime,
    pub(super) id: Option<u128>,
    /// Whether it was taken for new.
    pub(super) new: bool,
}

/// What a hit proves about where its session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The session began at this hit, or earlier.
    Time,
    /// The connection had received this hit before: it went on where it had stopped, or earlier.
    Overlap,
    /// Nothing: it is a stray copy, or has a time of nowhere.
    Nothing,
}

/// A gap: from the last time before to the first after. It is longer than is tolerated.
pub(super) type Missed = (StreamTime, StreamTime);

/// That a session is settled, and what was missed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled(pub(super) Option<Missed>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Coverage(Vec<Reading>);

impl Coverage {
    /// The coverage of an older log, which did not keep it: every connection goes on from `last`.
    pub(super) fn up_to(last: StreamTime) -> Self {
        Self(vec![Reading { last: Some(last), settled: true, ..Reading::default() }])
    }

    /// Sets the number of connections. If it changes, each goes on where the slowest had stopped.
    pub(super) fn resize(&mut self, connections: usize) {
        if self.0.len() != connections {
            let last = self.front();
            let spread = self.0.iter().flat_map(|reading| [reading.last, reading.spread]).flatten().max();
            self.0 = vec![Reading { last, spread, ..Reading::default() }; connections];
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.0.len()
    }

    /// What the slowest connection has received.
    pub(super) fn front(&self) -> Option<StreamTime> {
        self.0.iter().filter_map(|reading| reading.last).min()
    }

    /// A session begins on this connection. One that never had any begins where the others are.
    pub(super) fn begin(&mut self, connection: u8) {
        let front = self.front();
        if let Some(reading) = self.0.get_mut(usize::from(connection)) {
            let whose = if reading.last.is_none() { Whose::Others } else { reading.whose };
            let (last, spread) = (reading.last.or(front), reading.spread);
            *reading = Reading { last, whose, spread, ..Reading::default() };
        }
    }

    /// A connection brings a hit, which may settle its session. A hole longer than `gap` milliseconds is a gap.
    pub(super) fn see(&mut self, connection: u8, hit: Sight, now: i64, gap: i64) -> Option<Settled> {
        let alone = self.0.len() == 1;
        let reading = self.0.get_mut(usize::from(connection))?;
        if reading.settled {
            reading.last = reading.last.max(Some(hit.at));
            return None;
        }
        let mut begun = reading.begun.take().unwrap_or_else(|| Begun::by(hit.at, now));
        begun.highest = begun.highest.max(hit.at);
        begun.hits += 1;
        match reading.proof(&begun, hit, alone) {
            Proof::Overlap => {
                (reading.last, reading.settled) = (reading.last.max(Some(begun.highest)), true);
                return Some(Settled(None));
            }
            Proof::Time => begun.lowest = begun.lowest.min(hit.at),
            Proof::Nothing => {}
        }
        begun.beyond += u32::from(reading.last.is_some_and(|last| hit.at > last.saturating_add(gap)));
        begun.new.extend(hit.id.filter(|_| hit.new));
        let enough = begun.hits >= SETTLED_BY;
        reading.begun = Some(begun);
        enough.then(|| self.settle(connection, gap))
    }

    /// When the first of the sessions that are not settled is to be.
    pub(super) fn next_settled(&self) -> Option<i64> {
        self.0.iter().filter_map(|reading| Some(reading.begun.as_ref()?.at + SETTLED_AFTER)).min()
    }

    /// Whether a session of this connection has brought hits and is not settled; with `now`, only if its time has come.
    pub(super) fn is_due(&self, connection: u8, now: Option<i64>) -> bool {
        let begun = self.0.get(usize::from(connection)).and_then(|reading| reading.begun.as_ref());
        begun.is_some_and(|begun| now.is_none_or(|now| now >= begun.at + SETTLED_AFTER))
    }

    pub(super) fn settle(&mut self, connection: u8, gap: i64) -> Settled {
        let reading = self.0.get_mut(usize::from(connection));
        let Some((lowest, missed)) = reading.and_then(|reading| reading.settle(gap)) else {
            return Settled(None);
        };
        // The front goes no further before the others have received something too.
        for other in self.0.iter_mut().filter(|other| other.last.is_none()) {
            (other.last, other.whose) = (Some(lowest), Whose::Others);
        }
        Settled(missed)
    }
}

impl Begun {
    fn by(at: StreamTime, now: i64) -> Self {
        Self { at: now, lowest: at, highest: at, hits: 0, beyond: 0, new: Vec::new() }
    }
}

impl Reading {
    /// | the hit is | it proves |
    /// |---|---|
    /// | older than any stream, or from before the gap behind many from beyond it | nothing |
    /// | known from before this session, not after the last time, and surely of this connection | overlap |
    /// | any other | its time |
    fn proof(&self, begun: &Begun, hit: Sight, alone: bool) -> Proof {
        let back = self.last.is_some_and(|last| hit.at <= last);
        let late = back && begun.beyond >= STRAYS_BEHIND;
        let from_nowhere = hit.at < begun.lowest.saturating_sub(A_DAY);
        // Of several connections, now or formerly, another one may have received it.
        let own = alone && self.whose == Whose::Own && self.spread.is_none_or(|spread| hit.at > spread);
        let met_before = !hit.new && hit.id.is_some_and(|id| !begun.new.contains(&id));
        match (late || from_nowhere, back && own && met_before) {
            (true, _) => Proof::Nothing,
            (false, true) => Proof::Overlap,
            (false, false) => Proof::Time,
        }
    }

    /// The lowest time of the session, and the gap before it.
    fn settle(&mut self, gap: i64) -> Option<(StreamTime, Option<Missed>)> {
        let begun = self.begun.take()?;
        let (before, lowest) = (self.last, begun.lowest);
        let others = std::mem::take(&mut self.whose) == Whose::Others;
        // It received nothing of what another did, which may be far ahead.
        self.last = before.filter(|_| !others).max(Some(begun.highest));
        self.settled = true;
        let missed = before.filter(|before| !others && lowest - before > gap).map(|before| (before, lowest));
        Some((lowest, missed))
    }
}
