//! What was read of the stream, as plain values: every time of every chunk is looked at anew.

use std::collections::HashSet;

use state::log::{HitId, Settings};

/// Milliseconds, as the log counts the stream's time.
pub(crate) type Time = i64;

/// A session that brings few hits is settled after so long.
const SETTLED_AFTER: Time = 10_000;

/// Hits that were committed together.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    last: Time,
    /// Chunks of the same time go in the order they came.
    no: usize,
    hits: Vec<HitId>,
}

/// A connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    pub(crate) last: Option<Time>,
    /// Whether it never received anything, and `last` is another's.
    borrowed: bool,
    pub(crate) settled: bool,
    /// Times its session has brought, while that is not settled, and when the first came.
    pub(crate) begun: Vec<Time>,
    begun_at: Time,
    /// Why the last session that brought hits ended.
    pub(crate) lost: Option<String>,
}

/// All that is durable of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) connections: Vec<Connection>,
    pub(crate) horizon: Option<Time>,
    chunks: Vec<Chunk>,
    commits: usize,
}

fn millis(time: std::time::Duration) -> Time {
    i64::try_from(time.as_millis()).unwrap()
}

impl Stream {
    pub(crate) fn new(connections: u8) -> Self {
        Self { connections: vec![Connection::default(); connections.into()], ..Self::default() }
    }

    pub(crate) fn front(&self) -> Option<Time> {
        self.connections.iter().filter_map(|connection| connection.last).min()
    }

    /// Whether a hit of this time that is not known may have been forgotten.
    pub(crate) fn is_uncompared(&self, at: Option<Time>) -> bool {
        at.zip(self.horizon).is_some_and(|(at, horizon)| at <= horizon)
    }

    pub(crate) fn begin(&mut self, connection: usize) {
        let front = self.front();
        let state = &mut self.connections[connection];
        let borrowed = state.borrowed || state.last.is_none();
        *state = Connection {
            last: state.last.or(front),
            borrowed,
            lost: state.lost.take(),
            ..Connection::default()
        };
    }

    /// A hit comes. That of several connections one brings what was read before proves nothing: it may have come on
    /// another.
    pub(crate) fn see(&mut self, connection: usize, at: Time, now: Time) {
        let state = &mut self.connections[connection];
        if state.settled {
            state.last = state.last.max(Some(at));
            return;
        }
        if state.begun.is_empty() {
            state.begun_at = now;
        }
        state.begun.push(at);
    }

    pub(crate) fn settle(&mut self, connection: usize, settings: &Settings) -> Option<(Time, Time)> {
        let state = &mut self.connections[connection];
        let (before, mut lowest, mut beyond) = (state.last, *state.begun.first()?, 0);
        for at in &state.begun {
            let stray = before.is_some_and(|before| beyond >= 16 && *at <= before);
            if !stray && *at >= lowest - 86_400_000 {
                lowest = lowest.min(*at);
            }
            beyond += u32::from(before.is_some_and(|before| *at > before + millis(settings.gap_tolerance)));
        }
        let borrowed = std::mem::take(&mut state.borrowed);
        state.last = before.filter(|_| !borrowed).max(state.begun.iter().max().copied());
        (state.settled, state.begun) = (true, Vec::new());
        let gap = before.filter(|before| !borrowed && lowest - before > millis(settings.gap_tolerance));
        for other in self.connections.iter_mut().filter(|other| other.last.is_none()) {
            (other.last, other.borrowed) = (Some(lowest), true);
        }
        gap.map(|before| (before, lowest))
    }

    pub(crate) fn due(&self, connection: usize, now: Time) -> bool {
        let state = &self.connections[connection];
        !state.begun.is_empty() && now >= state.begun_at + SETTLED_AFTER
    }

    pub(crate) fn next_settled(&self) -> Option<Time> {
        let begun = self.connections.iter().filter(|state| !state.begun.is_empty());
        begun.map(|state| state.begun_at + SETTLED_AFTER).min()
    }

    /// Forgets what is too old or too much, never what this commit brings. Whether anything was forgotten.
    pub(crate) fn forget(
        &mut self,
        known: &mut HashSet<HitId>,
        new: Vec<HitId>,
        times: Option<(Time, Time)>,
        settings: &Settings,
    ) -> bool {
        let front = self.front();
        let mut forgotten = false;
        loop {
            let oldest = self.chunks.iter().enumerate().min_by_key(|(_, chunk)| (chunk.last, chunk.no));
            let Some((at, oldest)) = oldest else { break };
            let too_old = front.is_some_and(|front| oldest.last < front - millis(settings.dedup_window));
            if known.len() <= settings.dedup_hits && !too_old {
                break;
            }
            let chunk = self.chunks.remove(at);
            chunk.hits.iter().for_each(|hit| assert!(known.remove(hit)));
            forgotten = true;
            self.horizon = self.horizon.max(Some(chunk.last));
        }
        if let Some((_, last)) = times.filter(|_| !new.is_empty()) {
            self.chunks.push(Chunk { last, no: self.commits, hits: new });
            self.commits += 1;
        }
        forgotten
    }

    /// All ids that are remembered by what is durable.
    pub(crate) fn ids(&self) -> HashSet<HitId> {
        self.chunks.iter().flat_map(|chunk| &chunk.hits).copied().collect()
    }
}
