//! A producer's log: what it remembers, accepts and seals.

use super::rule::Rule;

/// Different hits there are at most.
pub const HITS: usize = 3;
/// Batches of one log at most.
const BATCHES: u8 = 6;
/// Starts of one log at most.
const STARTS: u8 = 4;

/// A set of hits, one bit each.
pub type Hits = u8;

/// First and last time of these hits.
#[must_use]
pub fn times(hits: Hits) -> Option<(u8, u8)> {
    let mut times = (0..8).filter(|hit| hits & (1 << hit) != 0).map(|hit| hit + 1);
    let first = times.next()?;
    Some((first, times.next_back().unwrap_or(first)))
}

/// Rows: how many of each hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rows([u8; HITS]);

impl Rows {
    /// One row of each of these hits.
    #[must_use]
    pub fn each(hits: Hits) -> Self {
        let mut rows = Self::default();
        (0..HITS).filter(|hit| hits & (1 << hit) != 0).for_each(|hit| rows.add(hit, 1));
        rows
    }

    /// How many of this hit.
    #[must_use]
    pub fn of(&self, hit: usize) -> u8 {
        self.0.get(hit).copied().unwrap_or(0)
    }

    /// So many more of this hit.
    pub fn add(&mut self, hit: usize, more: u8) {
        if let Some(rows) = self.0.get_mut(hit) {
            *rows += more;
        }
    }

    /// All of them.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.0.iter().sum()
    }

    /// First and last time.
    #[must_use]
    pub fn times(&self) -> Option<(u8, u8)> {
        times((0..HITS).filter(|hit| self.of(*hit) > 0).fold(0, |hits, hit| hits | 1 << hit))
    }
}

/// A run of which a log remembers what it sealed up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Known {
    /// The run.
    pub run: u8,
    /// Its last batch that is meant.
    pub until: u8,
}

/// A sealed batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// Its identity.
    pub id: u8,
    /// The run that sealed it.
    pub run: u8,
    /// Its number in the log.
    pub number: u8,
    /// Earlier runs of the log.
    pub known: Vec<Known>,
    /// Rows that were not compared with all others of their time.
    pub uncompared: u8,
    /// What it holds.
    pub rows: Rows,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    run: u8,
    starts: u8,
    /// Of the last batch sealed.
    number: u8,
    /// Batches that got their id here.
    made: u8,
    known: Vec<Known>,
    remembered: Hits,
    /// Hits of this time or earlier may be forgotten.
    horizon: u8,
    filling: Rows,
    uncompared: u8,
    /// Not published, oldest first.
    sealed: Vec<Batch>,
}

impl Log {
    /// An empty one.
    #[must_use]
    pub fn new(slot: usize) -> Self {
        Self {
            run: run_of(slot, 0),
            starts: 0,
            number: 0,
            made: 0,
            known: Vec::new(),
            remembered: 0,
            horizon: 0,
            filling: Rows::default(),
            uncompared: 0,
            sealed: Vec::new(),
        }
    }

    /// Takes a hit that it does not remember.
    pub fn accept(&mut self, hit: usize) -> Option<()> {
        if self.remembers(hit) {
            return None;
        }
        let time = u8::try_from(hit).ok()? + 1;
        self.uncompared += u8::from(time <= self.horizon);
        self.filling.add(hit, 1);
        self.remembered |= 1 << hit;
        Some(())
    }

    /// Forgets what is of this time or earlier.
    pub fn forget(&mut self, time: u8) {
        self.horizon = self.horizon.max(time);
        (0..time).for_each(|hit| self.remembered &= !(1 << hit));
    }

    /// Seals the batch that fills; its id is of the log in this slot.
    pub fn seal(&mut self, slot: usize) -> Option<()> {
        if !self.may_seal() {
            return None;
        }
        self.number += 1;
        let id = u8::try_from(slot).ok()? * BATCHES + self.made;
        self.made += 1;
        self.sealed.push(Batch {
            id,
            run: self.run,
            number: self.number,
            known: self.known.clone(),
            uncompared: std::mem::take(&mut self.uncompared),
            rows: std::mem::take(&mut self.filling),
        });
        Some(())
    }

    /// Publishes the oldest sealed batch.
    pub fn publish(&mut self) -> Option<Batch> {
        self.may_publish().then(|| self.sealed.remove(0))
    }

    /// A start on this log: a new run, which knows what the one before sealed. The batch that was filling goes on, and
    /// gets its id, its run and its number when it is sealed.
    pub fn open(&mut self, slot: usize, rule: Rule) {
        let filling = u8::from(rule == Rule::FillingIsKnown && self.may_seal());
        self.known.push(Known { run: self.run, until: self.number + filling });
        self.starts += 1;
        self.run = run_of(slot, self.starts);
    }

    /// A copy of it that is opened in this slot.
    #[must_use]
    pub fn copied(&self, slot: usize, rule: Rule) -> Self {
        let mut copy = Self { made: 0, starts: 0, ..self.clone() };
        if rule != Rule::SameRunInCopies {
            copy.open(slot, rule);
        }
        copy
    }

    /// Whether it drops this hit.
    #[must_use]
    pub fn remembers(&self, hit: usize) -> bool {
        self.remembered & (1 << hit) != 0
    }

    /// Times up to which forgetting makes a difference.
    pub fn may_forget(&self) -> impl Iterator<Item = u8> {
        times(self.remembered).into_iter().flat_map(|(_, last)| self.horizon + 1..=last)
    }

    /// Whether a batch fills.
    #[must_use]
    pub fn may_seal(&self) -> bool {
        self.filling.count() > 0
    }

    /// Whether a sealed batch waits.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Whether a copy of it differs from a new log.
    #[must_use]
    pub fn has_anything(&self) -> bool {
        self.number > 0 || self.may_seal()
    }
}

fn run_of(slot: usize, start: u8) -> u8 {
    u8::try_from(slot).map_or(u8::MAX, |slot| slot * STARTS + start)
}
