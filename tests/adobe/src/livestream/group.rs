//! What each connection is sent next. Pure apart from the clock, which is handed in.
//!
//! Hits are spread by visitor over eight partitions, and partitions over the live connections; a position is kept
//! per partition, as Livestream does behind its own front. So a connection that goes away loses nothing: another
//! one, or the next one, goes on from its positions. Adobe says duplicates are likely when a client joins: a
//! partition that moves between live connections steps back a little.
//!
//! `head` is the first index never sent (full speed) or not yet happened (with a rate). Below it, `hold` indexes
//! are kept for those who come late. A reader that stays connected is waited for, however slow: nothing it reads
//! expires, and at full speed a quick neighbour does not run away from it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use hyper::StatusCode;

use super::admission::{Refusal, Reset, Wishes};
use crate::records::{Counts, Generator, mix};

pub(crate) const PARTITIONS: usize = 8;

/// How far a partition steps back when it moves to a client that joins.
const OVERLAP: u64 = 64;

/// Which partitions a connection reads, as bits.
pub(crate) type Mask = u8;

/// The partition of a hit.
pub(crate) fn partition(generator: &Generator, index: u64) -> usize {
    mix(generator.visitor(index)) as usize % PARTITIONS
}

/// Some indexes to write, valid as long as nobody joins or leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) indexes: Range<u64>,
    pub(crate) mask: Mask,
    /// Of the partitions read, where each stands: below it, everything has been written.
    pub(crate) positions: [u64; PARTITIONS],
    epoch: u64,
}

/// What a connection has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write these.
    Write(Claim),
    /// Nothing yet.
    Wait,
    /// Nothing any more; stay open.
    Over,
    /// The client is gone.
    Gone,
}

pub(crate) struct Group {
    hits: u64,
    rate: Option<u64>,
    hold: u64,
    head: u64,
    /// Nothing below it is held.
    floor: u64,
    /// How far back the next connection is sent everything again, if scripted.
    replay: Option<u64>,
    /// What nobody was ever sent, as a script wanted it.
    lapses: Vec<Range<u64>>,
    started: Option<Instant>,
    members: Vec<u64>,
    max_connections: u8,
    joined: u64,
    epoch: u64,
    positions: [u64; PARTITIONS],
    /// One bit per index: sent to somebody.
    sent: Vec<u64>,
    counts: Counts,
}

impl Group {
    pub(crate) fn new(hits: u64, rate: Option<u64>, hold: u64) -> Self {
        Self {
            hits,
            rate,
            hold,
            head: 0,
            floor: 0,
            replay: None,
            lapses: Vec::new(),
            started: None,
            members: Vec::new(),
            max_connections: 1,
            joined: 0,
            epoch: 0,
            positions: [0; PARTITIONS],
            sent: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Lets a connection in; the answer names it from now on.
    pub(crate) fn join(&mut self, wishes: Wishes, now: Instant) -> Result<u64, Refusal> {
        let conflict = |why: String| Err(Refusal::new(StatusCode::CONFLICT, why));
        if !self.members.is_empty() && wishes.max_connections != self.max_connections {
            return conflict(format!("maxConnections is {} for this stream", self.max_connections));
        }
        if self.members.len() >= usize::from(wishes.max_connections) {
            return conflict(format!("maximum connections of {} reached", wishes.max_connections));
        }
        self.started.get_or_insert(now);
        self.tick(now);
        self.max_connections = wishes.max_connections;
        self.joined += 1;
        self.members.push(self.joined);
        self.epoch += 1;
        let oldest = self.head.saturating_sub(self.hold).max(self.floor);
        let again = self.replay.take().map(|back| self.head.saturating_sub(back).max(self.floor));
        let shared = self.members.len() > 1;
        let mask = self.mask_of(self.joined).unwrap_or_default();
        for (_, position) in self.positions.iter_mut().enumerate().filter(|(p, _)| mask & (1 << p) != 0) {
            *position = match (again, wishes.reset) {
                (Some(again), _) => again,
                (None, Some(Reset::Smallest)) => oldest,
                (None, Some(Reset::Largest)) => self.head,
                (None, None) if shared => position.saturating_sub(OVERLAP).max(oldest),
                (None, None) => (*position).max(oldest),
            };
        }
        Ok(self.joined)
    }

    pub(crate) fn leave(&mut self, member: u64) {
        let before = self.members.len();
        self.members.retain(|other| *other != member);
        self.epoch += u64::from(self.members.len() != before);
    }

    /// So many hits happen that nobody is ever sent, and nothing before them is held any longer.
    pub(crate) fn lapse(&mut self, hits: u64, now: Instant) {
        self.tick(now);
        let from = self.head;
        self.head = self.hits.min(from.saturating_add(hits));
        self.floor = self.head;
        self.lapses.push(from..self.head);
        self.positions.iter_mut().for_each(|position| *position = (*position).max(self.floor));
        // What a live connection is about to write has lapsed with the rest.
        self.epoch += 1;
    }

    /// The next connection starts so many hits below the head.
    pub(crate) fn replay_next(&mut self, back: u64) {
        self.replay = Some(back);
    }

    pub(crate) fn lapses(&self) -> Vec<Range<u64>> {
        self.lapses.clone()
    }

    /// The next indexes for this connection, at most `most` of them.
    pub(crate) fn next(&mut self, member: u64, most: u64, now: Instant) -> Next {
        let Some(mask) = self.mask_of(member) else { return Next::Gone };
        self.tick(now);
        let from = self.read_by(mask).min().unwrap_or(self.hits);
        if from >= self.hits {
            return Next::Over;
        }
        let slowest = self.positions.iter().copied().min().unwrap_or(0);
        let limit = match self.rate {
            Some(_) => self.head,
            None => self.hits.min(slowest.saturating_add((self.hold / 2).max(1))),
        };
        let indexes = from..limit.min(from.saturating_add(most));
        if indexes.is_empty() {
            return Next::Wait;
        }
        Next::Write(Claim { indexes, mask, positions: self.positions, epoch: self.epoch })
    }

    /// Everything of the claim below `to` is written. `false`: somebody joined or left meanwhile, and what was
    /// written must be thrown away.
    pub(crate) fn commit(&mut self, claim: &Claim, to: u64, sent: &[u64], counts: Counts) -> bool {
        if claim.epoch != self.epoch {
            return false;
        }
        for (p, position) in self.positions.iter_mut().enumerate() {
            if claim.mask & (1 << p) != 0 {
                *position = (*position).max(to);
            }
        }
        self.head = self.head.max(to);
        for index in sent {
            let word = (index / 64) as usize;
            if self.sent.len() <= word {
                self.sent.resize(word + 1, 0);
            }
            self.sent[word] |= 1 << (index % 64);
        }
        self.counts += counts;
        true
    }

    pub(crate) fn head(&mut self, now: Instant) -> u64 {
        self.tick(now);
        self.head
    }

    /// The index this connection comes to next.
    pub(crate) fn position(&self, member: u64) -> u64 {
        self.mask_of(member).and_then(|mask| self.read_by(mask).min()).unwrap_or(self.head)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn connections(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn was_sent(&self, index: u64) -> bool {
        self.sent.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(crate) fn distinct_sent(&self) -> u64 {
        self.sent.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn tick(&mut self, now: Instant) {
        if let (Some(rate), Some(started)) = (self.rate, self.started) {
            let elapsed = now.saturating_duration_since(started).as_micros();
            let due = elapsed * u128::from(rate) / Duration::from_secs(1).as_micros();
            self.head = u64::try_from(due).unwrap_or(u64::MAX).clamp(self.head, self.hits.max(self.head));
        }
    }

    fn mask_of(&self, member: u64) -> Option<Mask> {
        let place = self.members.iter().position(|other| *other == member)?;
        let count = self.members.len();
        Some((0..PARTITIONS).filter(|p| p % count == place).fold(0, |mask, p| mask | 1 << p))
    }

    fn read_by(&self, mask: Mask) -> impl Iterator<Item = u64> {
        self.positions.iter().enumerate().filter(move |(p, _)| mask & (1 << p) != 0).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wishes = Wishes { max_connections: 1, reset: None };

    fn claim(group: &mut Group, member: u64, most: u64) -> Claim {
        match group.next(member, most, Instant::now()) {
            Next::Write(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    fn read(group: &mut Group, member: u64, most: u64) -> Range<u64> {
        let claim = claim(group, member, most);
        let sent: Vec<u64> = claim.indexes.clone().collect();
        assert!(group.commit(&claim, claim.indexes.end, &sent, Counts::default()));
        claim.indexes
    }

    #[test]
    fn a_reconnection_goes_on_where_the_last_one_stopped_unless_it_asks_otherwise() {
        let now = Instant::now();
        let mut group = Group::new(1_000, None, 50);
        let first = group.join(ANY, now).unwrap();
        for start in (0..200).step_by(20) {
            assert_eq!(read(&mut group, first, 20), start..start + 20);
        }
        group.leave(first);
        assert_eq!(group.next(first, 1, now), Next::Gone);
        let second = group.join(ANY, now).unwrap();
        assert_eq!(read(&mut group, second, 10), 200..210);
        group.leave(second);
        let third = group.join(Wishes { reset: Some(Reset::Smallest), ..ANY }, now).unwrap();
        assert_eq!(read(&mut group, third, 10), 160..170);
        group.leave(third);
        let fourth = group.join(Wishes { reset: Some(Reset::Largest), ..ANY }, now).unwrap();
        assert_eq!(read(&mut group, fourth, 10), 210..220);
        assert_eq!(group.distinct_sent(), 220);
    }

    #[test]
    fn what_has_lapsed_is_sent_to_nobody_and_a_replay_reaches_back_to_it_and_no_further() {
        let now = Instant::now();
        let mut group = Group::new(1_000, None, 50);
        let first = group.join(ANY, now).unwrap();
        assert_eq!(read(&mut group, first, 20), 0..20);
        group.lapse(100, now);
        group.leave(first);
        let second = group.join(Wishes { reset: Some(Reset::Smallest), ..ANY }, now).unwrap();
        assert_eq!(read(&mut group, second, 25), 120..145);
        for start in (145..420).step_by(25) {
            assert_eq!(read(&mut group, second, 25), start..start + 25);
        }
        group.leave(second);
        group.replay_next(200);
        let third = group.join(ANY, now).unwrap();
        assert_eq!(read(&mut group, third, 10), 220..230, "further back than it is held");
        group.leave(third);
        group.replay_next(1_000);
        let fourth = group.join(ANY, now).unwrap();
        assert_eq!(read(&mut group, fourth, 10), 120..130);
        assert_eq!(group.lapses().first(), Some(&(20..120)));
        assert!(!group.was_sent(119) && group.was_sent(120));
    }

    #[test]
    fn with_a_rate_hits_happen_by_the_clock_and_are_held_for_late_readers() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut group = Group::new(10_000, Some(100), 500);
        assert_eq!(group.head(at(5)), 0, "the clock starts with the first connection");
        let first = group.join(ANY, at(10)).unwrap();
        assert_eq!(group.next(first, 10, at(10)), Next::Wait);
        assert_eq!(group.head(at(12)), 200);
        group.leave(first);
        let second = group.join(ANY, at(14)).unwrap();
        assert!(matches!(group.next(second, 9, at(14)), Next::Write(c) if c.indexes == (0..9)));
        group.leave(second);
        let third = group.join(ANY, at(20)).unwrap();
        assert!(matches!(group.next(third, 9, at(20)), Next::Write(c) if c.indexes == (500..509)));
        assert_eq!(group.head(at(1_000)), 10_000);
    }

    #[test]
    fn connections_beyond_the_maximum_or_with_another_maximum_conflict() {
        let now = Instant::now();
        let two = Wishes { max_connections: 2, reset: None };
        let mut group = Group::new(1_000, None, 50);
        group.join(two, now).unwrap();
        assert_eq!(group.join(ANY, now).unwrap_err().status, StatusCode::CONFLICT);
        group.join(two, now).unwrap();
        assert_eq!(group.join(two, now).unwrap_err().status, StatusCode::CONFLICT);
    }

    #[test]
    fn every_partition_is_read_by_exactly_one_connection_and_a_stale_claim_is_void() {
        let now = Instant::now();
        let wishes = Wishes { max_connections: 3, reset: None };
        let mut group = Group::new(1_000, None, 200);
        let first = group.join(wishes, now).unwrap();
        let stale = claim(&mut group, first, 10);
        assert_eq!(stale.mask, 0xff);
        let others = [group.join(wishes, now).unwrap(), group.join(wishes, now).unwrap()];
        assert!(!group.commit(&stale, 10, &[], Counts::default()));
        let masks: Vec<Mask> =
            [first, others[0], others[1]].iter().map(|member| claim(&mut group, *member, 10).mask).collect();
        assert_eq!(masks.iter().map(|mask| mask.count_ones()).sum::<u32>(), 8);
        assert_eq!(masks.iter().fold(0, |all, mask| all | mask), 0xff);
        read(&mut group, first, 100);
        assert_eq!(group.next(first, 10, now), Next::Wait, "it does not run away from its neighbours");
    }
}
