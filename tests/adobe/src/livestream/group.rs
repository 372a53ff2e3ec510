//! What each connection is sent next. Pure apart from the clock, which is handed in.
//!
//! Hits are spread by visitor over eight partitions, and partitions over the live connections; a position is kept
//! per partition, as Livestream does behind its own front. So a connection that goes away loses nothing: another
//! one, or the next one, goes on from its positions. Adobe says duplicates are likely when a client joins: a
//! partition that moves between live connections steps back a little; one whose connection broke, by what the delivery
//! says.
//!
//! `clock` counts ticks: the first one never sent (full speed) or not yet happened (with a rate). A partition that lags
//! is at the index that is its lag below the clock ([`super::walk`]). Below where a partition is, `hold` of its indexes
//! are kept for those who come late. A reader that stays connected is waited for, however slow: nothing it reads
//! expires, and at full speed a quick neighbour does not run away from it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use hyper::StatusCode;

use super::{
    admission::{Refusal, Reset, Wishes},
    delivery::{InHits, PARTITIONS},
    walk::{Claim, Mask, Reached},
};
use crate::records::Counts;

/// How far a partition steps back when it moves to a client that joins.
const OVERLAP: u64 = 64;

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
    order: InHits,
    clock: u64,
    /// No index below it is held.
    floor: u64,
    /// How far back the next connection is sent everything again, if scripted.
    replay: Option<u64>,
    /// What nobody was ever sent, as a script wanted it.
    lapses: Vec<Range<u64>>,
    started: Option<Instant>,
    /// The clock when it started.
    backlog: u64,
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
            order: InHits::default(),
            clock: 0,
            floor: 0,
            replay: None,
            lapses: Vec::new(),
            started: None,
            backlog: 0,
            members: Vec::new(),
            max_connections: 1,
            joined: 0,
            epoch: 0,
            positions: [0; PARTITIONS],
            sent: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// So many hits have happened already.
    pub(crate) fn after(mut self, backlog: u64) -> Self {
        (self.backlog, self.clock) = (backlog, backlog);
        self
    }

    /// Whether every place is taken and this connection joined last.
    pub(crate) fn is_last_of_all(&self, member: u64) -> bool {
        self.members.len() == usize::from(self.max_connections) && self.members.last() == Some(&member)
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
        let again = self.replay.take();
        let shared = self.members.len() > 1;
        let mask = self.mask_of(self.joined).unwrap_or_default();
        for p in (0..PARTITIONS).filter(|p| mask & (1 << p) != 0) {
            let (at, oldest) = (self.positions[p], self.back_from_newest(p, self.hold));
            self.positions[p] = match (again, wishes.reset) {
                (Some(again), _) => self.back_from_newest(p, again),
                (None, Some(Reset::Smallest)) => oldest,
                (None, Some(Reset::Largest)) => at.max(self.back_from_newest(p, 0)),
                (None, None) if shared => at.saturating_sub(OVERLAP).max(oldest),
                (None, None) => at.max(oldest),
            };
        }
        Ok(self.joined)
    }

    pub(crate) fn leave(&mut self, member: u64) {
        let Some(mask) = self.mask_of(member) else { return };
        self.members.retain(|other| *other != member);
        self.epoch += 1;
        if self.members.is_empty() {
            return;
        }
        for p in (0..PARTITIONS).filter(|p| mask & (1 << p) != 0) {
            let at = self.positions[p];
            let back = at.saturating_sub(self.order.handover).max(self.back_from_newest(p, self.hold));
            self.positions[p] = back.min(at);
        }
    }

    /// From now on, hits reach everybody in this order; each partition goes on from where it is.
    pub(crate) fn deliver(&mut self, order: InHits) {
        self.order = order;
        // What a live connection is about to write is in the old order.
        self.epoch += 1;
    }

    /// So many hits happen that nobody is ever sent, and nothing before them is held any longer.
    pub(crate) fn lapse(&mut self, hits: u64, now: Instant) {
        let from = self.head(now);
        self.floor = self.hits.min(from.saturating_add(hits));
        self.clock = self.clock.max(self.floor);
        self.lapses.push(from..self.floor);
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

    /// The next ticks for this connection, at most `most` of them.
    pub(crate) fn next(&mut self, member: u64, most: u64, now: Instant) -> Next {
        let Some(mask) = self.mask_of(member) else { return Next::Gone };
        self.tick(now);
        let Some(from) = self.ticks_of(mask).min() else { return Next::Over };
        let slowest = self.ticks_of(Mask::MAX).min().unwrap_or(from);
        let limit = match self.rate {
            Some(_) => self.clock,
            None => self.end().min(slowest.saturating_add((self.hold / 2).max(1))),
        };
        let ticks = from..limit.min(from.saturating_add(most));
        if ticks.is_empty() {
            return Next::Wait;
        }
        let (positions, order, hits) = (self.positions, self.order, self.hits);
        let echo = self.echo_of(member);
        Next::Write(Claim { ticks, mask, echo, positions, order, hits, epoch: self.epoch })
    }

    /// What of the claim was reached is written. `false`: somebody joined or left meanwhile, and what was written must
    /// be thrown away.
    pub(crate) fn commit(&mut self, claim: &Claim, reached: &Reached, sent: &[u64], counts: Counts) -> bool {
        if claim.epoch != self.epoch {
            return false;
        }
        for p in (0..PARTITIONS).filter(|p| claim.mask & (1 << p) != 0) {
            self.positions[p] = self.positions[p].max(reached.positions[p]);
        }
        self.clock = self.clock.max(reached.tick);
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
        self.clock.min(self.hits)
    }

    /// What has not happened never does.
    pub(crate) fn end_now(&mut self, now: Instant) -> u64 {
        self.hits = self.head(now);
        // What a live connection is about to write may lie behind the end.
        self.epoch += 1;
        self.hits
    }

    /// The index this connection comes to next.
    pub(crate) fn position(&self, member: u64) -> u64 {
        let mask = self.mask_of(member).unwrap_or(Mask::MAX);
        let read = self.positions.iter().enumerate().filter(|(p, _)| mask & (1 << p) != 0);
        read.map(|(_, at)| *at).min().unwrap_or(self.hits)
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
            let due = u64::try_from(due).unwrap_or(u64::MAX).saturating_add(self.backlog);
            self.clock = due.clamp(self.clock, self.end().max(self.clock));
        }
    }

    /// The tick at which the last partition has come to its end.
    fn end(&self) -> u64 {
        self.hits + self.order.lags.iter().copied().max().unwrap_or(0)
    }

    /// The index so far below where a partition is by the clock, as far as it is held.
    fn back_from_newest(&self, partition: usize, back: u64) -> u64 {
        let newest = self.clock.saturating_sub(self.order.lags[partition]).min(self.hits);
        newest.saturating_sub(back).max(self.floor)
    }

    fn mask_of(&self, member: u64) -> Option<Mask> {
        let place = self.members.iter().position(|other| *other == member)?;
        Some(self.mask_at(place))
    }

    fn mask_at(&self, place: usize) -> Mask {
        let count = self.members.len();
        (0..PARTITIONS).filter(|p| p % count == place).fold(0, |mask, p| mask | 1 << p)
    }

    /// Partitions of the connection before this one.
    fn echo_of(&self, member: u64) -> Mask {
        let count = self.members.len();
        match self.members.iter().position(|other| *other == member) {
            Some(place) if count > 1 => self.mask_at((place + count - 1) % count),
            _ => 0,
        }
    }

    /// The ticks at which partitions that are not at their end go on.
    fn ticks_of(&self, mask: Mask) -> impl Iterator<Item = u64> {
        let read = self.positions.iter().zip(self.order.lags).enumerate();
        let read = read.filter(move |(p, (at, _))| mask & (1 << p) != 0 && **at < self.hits);
        read.map(|(_, (at, lag))| at + lag)
    }
}

#[cfg(test)]
mod tests;
