//! Connections to the stream, as the log notes them, and the gaps between them.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::seal::Counts;

use crate::failpoints::reached;
use crate::log::commit::{Committed, Log, next};
use crate::log::coverage::{Missed, StreamTime};
use crate::log::pipeline::Cut;
use crate::log::record::{Gap, Session};
use crate::log::{LogError, seq_key};
use crate::store::Table;

/// Characters kept of why a session ended: its record, which may hold another such text, must fit a value.
const WHY_CHARS: usize = 500;
/// Characters kept of why the session before a gap ended.
const GAP_WHY_CHARS: usize = 200;
/// Ended sessions kept.
const SESSIONS_KEPT: u64 = 1000;

/// One of the connections, between sessions or within one.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The session that is reading.
    pub(super) session: Option<Session>,
    /// Whether it has changed since the last cut.
    pub(super) changed: bool,
    /// Why the last session ended that brought hits.
    pub(super) lost: Option<String>,
}

impl Connection {
    /// Keeps in mind why a session ended, if it was the last to bring hits.
    pub(super) fn ended(&mut self, session: &Session) {
        if session.last_received.is_some() {
            self.lost = session.why.as_ref().map(|why| why.chars().take(GAP_WHY_CHARS).collect());
        }
    }
}

impl Log {
    /// Notes, durably, that a connection is about to read the stream; what is staged goes before it. Settles what is
    /// under way.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn session_started(&mut self, connection: u8, now: impl Into<Moment>) -> Result<Committed, LogError> {
        let now = now.into();
        self.settle_session(connection);
        self.submit(now)?;
        let session = Session {
            session: next(&mut self.sums.next_session),
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
        let mut cut = Cut::default();
        cut.change.put(Table::Sessions, &seq_key(session.session), &session);
        if let Some(old) = session.session.checked_sub(SESSIONS_KEPT) {
            cut.change.remove(Table::Sessions, &seq_key(old));
        }
        self.sums.coverage.begin(connection);
        if let Some(connection) = self.connections.get_mut(usize::from(connection)) {
            connection.session = Some(session);
        }
        self.send(cut)?;
        let done = self.settle()?;
        reached("session.started");
        Ok(done)
    }

    /// Notes, durably, why a connection no longer reads the stream; what is staged goes before it. Settles what is
    /// under way.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn session_ended(
        &mut self,
        connection: u8,
        why: &str,
        now: impl Into<Moment>,
    ) -> Result<Committed, LogError> {
        let now = now.into();
        self.settle_session(connection);
        self.submit(now)?;
        let mut cut = Cut::default();
        if let Some(connection) = self.connections.get_mut(usize::from(connection))
            && let Some(mut session) = connection.session.take()
        {
            session.ended = Some(now.wall);
            session.why = Some(why.chars().take(WHY_CHARS).collect());
            connection.ended(&session);
            cut.change.put(Table::Sessions, &seq_key(session.session), &session);
            self.send(cut)?;
        }
        let done = self.settle()?;
        reached("session.ended");
        Ok(done)
    }

    /// Settles a session by what it has brought so far, if that is not done.
    pub(super) fn settle_session(&mut self, connection: u8) {
        if self.sums.coverage.is_due(connection, None) {
            let missed = self.sums.coverage.settle(connection, self.settings.gap());
            self.note_settled(connection, missed);
        }
    }

    /// Settles the sessions that have brought few hits for long.
    pub(super) fn settle_due_sessions(&mut self, now: Steady) {
        for connection in 0..self.settings.connections {
            if self.sums.coverage.is_due(connection, Some(now.millis())) {
                self.settle_session(connection);
            }
        }
    }

    /// It is known now whether a session went on where its connection had stopped.
    pub(super) fn note_settled(&mut self, connection: u8, missed: Option<Missed>) {
        self.settled_any = true;
        let Some(state) = self.connections.get_mut(usize::from(connection)) else { return };
        state.changed = true;
        if let Some(missed) = missed
            && let Some(mut session) = state.session.take()
        {
            session.gap = Some(self.note_gap(&session, missed));
            if let Some(state) = self.connections.get_mut(usize::from(connection)) {
                state.session = Some(session);
            }
        }
    }

    /// Counts a gap before a session, and says so.
    pub(super) fn note_gap(&mut self, session: &Session, (from, to): Missed) -> Gap {
        let (from, to) = (time(from), time(to));
        let state = self.connections.get(usize::from(session.connection));
        let gap = Gap { from, to, why: state.and_then(|connection| connection.lost.clone()) };
        self.sums.gaps.gaps += 1;
        self.sums.gaps.seconds += gap.seconds();
        tracing::warn!(
            session = session.session,
            connection = session.connection,
            %from,
            %to,
            seconds = gap.seconds(),
            ended = gap.why.as_deref(),
            "gap: the stream was not read and was not sent again"
        );
        gap
    }
}

/// A time of the stream as the log's records have it.
pub(super) fn time(millis: StreamTime) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}
