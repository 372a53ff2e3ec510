//! Whom statements are sent to: a session at Redshift, or in tests a script of answers. And the statements that several
//! transactions send.

use std::time::Duration;

use shared::clock::Clock;

use crate::failure::LoadFailure;
use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::doing::Doing;

/// Asks for the id of the latest COPY of the session. It is for people only, so a server that refuses it is not asked.
pub(super) const COPY_ID: &str = "SELECT pg_last_copy_id()";
/// Sent alone: Redshift does not run a function of the leader node together with tables.
pub(super) const PID: &str = "SELECT pg_backend_pid()";

pub trait Server: Sync {
    /// Runs one statement. Without an answer it may have had its effect.
    fn run(&self, sql: &str) -> impl Future<Output = Result<Rows, SqlFailure>> + Send;

    /// Begins a transaction with `lock`, a LOCK that may take `limit`; later statements have the limit of the session. A
    /// failure says what was being done, and may leave a transaction open that must be rolled back.
    fn begin(
        &self,
        lock: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<(), (SqlFailure, Doing)>> + Send;

    fn roll_back(&self) -> impl Future<Output = ()> + Send;

    /// Whether the id of the latest COPY can be asked for.
    fn tells_copy_id(&self) -> bool;

    fn clock(&self) -> &Clock;
}

/// Reads a view that not every Redshift has and not every user may see.
pub(super) async fn read_view(server: &impl Server, view: &str, sql: &str) -> Option<Rows> {
    let rows = server.run(sql).await;
    rows.inspect_err(|error| tracing::debug!(%error, view, "cannot read a view of Redshift")).ok()
}

/// Why a transaction probably had no effect.
#[derive(Debug)]
pub(super) enum Aborted {
    /// And what the statement was for.
    Sql(SqlFailure, Doing),
    /// COPY counted other rows than it should.
    Count {
        copied: String,
        /// The COPY, if the server tells.
        query: Option<i64>,
    },
    /// The transaction did not begin, or must not be committed.
    Load(LoadFailure),
}

impl From<LoadFailure> for Aborted {
    fn from(failure: LoadFailure) -> Self {
        Self::Load(failure)
    }
}

pub(super) async fn run(server: &impl Server, sql: &str, doing: Doing) -> Result<Rows, Aborted> {
    server.run(sql).await.map_err(|failure| Aborted::Sql(failure, doing))
}

/// Runs a COPY that must find so many rows. Returns its id, if the server tells.
pub(super) async fn copy(server: &impl Server, sql: &str, rows: u64) -> Result<Option<i64>, Aborted> {
    run(server, sql, Doing::Copy).await?;
    let counted = run(server, "SELECT pg_last_copy_count()", Doing::Count).await?;
    let copied = counted.single().unwrap_or("no count of").trim().to_owned();
    let query = if server.tells_copy_id() {
        run(server, COPY_ID, Doing::AskQueryId).await?.single().and_then(|id| id.parse().ok())
    } else {
        None
    };
    if copied.parse() == Ok(rows) { Ok(query) } else { Err(Aborted::Count { copied, query }) }
}

#[cfg(test)]
pub(crate) mod script {
    use std::sync::Mutex;

    use super::*;

    /// Answers what it was told to, and remembers what it was sent.
    pub(crate) struct Script {
        answers: Vec<(&'static str, Result<Rows, SqlFailure>)>,
        sent: Mutex<Vec<String>>,
        clock: Clock,
    }

    impl Default for Script {
        fn default() -> Self {
            let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
            Self { answers: Vec::new(), sent: Mutex::default(), clock }
        }
    }

    impl Script {
        /// Answers statements that contain `part`; the first that fits counts. All others get no rows.
        pub(crate) fn answer(mut self, part: &'static str, rows: &[&[Option<&str>]]) -> Self {
            let row = |row: &&[Option<&str>]| row.iter().map(|cell| cell.map(str::to_owned)).collect();
            self.answers.push((part, Ok(Rows(rows.iter().map(row).collect()))));
            self
        }

        /// Refuses statements that contain `part`.
        pub(crate) fn refuse(mut self, part: &'static str, message: &str) -> Self {
            let state = "XX000".to_owned();
            let (message, detail) = (message.to_owned(), String::new());
            self.answers.push((part, Err(SqlFailure::Refused { state, message, detail })));
            self
        }

        /// What it was sent.
        pub(crate) fn sent(&self) -> Vec<String> {
            self.sent.lock().unwrap().clone()
        }

        /// The first words of what it was sent.
        pub(crate) fn verbs(&self) -> Vec<String> {
            let verb = |sql: &String| sql.split(' ').next().unwrap_or_default().to_owned();
            self.sent().iter().map(verb).collect()
        }

        fn answered(&self, sql: &str) -> Result<Rows, SqlFailure> {
            self.sent.lock().unwrap().push(sql.to_owned());
            let fits = self.answers.iter().find(|(part, _)| sql.contains(part));
            fits.map_or_else(|| Ok(Rows::default()), |(_, answer)| answer.clone())
        }
    }

    impl Server for Script {
        async fn run(&self, sql: &str) -> Result<Rows, SqlFailure> {
            self.answered(sql)
        }

        async fn begin(&self, lock: &str, _: Duration) -> Result<(), (SqlFailure, Doing)> {
            for (sql, doing) in [("BEGIN", Doing::Begin), (lock, Doing::Lock)] {
                self.answered(sql).map_err(|failure| (failure, doing))?;
            }
            Ok(())
        }

        async fn roll_back(&self) {
            let _ = self.answered("ROLLBACK");
        }

        fn tells_copy_id(&self) -> bool {
            false
        }

        fn clock(&self) -> &Clock {
            &self.clock
        }
    }
}
