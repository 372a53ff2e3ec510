//! Connections to the stream, as the log notes them.

use chrono::{DateTime, Utc};

use super::commit::{Committed, Log, next};
use super::pipeline::Cut;
use super::record::Session;
use super::{LogError, seq_key};
use crate::points::reached;
use crate::store::Table;

/// Characters kept of why a session ended: its record must fit a value.
const WHY_CHARS: usize = 500;
/// Ended sessions kept.
const SESSIONS_KEPT: u64 = 1000;

impl Log {
    /// Notes, durably, that the stream is about to be read; settles what is under way.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn session_started(&mut self, _connection: u8, now: DateTime<Utc>) -> Result<Committed, LogError> {
        let session = Session {
            session: next(&mut self.sums.next_session),
            connected: now,
            alive: now,
            ended: None,
            why: None,
            records: 0,
            first_received: None,
            last_received: None,
            gap: None,
        };
        let mut cut = Cut::default();
        cut.change.put(Table::Sessions, &seq_key(session.session), &session);
        if let Some(old) = session.session.checked_sub(SESSIONS_KEPT) {
            cut.change.remove(Table::Sessions, &seq_key(old));
        }
        self.session = Some(session);
        self.send(cut)?;
        let done = self.settle()?;
        reached("session.started");
        Ok(done)
    }

    /// Notes, durably, why the stream is no longer read; settles what is under way.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn session_ended(
        &mut self,
        _connection: u8,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<Committed, LogError> {
        if let Some(mut session) = self.session.take() {
            session.ended = Some(now);
            session.why = Some(why.chars().take(WHY_CHARS).collect());
            let mut cut = Cut::default();
            cut.change.put(Table::Sessions, &seq_key(session.session), &session);
            self.send(cut)?;
        }
        let done = self.settle()?;
        reached("session.ended");
        Ok(done)
    }
}
