//! The sessions that read the stream, as the log notes them, and the gaps between them.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::seal::Counts;

use crate::log::coverage::{Coverage, Missed, Settled, Sight, time};
use crate::log::record::{Gap, Session, Sums, next, seq_key, widen};
use crate::store::{Change, Store, StoreError, Table};

/// Why a session ended whose process was killed.
pub const ENDED_WITHOUT_A_WORD: &str = "the producer ended without a word";

/// Characters kept of why a session ended: its record, which may hold another such text, must fit a value.
const WHY_CHARS: usize = 500;
/// Characters kept of why the session before a gap ended.
const GAP_WHY_CHARS: usize = 200;
/// Ended sessions kept.
const SESSIONS_KEPT: u64 = 1000;

#[derive(Debug, Clone, Default)]
struct Connection {
    session: Option<Session>,
    changed: bool,
    lost: Option<String>,
}

impl Connection {
    fn ended(&mut self, session: &Session) {
        if session.last_received.is_some() {
            self.lost = session.why.as_ref().map(|why| why.chars().take(GAP_WHY_CHARS).collect());
        }
    }

    fn gap(&self, session: &Session, (from, to): Missed, sums: &mut Sums) -> Gap {
        let gap = Gap { from: time(from), to: time(to), why: self.lost.clone() };
        sums.gaps.gaps += 1;
        sums.gaps.seconds += gap.seconds();
        tracing::warn!(
            session = session.session,
            connection = session.connection,
            from = %gap.from,
            to = %gap.to,
            seconds = gap.seconds(),
            ended = gap.why.as_deref(),
            "gap: the stream was not read and was not sent again"
        );
        gap
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    connections: Vec<Connection>,
    /// Milliseconds; a longer hole is a gap.
    tolerated: i64,
    /// Whether a session was settled since the last cut.
    settled_any: bool,
}

impl Sessions {
    /// Goes on where the last process stopped. A killed process's session ended when it was last known to be alive.
    pub(super) fn resume(
        store: &Store,
        connections: u8,
        tolerated: i64,
        sums: &mut Sums,
        change: &mut Change,
    ) -> Result<Self, StoreError> {
        let mut connections = vec![Connection::default(); connections.into()];
        if sums.coverage.connections() == 0
            && let Some(last) = sums.last_received
        {
            sums.coverage = Coverage::up_to(last.timestamp_millis());
        }
        for item in store.scan_json::<Session>(Table::Sessions) {
            let (_, mut session) = item?;
            let number = session.connection;
            let mut unknown = Connection::default();
            let connection = connections.get_mut(usize::from(number)).unwrap_or(&mut unknown);
            if session.ended.is_none() {
                session.ended = Some(session.alive);
                session.why = Some(ENDED_WITHOUT_A_WORD.to_owned());
                if sums.coverage.is_due(number, None) {
                    let Settled(missed) = sums.coverage.settle(number, tolerated);
                    session.gap = missed.map(|missed| connection.gap(&session, missed, sums));
                }
                change.put(Table::Sessions, &seq_key(session.session), &session);
            }
            connection.ended(&session);
        }
        sums.coverage.resize(connections.len());
        Ok(Self { connections, tolerated, settled_any: false })
    }

    fn get_mut(&mut self, connection: u8) -> Option<&mut Connection> {
        self.connections.get_mut(usize::from(connection))
    }

    pub(super) fn start(&mut self, connection: u8, now: Moment, sums: &mut Sums, change: &mut Change) {
        let session = Session {
            session: next(&mut sums.next_session),
            connection,
            connected: now.wall,
            alive: now.wall,
            ended: None,
            why: None,
            records: 0,
            counts: Some(Counts::default()),
            first_received: None,
            last_received: None,
            gap: None,
        };
        change.put(Table::Sessions, &seq_key(session.session), &session);
        if let Some(old) = session.session.checked_sub(SESSIONS_KEPT) {
            change.remove(Table::Sessions, &seq_key(old));
        }
        sums.coverage.begin(connection);
        if let Some(connection) = self.get_mut(connection) {
            connection.session = Some(session);
        }
    }

    pub(super) fn end(&mut self, connection: u8, why: &str, now: Moment, change: &mut Change) {
        if let Some(connection) = self.get_mut(connection)
            && let Some(mut session) = connection.session.take()
        {
            session.ended = Some(now.wall);
            session.why = Some(why.chars().take(WHY_CHARS).collect());
            connection.ended(&session);
            change.put(Table::Sessions, &seq_key(session.session), &session);
        }
    }

    pub(super) fn count(&mut self, connection: u8, counts: Counts) {
        let Some(connection) = self.get_mut(connection) else { return };
        if let Some(session) = &mut connection.session {
            connection.changed = true;
            session.records += 1;
            session.counts.get_or_insert_default().add(counts);
        }
    }

    pub(super) fn see(
        &mut self,
        connection: u8,
        seen: DateTime<Utc>,
        sight: Sight,
        now: Steady,
        sums: &mut Sums,
    ) {
        if let Some(session) = self.get_mut(connection).and_then(|connection| connection.session.as_mut()) {
            widen(&mut session.first_received, &mut session.last_received, seen);
        }
        sums.last_received = sums.last_received.max(Some(seen));
        if let Some(settled) = sums.coverage.see(connection, sight, now.millis(), self.tolerated) {
            self.note(connection, settled, sums);
        }
    }

    /// Settles a session by what it has brought so far, if that is not done.
    pub(super) fn settle(&mut self, connection: u8, sums: &mut Sums) {
        if sums.coverage.is_due(connection, None) {
            let settled = sums.coverage.settle(connection, self.tolerated);
            self.note(connection, settled, sums);
        }
    }

    pub(super) fn settle_due(&mut self, now: Steady, sums: &mut Sums) {
        for connection in (0..=u8::MAX).take(self.connections.len()) {
            if sums.coverage.is_due(connection, Some(now.millis())) {
                self.settle(connection, sums);
            }
        }
    }

    fn note(&mut self, connection: u8, Settled(missed): Settled, sums: &mut Sums) {
        self.settled_any = true;
        let Some(connection) = self.get_mut(connection) else { return };
        connection.changed = true;
        if let Some(missed) = missed
            && let Some(mut session) = connection.session.take()
        {
            session.gap = Some(connection.gap(&session, missed, sums));
            connection.session = Some(session);
        }
    }

    /// Stores the sessions that have changed since the last cut; returns whether one was settled.
    pub(super) fn cut(&mut self, now: DateTime<Utc>, change: &mut Change) -> bool {
        for connection in self.connections.iter_mut().filter(|connection| connection.changed) {
            connection.changed = false;
            if let Some(session) = &mut connection.session {
                session.alive = now;
                change.put(Table::Sessions, &seq_key(session.session), session);
            }
        }
        std::mem::take(&mut self.settled_any)
    }
}
