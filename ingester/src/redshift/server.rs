//! Whom statements are sent to: a session at Redshift, or in tests a script of answers.

use std::time::Duration;

use crate::redshift::session::{Rows, Session, SqlFailure};

/// Answers one statement at a time.
pub trait Server: Sync {
    /// As [`Session::run`].
    fn run(&self, sql: &str) -> impl Future<Output = Result<Rows, SqlFailure>> + Send;

    /// As [`Session::begin`].
    fn begin(
        &self,
        lock: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<(), (SqlFailure, &'static str)>> + Send;

    /// As [`Session::roll_back`].
    fn roll_back(&self) -> impl Future<Output = ()> + Send;

    /// As [`Session::tells_copy_id`].
    fn tells_copy_id(&self) -> bool;
}

impl Server for Session {
    fn run(&self, sql: &str) -> impl Future<Output = Result<Rows, SqlFailure>> + Send {
        Session::run(self, sql)
    }

    fn begin(
        &self,
        lock: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<(), (SqlFailure, &'static str)>> + Send {
        Session::begin(self, lock, limit)
    }

    fn roll_back(&self) -> impl Future<Output = ()> + Send {
        Session::roll_back(self)
    }

    fn tells_copy_id(&self) -> bool {
        Session::tells_copy_id(self)
    }
}

#[cfg(test)]
pub(crate) mod script {
    use std::sync::Mutex;

    use super::*;

    /// Answers what it was told to, and remembers what it was sent.
    #[derive(Default)]
    pub(crate) struct Script {
        answers: Vec<(&'static str, Result<Rows, SqlFailure>)>,
        sent: Mutex<Vec<String>>,
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

        fn said(&self, sql: &str) -> Result<Rows, SqlFailure> {
            self.sent.lock().unwrap().push(sql.to_owned());
            let fits = self.answers.iter().find(|(part, _)| sql.contains(part));
            fits.map_or_else(|| Ok(Rows::default()), |(_, answer)| answer.clone())
        }
    }

    impl Server for Script {
        async fn run(&self, sql: &str) -> Result<Rows, SqlFailure> {
            self.said(sql)
        }

        async fn begin(&self, lock: &str, _: Duration) -> Result<(), (SqlFailure, &'static str)> {
            for (sql, doing) in [("BEGIN", "BEGIN"), (lock, "LOCK")] {
                self.said(sql).map_err(|failure| (failure, doing))?;
            }
            Ok(())
        }

        async fn roll_back(&self) {
            let _ = self.said("ROLLBACK");
        }

        fn tells_copy_id(&self) -> bool {
            false
        }
    }
}
