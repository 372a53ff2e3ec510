//! One connection to Redshift: runs one statement at a time, and knows whether it can still be trusted.

use crate::redshift::said;
use shared::causes::causes;
use std::fmt;
use std::future::poll_fn;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Asks for the id of the latest COPY of the session. It is for people only, so a server that refuses it is not asked.
pub(crate) const COPY_ID: &str = "SELECT pg_last_copy_id()";

/// How much longer than Redshift itself a client waits for a statement to end.
const GRACE: Duration = Duration::from_secs(30);

/// A connection. Dropping it closes it, and Redshift rolls an open transaction back: in order when nothing is under way,
/// and at once otherwise. The library would keep the connection until the answer comes, which may be never, and with it
/// the lock that the next attempt waits for.
pub struct Session {
    client: Client,
    /// The task that has the socket.
    connection: AbortHandle,
    tls: Option<MakeRustlsConnect>,
    limit: Duration,
    /// Whether an answer is waited for.
    under_way: AtomicBool,
    /// Set when it is not known what the server does with it: it must not be used again.
    spoilt: AtomicBool,
    /// Set while statements have the limit of a LOCK, or have it again after ROLLBACK: that takes back what was set
    /// within the transaction.
    hurried: AtomicBool,
    /// Whether the server answers [`COPY_ID`].
    tells_copy_id: bool,
}

/// Why a statement brought no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlFailure {
    /// Redshift said no.
    Refused {
        /// SQLSTATE; nearly always `XX000`, whatever it is.
        state: String,
        /// What it said.
        message: String,
        /// The DETAIL, a block with `code:` and `context:` among its lines.
        detail: String,
    },
    /// There was no answer, or no connection in the first place.
    Lost(String),
}

impl SqlFailure {
    /// No answer, for this reason.
    pub fn lost(why: impl Into<String>) -> Self {
        Self::Lost(why.into())
    }

    /// Redshift's own error code, from the DETAIL.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        self.detail_line("code:")?.parse().ok()
    }

    /// Whether the user or the password was not taken.
    #[must_use]
    pub fn is_login(&self) -> bool {
        matches!(self, Self::Refused { state, .. } if state.starts_with("28"))
    }

    fn detail_line(&self, label: &str) -> Option<&str> {
        let Self::Refused { detail, .. } = self else { return None };
        detail.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim)
    }
}

impl fmt::Display for SqlFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Refused { message, .. } => {
                f.write_str(&said::message(message.trim()))?;
                if let Some(code) = self.code() {
                    write!(f, " (code {code})")?;
                }
                match self.detail_line("context:") {
                    Some(context) if !context.is_empty() && said::may_show_context(message) => {
                        write!(f, " [{}]", said::message(context))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl From<tokio_postgres::Error> for SqlFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::Refused {
                state: said.code().code().to_owned(),
                message: said.message().to_owned(),
                detail: said.detail().unwrap_or_default().to_owned(),
            };
        }
        Self::Lost(causes(&error))
    }
}

/// The rows of an answer, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

impl Rows {
    /// The only value of an answer such as that to `SELECT pg_last_copy_count()`.
    #[must_use]
    pub fn single(&self) -> Option<&str> {
        self.0.first()?.first()?.as_deref()
    }

    /// The first value of each row, if it can be read as what is asked for.
    #[must_use]
    pub fn first_column<T: FromStr>(&self) -> Vec<T> {
        self.0.iter().filter_map(|row| row.first()?.as_deref()?.trim().parse().ok()).collect()
    }
}

impl Session {
    /// Takes a fresh connection over; statements may last for `limit`.
    pub(super) fn start<S, T>(
        client: Client,
        mut connection: Connection<S, T>,
        tls: Option<MakeRustlsConnect>,
        limit: Duration,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Ends when the client is dropped or the connection breaks; the statement under way is told of that too.
        let task = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        tracing::debug!("Redshift: {}", said::message(notice.message()));
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
            under_way: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            tells_copy_id: false,
        }
    }

    /// Prepares a fresh session: limits its statements, and learns what the server answers. What is refused within a
    /// transaction ends it, so that is found out here.
    ///
    /// # Errors
    /// When the limit cannot be set.
    pub(super) async fn prepare(&mut self) -> Result<(), SqlFailure> {
        self.run(&time_limit(self.limit)).await?;
        match self.run(COPY_ID).await {
            Ok(_) => self.tells_copy_id = true,
            Err(error @ SqlFailure::Lost(_)) => return Err(error),
            Err(error) => tracing::warn!(%error, "the ledger will not name the queries of loads"),
        }
        Ok(())
    }

    /// Whether the id of the latest COPY can be asked for.
    #[must_use]
    pub fn tells_copy_id(&self) -> bool {
        self.tells_copy_id
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// When Redshift refuses it, or does not answer. Without an answer it may have had its effect.
    pub async fn run(&self, sql: &str) -> Result<Rows, SqlFailure> {
        tracing::trace!(sql, "to Redshift");
        self.under_way.store(true, Ordering::Relaxed);
        let answer = tokio::time::timeout(self.limit + GRACE, self.client.simple_query(sql)).await;
        let Ok(answer) = answer else {
            self.spoil();
            return Err(SqlFailure::lost("no answer long after redshift.statement_timeout"));
        };
        self.under_way.store(false, Ordering::Relaxed);
        let messages = answer.map_err(SqlFailure::from)?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(Rows(rows.collect()))
    }

    /// Begins a transaction with `lock`, a LOCK that may take `limit`; what follows has the limit of the session again.
    ///
    /// The LOCK comes first and alone: the transaction sees what was committed before its first statement that reads.
    ///
    /// # Errors
    /// As [`Session::run`], with what was being done. A transaction may be open then: it must be rolled back.
    pub async fn begin(&self, lock: &str, limit: Duration) -> Result<(), (SqlFailure, &'static str)> {
        self.hurried.store(true, Ordering::Relaxed);
        for (sql, doing) in opening(lock, limit, self.limit) {
            self.run(&sql).await.map_err(|failure| (failure, doing))?;
        }
        Ok(())
    }

    /// Ends the transaction without effect. If even that fails the session is not to be used again.
    pub async fn roll_back(&self) {
        if !self.usable() {
            // Closing it does the same; asking would wait behind a statement that does not end.
            return;
        }
        let hurried = self.hurried.swap(false, Ordering::Relaxed);
        let ended = match self.run("ROLLBACK").await {
            Ok(_) if hurried => self.run(&time_limit(self.limit)).await,
            ended => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "ROLLBACK failed; the connection is given up");
            self.spoil();
        }
    }

    /// Whether another statement can be sent.
    #[must_use]
    pub fn usable(&self) -> bool {
        !self.client.is_closed() && !self.spoilt.load(Ordering::Relaxed)
    }

    fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    /// Asks Redshift to end the statement under way, over a connection of its own. It answers nothing; the
    /// statement's transaction ends when this session is dropped, at the latest.
    ///
    /// # Errors
    /// When Redshift cannot be reached.
    pub async fn cancel(&self) -> Result<(), SqlFailure> {
        let token: CancelToken = self.client.cancel_token();
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await?,
            None => token.cancel_query(NoTls).await?,
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.under_way.load(Ordering::Relaxed) || self.spoilt.load(Ordering::Relaxed) {
            self.connection.abort();
        }
    }
}

/// What a transaction begins with: each statement, and what it is called.
fn opening(lock: &str, limit: Duration, usual: Duration) -> [(String, &'static str); 4] {
    [
        (time_limit(limit), "limiting the LOCK"),
        ("BEGIN".to_owned(), "BEGIN"),
        (lock.to_owned(), LOCK),
        (time_limit(usual), "limiting statements"),
    ]
}

/// What the LOCK of a transaction is called.
pub(crate) const LOCK: &str = "LOCK";

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

    #[test]
    fn a_refusal_shows_its_code_and_where_in_s3_it_was() {
        let refused = |message: &str, context: &str| {
            let detail = format!(
                "\n  -----\n  error:  {message}\n  code:      8001\n  context:   {context}\n  query:     7\n  -----\n"
            );
            SqlFailure::Refused { state: "XX000".to_owned(), message: message.to_owned(), detail }
        };
        let failure = refused("S3ServiceException:Access Denied", "Listing bucket=b prefix=ToIngest/");
        assert_eq!(failure.code(), Some(8001));
        assert_eq!(
            failure.to_string(),
            "S3ServiceException:Access Denied (code 8001) [Listing bucket=b prefix=ToIngest/]"
        );
        // Nobody lists what Redshift puts into a context, so it is shown where it is known to be of S3.
        let failure = refused("Row too wide", "Named by nobody");
        assert_eq!(failure.to_string(), "Row too wide (code 8001)");
        assert_eq!(SqlFailure::lost("gone").code(), None);
    }

    #[test]
    fn a_refusal_shows_no_value_of_a_record() {
        let failure = SqlFailure::Refused {
            state: "XX000".to_owned(),
            message: "Invalid digit, Value 'N', Pos 0, Type: Decimal".to_owned(),
            detail: "code:      1207\n  context:   Named by nobody\n".to_owned(),
        };
        assert_eq!(failure.to_string(), "Invalid digit, Value (1 bytes), Pos 0, Type: Decimal (code 1207)");
    }
}
