//! One connection to Redshift: runs one statement at a time, and knows whether it can still be trusted.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::clock::Clock;
use state::status::activity::Reporter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::doing::Doing;
use crate::redshift::redact;
use crate::redshift::server::{COPY_ID, Server};

/// How much longer than Redshift itself a client waits for a statement to end.
const GRACE: Duration = Duration::from_secs(30);

/// Dropping it closes it, and Redshift rolls an open transaction back: in order when nothing is under way, at once
/// otherwise. The library would keep the connection until the answer comes, which may be never, and with it the lock
/// that the next attempt waits for.
pub struct Session {
    client: Client,
    /// The task that has the socket.
    connection: AbortHandle,
    tls: Option<MakeRustlsConnect>,
    limit: Duration,
    clock: Clock,
    under_way: AtomicBool,
    /// Set when a statement may still run at the server: the session must not be used again.
    spoilt: AtomicBool,
    /// Set while statements have the limit of a LOCK. ROLLBACK brings it back: it undoes what was set in the transaction.
    hurried: AtomicBool,
    tells_copy_id: bool,
    /// Where the statement under way is shown, if anywhere.
    reporter: Option<Reporter>,
}

impl Session {
    pub(super) fn start<S, T>(
        client: Client,
        mut connection: Connection<S, T>,
        tls: Option<MakeRustlsConnect>,
        limit: Duration,
        clock: Clock,
        reporter: Option<Reporter>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The task ends when the client is dropped or the connection breaks; the library tells the statement under way.
        let task = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        tracing::debug!("Redshift: {}", redact::message(notice.message()));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %SqlFailure::from(error), "connection to Redshift ended");
                        return;
                    }
                }
            }
        });
        Self {
            client,
            connection: task.abort_handle(),
            tls,
            limit,
            clock,
            under_way: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            tells_copy_id: false,
            reporter,
        }
    }

    /// Limits statements, and finds out whether the server answers [`COPY_ID`]: in a transaction a refusal would end that.
    pub(super) async fn prepare(&mut self) -> Result<(), SqlFailure> {
        self.run(&time_limit(self.limit)).await?;
        match self.run(COPY_ID).await {
            Ok(_) => self.tells_copy_id = true,
            Err(error @ SqlFailure::Lost(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, "the ledger will not name the queries of loads"),
        }
        Ok(())
    }

    /// Runs one statement. Without an answer it may have had its effect.
    pub async fn run(&self, sql: &str) -> Result<Rows, SqlFailure> {
        tracing::trace!(sql, "to Redshift");
        self.under_way.store(true, Ordering::Relaxed);
        if let Some(reporter) = &self.reporter {
            reporter.asks("Redshift", verb(sql));
        }
        let answer = tokio::time::timeout(self.limit + GRACE, self.client.simple_query(sql)).await;
        let Ok(answer) = answer else {
            self.spoilt.store(true, Ordering::Relaxed);
            return Err(SqlFailure::lost("no answer long after redshift.statement_timeout"));
        };
        self.under_way.store(false, Ordering::Relaxed);
        if let Some(reporter) = &self.reporter {
            reporter.waits();
        }
        let rows = answer?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(Rows(rows.collect()))
    }

    /// A session that cannot even roll back is not used again.
    pub(crate) async fn roll_back(&self) {
        if !self.usable() {
            // Closing it does the same; ROLLBACK would wait behind a statement that does not end.
            return;
        }
        let hurried = self.hurried.swap(false, Ordering::Relaxed);
        let ended = match self.run("ROLLBACK").await {
            Ok(_) if hurried => self.run(&time_limit(self.limit)).await,
            ended => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "ROLLBACK failed; the connection is given up");
            self.spoilt.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn usable(&self) -> bool {
        !self.client.is_closed() && !self.spoilt.load(Ordering::Relaxed)
    }

    /// Asks Redshift over another connection to end the statement under way. Redshift does not answer; the transaction
    /// ends when this session is dropped, at the latest.
    pub(crate) async fn cancel(&self) -> Result<(), SqlFailure> {
        let token = self.client.cancel_token();
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await?,
            None => token.cancel_query(NoTls).await?,
        }
        Ok(())
    }
}

impl Server for Session {
    async fn run(&self, sql: &str) -> Result<Rows, SqlFailure> {
        Self::run(self, sql).await
    }

    async fn begin(&self, lock: &str, limit: Duration) -> Result<(), (SqlFailure, Doing)> {
        self.hurried.store(true, Ordering::Relaxed);
        for (sql, doing) in opening(lock, limit, self.limit) {
            self.run(&sql).await.map_err(|failure| (failure, doing))?;
        }
        Ok(())
    }

    async fn roll_back(&self) {
        Self::roll_back(self).await;
    }

    fn tells_copy_id(&self) -> bool {
        self.tells_copy_id
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.under_way.load(Ordering::Relaxed) || self.spoilt.load(Ordering::Relaxed) {
            self.connection.abort();
        }
    }
}

/// What a transaction begins with: each statement, and what it is for. The LOCK comes first and alone: the transaction
/// sees what was committed before its first statement that reads.
fn opening(lock: &str, limit: Duration, usual: Duration) -> [(String, Doing); 4] {
    [
        (time_limit(limit), Doing::LimitLock),
        ("BEGIN".to_owned(), Doing::Begin),
        (lock.to_owned(), Doing::Lock),
        (time_limit(usual), Doing::LimitStatements),
    ]
}

/// What a statement does: its first word.
fn verb(sql: &str) -> &str {
    sql.split_whitespace().next().unwrap_or("a statement")
}

/// Limits every statement of a session, waiting in Redshift's queue included.
fn time_limit(limit: Duration) -> String {
    format!("SET statement_timeout TO {}", limit.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_the_first_statement_of_its_transaction_and_alone_has_the_short_limit() {
        let sent =
            opening("LOCK \"l\"", Duration::from_secs(60), Duration::from_secs(1800)).map(|(sql, _)| sql);
        assert_eq!(
            sent,
            ["SET statement_timeout TO 60000", "BEGIN", "LOCK \"l\"", "SET statement_timeout TO 1800000"]
        );
    }
}
