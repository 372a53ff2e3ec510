//! What the stand-in streams, as a pure function of a plan and an index: nothing is stored, any line can be
//! written again, and the same code says afterwards what must have arrived.
//!
//! An index stands for one distinct hit. Its lines are, in this order: the hit, sometimes an exact re-send of an
//! earlier hit, sometimes a line that is no record, sometimes an empty line.

mod events;
mod hit;
mod junk;
mod mix;
#[cfg(test)]
mod tests;
mod values;

use std::ops::{AddAssign, Range};

pub(crate) use mix::{For, Rng, draw, mix};

use values::Value;

/// How far back a duplicate reaches at most: more than a client holds in flight, less than any sensible window.
const DUPLICATE_REACH: u64 = 2_000;

/// How many visitors there are; the stream is spread over connections by visitor.
const VISITORS: u64 = 100_000;

/// What is streamed. Two equal plans give equal streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that looks random.
    pub seed: u64,
    /// Distinct hits, index `0..hits`. After the last one the stream stays open and idle.
    pub hits: u64,
    /// Of 1000 hits, so many are followed by an exact re-send of an earlier one.
    pub duplicates_per_mille: u32,
    /// Of 1000 hits, so many have `exclude.value` = `yes`.
    pub excluded_per_mille: u32,
    /// Of 1000 hits, so many are followed by a line that is no record.
    pub malformed_per_mille: u32,
    /// `receivedTimeGMT` of index 0 in Unix seconds; by custom an hour before the run.
    pub start_epoch: i64,
    /// How many hits share one second of `receivedTimeGMT`.
    pub hits_per_second: u64,
    /// Seconds from one such second to the next: above 1 the stream is sparse, and few hits span hours.
    pub step_seconds: u64,
    /// How many seconds later than its neighbours a hit may come.
    pub late_seconds: u64,
    /// Of 1000 hits, so many come much later than their neighbours.
    pub late_per_mille: u32,
    /// By how many seconds of stream time those are late, at least and at most.
    pub late_between: (u64, u64),
    /// From this hit on, records are as since Adobe's release of 2026-04-13: eVars are cut at 255 bytes, and one hit in four
    /// has no `userAgent`.
    pub release_from: Option<u64>,
}

impl Default for Plan {
    /// Ten thousand hits with a little of everything, received from 2026-05-01 00:00:00 UTC on.
    fn default() -> Self {
        Self {
            seed: 1,
            hits: 10_000,
            duplicates_per_mille: 10,
            excluded_per_mille: 20,
            malformed_per_mille: 2,
            start_epoch: 1_777_593_600,
            hits_per_second: 1_000,
            step_seconds: 1,
            late_seconds: 0,
            late_per_mille: 0,
            late_between: (600, 12_600),
            release_from: None,
        }
    }
}

impl Plan {
    /// How many hits the stream has in so many seconds of its own time.
    #[must_use]
    pub fn hits_in(&self, seconds: u64) -> u64 {
        (seconds / self.step_seconds.max(1)).saturating_mul(self.hits_per_second.max(1))
    }
}

/// Whether reports count a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary hit.
    Hit,
    /// A hit with `exclude.value` = `yes`.
    Excluded,
}

/// How many lines of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ordinary hits.
    pub hits: u64,
    /// Excluded hits.
    pub excluded: u64,
    /// Re-sends of ordinary hits that belong to the plan (a replay after a reconnect is not one of these).
    pub duplicates: u64,
    /// Re-sends of excluded hits that belong to the plan.
    pub excluded_duplicates: u64,
    /// Lines that are no record.
    pub malformed: u64,
    /// Empty lines of the plan (not those that keep a quiet connection open).
    pub empty: u64,
}

impl Counts {
    /// All lines, empty ones too.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.hits + self.excluded + self.duplicates + self.excluded_duplicates + self.malformed + self.empty
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.excluded += other.excluded;
        self.duplicates += other.duplicates;
        self.excluded_duplicates += other.excluded_duplicates;
        self.malformed += other.malformed;
        self.empty += other.empty;
    }
}

/// Writes the lines of a plan and answers what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    plan: Plan,
}

impl Generator {
    /// A generator of this plan; making one costs nothing.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }

    /// The plan it follows.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Appends every line of `index`, each ended by CRLF.
    pub fn write(&self, index: u64, out: &mut Vec<u8>) {
        self.write_hit(index, out);
        if let Some(earlier) = self.duplicate_of(index) {
            self.write_hit(earlier, out);
        }
        if self.malformed_after(index) {
            self.write_malformed(index, out);
        }
        if self.empty_after(index) {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the hit's own line, ended by CRLF.
    pub fn write_hit(&self, index: u64, out: &mut Vec<u8>) {
        hit::write(self, index, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the line that is no record, ended by CRLF; each index has its own.
    pub fn write_malformed(&self, index: u64, out: &mut Vec<u8>) {
        junk::write(self, index, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the hit is excluded from reports.
    #[must_use]
    pub fn kind(&self, index: u64) -> Kind {
        if self.per_mille(index, For::Exclusion, self.plan.excluded_per_mille) {
            Kind::Excluded
        } else {
            Kind::Hit
        }
    }

    /// (`hitIdHigh`, `hitIdLow`). The low half is a bijection of the index, so no two indexes share an id; half of
    /// all halves are above 2^63, where signed integers end, and nearly all above 2^53, where doubles do.
    #[must_use]
    pub fn hit_id(&self, index: u64) -> (u64, u64) {
        (self.draw(index, For::HitHigh), self.draw(index, For::HitLow))
    }

    /// The visitor who made the hit; the stream is spread over connections by it.
    #[must_use]
    pub fn visitor(&self, index: u64) -> u64 {
        self.draw(index, For::Visitor) % VISITORS
    }

    /// The earlier hit that is sent again right after this one.
    #[must_use]
    pub fn duplicate_of(&self, index: u64) -> Option<u64> {
        let chosen = index > 0 && self.per_mille(index, For::Duplicate, self.plan.duplicates_per_mille);
        chosen.then(|| {
            let back = 1 + mix(self.draw(index, For::Duplicate)) % index.min(DUPLICATE_REACH);
            index - back
        })
    }

    /// Whether a line that is no record follows this hit.
    #[must_use]
    pub fn malformed_after(&self, index: u64) -> bool {
        self.per_mille(index, For::Malformed, self.plan.malformed_per_mille)
    }

    /// Whether an empty line follows this hit: one in a hundred or so.
    #[must_use]
    pub fn empty_after(&self, index: u64) -> bool {
        self.per_mille(index, For::Empty, 10)
    }

    /// `receivedTimeGMT` in Unix seconds: grows with the index, less what this hit is late.
    #[must_use]
    pub fn received_at(&self, index: u64) -> i64 {
        let seconds =
            (index / self.plan.hits_per_second.max(1)).saturating_mul(self.plan.step_seconds.max(1));
        let (least, most) =
            if self.is_late(index) { self.plan.late_between } else { (0, self.plan.late_seconds) };
        let late = least + self.draw(index, For::Lateness) % (most.saturating_sub(least) + 1);
        self.plan.start_epoch.saturating_add_unsigned(seconds).saturating_sub_unsigned(late)
    }

    /// Whether the hit comes much later than its neighbours: by the plan's `late_between`.
    #[must_use]
    pub fn is_late(&self, index: u64) -> bool {
        self.per_mille(index, For::LongDelay, self.plan.late_per_mille)
    }

    /// `timeGMT` in Unix seconds: up to a minute before it was received.
    #[must_use]
    pub fn time_at(&self, index: u64) -> i64 {
        self.received_at(index) - i64::from((self.draw(index, For::TimeOffset) % 60) as u8)
    }

    /// What the lines of these indexes are, counted.
    #[must_use]
    pub fn counts(&self, indexes: Range<u64>) -> Counts {
        let mut sum = Counts::default();
        for index in indexes {
            sum += self.counts_at(index);
        }
        sum
    }

    pub(crate) fn counts_at(&self, index: u64) -> Counts {
        let again = self.duplicate_of(index).map(|earlier| self.kind(earlier));
        Counts {
            hits: u64::from(self.kind(index) == Kind::Hit),
            excluded: u64::from(self.kind(index) == Kind::Excluded),
            duplicates: u64::from(again == Some(Kind::Hit)),
            excluded_duplicates: u64::from(again == Some(Kind::Excluded)),
            malformed: u64::from(self.malformed_after(index)),
            empty: u64::from(self.empty_after(index)),
        }
    }

    /// What some columns must hold for this hit once it is a row, `None` being NULL. Stated from the draws, not
    /// from the JSON. Text follows the rules of `Value::stored` with 255 bytes; an event is the sum of
    /// count·10^exponent as `decimal(18,2)`; times are UTC.
    #[must_use]
    pub fn expected(&self, index: u64) -> Vec<(&'static str, Option<String>)> {
        let (high, low) = self.hit_id(index);
        let stamp = |at: i64| {
            chrono::DateTime::from_timestamp(at, 0).map(|t| t.format("%Y-%m-%d %H:%M:%S").to_string())
        };
        vec![
            ("hitidhigh", Some(high.to_string())),
            ("hitidlow", Some(low.to_string())),
            ("receivedtimegmt", stamp(self.received_at(index))),
            ("timegmt", stamp(self.time_at(index))),
            ("pagename", self.page_name(index).stored(255)),
            ("evar1", self.evar(index, For::Evar1).stored(255)),
            ("evar2", self.evar(index, For::Evar2).stored(255)),
            ("evar3", self.evar(index, For::Evar3).stored(255)),
            ("event1", events::first(self.draw(index, For::Event1)).map(|event| event.stored.to_owned())),
            ("browserwidth", self.browser_width(index).map(|width| width.to_string())),
        ]
    }

    fn page_name(&self, index: u64) -> Value {
        Value::of(self.draw(index, For::PageName))
    }

    fn evar(&self, index: u64, which: For) -> Value {
        self.released(index, Value::of(self.draw(index, which)))
    }

    /// Whether the hit is as since the release of 2026-04-13.
    #[must_use]
    pub fn is_released(&self, index: u64) -> bool {
        self.plan.release_from.is_some_and(|from| index >= from)
    }

    /// The value of an eVar as this hit has it.
    fn released(&self, index: u64, value: Value) -> Value {
        if self.is_released(index) { value.cut() } else { value }
    }

    /// Whether the hit comes without its `userAgent`.
    #[must_use]
    pub fn lacks_agent(&self, index: u64) -> bool {
        self.is_released(index) && self.draw(index, For::Agent).is_multiple_of(4)
    }

    fn browser_width(&self, index: u64) -> Option<u64> {
        let drawn = self.draw(index, For::BrowserWidth);
        (drawn & 31 != 0).then_some(320 + (drawn >> 8) % 3_000)
    }

    fn draw(&self, index: u64, purpose: For) -> u64 {
        draw(self.plan.seed, index, purpose)
    }

    fn per_mille(&self, index: u64, purpose: For, share: u32) -> bool {
        self.draw(index, purpose) % 1_000 < u64::from(share)
    }
}
