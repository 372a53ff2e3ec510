//! In which of the ways that Redshift has, or may have, the stand-in behaves. They can be changed while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::errors::SqlError;

/// The switches. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ways(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    serverless: AtomicBool,
    rows_as_lines: AtomicBool,
    no_error_tables: AtomicBool,
    no_copy_id: AtomicBool,
    serializable: AtomicBool,
    no_temp: AtomicBool,
    no_terminating: AtomicBool,
    no_session_tables: AtomicBool,
    attached_role: Mutex<Option<String>>,
    denied: Mutex<Option<(Grant, String)>>,
}

/// What a user may lack a grant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// USAGE of a schema.
    Schema,
    /// Every privilege on a table.
    Relation,
}

impl Ways {
    /// A serverless workgroup: there are no STL tables, and errors name the SYS view
    /// (<https://docs.aws.amazon.com/redshift/latest/dg/c_intro_system_views.html>).
    pub fn set_serverless(&self, on: bool) {
        self.0.serverless.store(on, Ordering::Relaxed);
    }

    /// `line_number` of a load error counts rows, and not lines of the file. Which of the two Redshift does with a CSV
    /// value of several lines is not documented.
    pub fn set_rows_as_lines(&self, on: bool) {
        self.0.rows_as_lines.store(on, Ordering::Relaxed);
    }

    /// The user may read no table of load errors.
    pub fn set_error_tables_forbidden(&self, on: bool) {
        self.0.no_error_tables.store(on, Ordering::Relaxed);
    }

    /// Transactions that begin from now on are SERIALIZABLE: a cycle of reads and writes ends with 1023. Otherwise they
    /// are SNAPSHOT, Redshift's default, where such a cycle is nobody's error. The level is the database's: there is
    /// none for a single transaction (<https://docs.aws.amazon.com/redshift/latest/dg/c_serial_isolation.html>).
    pub fn set_serializable(&self, on: bool) {
        self.0.serializable.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_serializable(&self) -> bool {
        self.0.serializable.load(Ordering::Relaxed)
    }

    /// PostgreSQL's level of the same meaning. It too reads by one snapshot, taken with the first statement that needs
    /// one, and LOCK is none.
    pub(crate) fn level(&self) -> &'static str {
        if self.is_serializable() { "SERIALIZABLE" } else { "REPEATABLE READ" }
    }

    /// There is no `pg_last_copy_id()`.
    pub fn set_copy_id_untold(&self, on: bool) {
        self.0.no_copy_id.store(on, Ordering::Relaxed);
    }

    /// The user may create no temporary table: the privilege TEMP on the database, which everybody has as member of
    /// PUBLIC, was taken away.
    pub fn set_temp_forbidden(&self, on: bool) {
        self.0.no_temp.store(on, Ordering::Relaxed);
    }

    /// The user may end no session, not even one of their own.
    pub fn set_terminating_forbidden(&self, on: bool) {
        self.0.no_terminating.store(on, Ordering::Relaxed);
    }

    /// The user may read no table of sessions, and not who holds which lock.
    pub fn set_session_tables_forbidden(&self, on: bool) {
        self.0.no_session_tables.store(on, Ordering::Relaxed);
    }

    /// COPY can assume this role and no other; without one, every role whose ARN has the form of one.
    pub fn attach_role(&self, arn: &str) {
        *self.0.attached_role.lock().unwrap_or_else(PoisonError::into_inner) = Some(arn.to_owned());
    }

    pub(crate) fn may_assume(&self, arn: &str) -> bool {
        let attached = self.0.attached_role.lock().unwrap_or_else(PoisonError::into_inner);
        attached.as_deref().is_none_or(|attached| attached == arn)
    }

    /// The user lacks this grant, or with None no grant any more. Seen where a statement quotes the name, as the ingester's
    /// statements do; the catalog shows the table all the same.
    pub fn deny(&self, what: Option<(Grant, &str)>) {
        let what = what.map(|(grant, name)| (grant, name.to_owned()));
        *self.0.denied.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn denied(&self, sql: &str) -> Option<String> {
        let denied = self.0.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let (grant, name) = denied.as_ref().filter(|(_, name)| sql.contains(&format!("\"{name}\"")))?;
        let kind = match grant {
            Grant::Schema => "schema",
            Grant::Relation => "relation",
        };
        Some(format!("for {kind} {name}"))
    }

    pub(crate) fn serverless(&self) -> bool {
        self.0.serverless.load(Ordering::Relaxed)
    }

    pub(crate) fn rows_as_lines(&self) -> bool {
        self.0.rows_as_lines.load(Ordering::Relaxed)
    }

    /// The error of a statement that asks for a table this deployment does not have, or that is forbidden.
    pub(crate) fn missing(&self, sql: &str, database: &str) -> Option<SqlError> {
        let sql = sql.to_ascii_lowercase();
        if self.0.no_copy_id.load(Ordering::Relaxed) && sql.contains("pg_last_copy_id") {
            return Some(SqlError::with_state("42883", "function pg_last_copy_id() does not exist"));
        }
        let denied = |what: &str| Some(SqlError::with_state("42501", format!("permission denied {what}")));
        if let Some(what) = self.denied(&sql) {
            return denied(&what);
        }
        if self.0.no_temp.load(Ordering::Relaxed)
            && (sql.starts_with("create temp ") || sql.starts_with("create temporary "))
        {
            return denied(&format!("to create temporary tables in database \"{database}\""));
        }
        if self.0.no_terminating.load(Ordering::Relaxed) && sql.contains("pg_terminate_backend") {
            return denied("for function pg_terminate_backend");
        }
        let mut words = sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let forbidden = |word: &&str| {
            (self.0.no_error_tables.load(Ordering::Relaxed) && is_of_load_errors(word))
                || (self.0.no_session_tables.load(Ordering::Relaxed) && is_of_sessions(word))
        };
        if let Some(table) = words.clone().find(forbidden) {
            return denied(&format!("for relation {table}"));
        }
        let gone =
            words.find(|word| self.serverless() && (word.starts_with("stl_") || word.starts_with("stv_")))?;
        Some(SqlError::with_state("42P01", format!("relation \"{gone}\" does not exist")))
    }
}

fn is_of_load_errors(word: &str) -> bool {
    ["stl_load_errors", "stl_loaderror_detail", "sys_load_error_detail"].contains(&word)
}

fn is_of_sessions(word: &str) -> bool {
    ["stv_sessions", "sys_session_history", "svv_transactions"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serverless_workgroup_has_no_stl_tables() {
        let ways = Ways::default();
        assert!(ways.missing("SELECT * FROM stl_load_errors", "dev").is_none());
        ways.set_serverless(true);
        let missing = ways.missing("SELECT * FROM STL_load_errors", "dev").unwrap();
        assert_eq!(missing.to_string(), "42P01: relation \"stl_load_errors\" does not exist");
        assert!(ways.missing("SELECT * FROM sys_load_error_detail", "dev").is_none());
        ways.set_error_tables_forbidden(true);
        assert!(
            ways.missing("SELECT 1 FROM sys_load_error_detail", "dev").is_some()
                && ways.missing("SELECT 1", "dev").is_none()
        );
        ways.set_temp_forbidden(true);
        let missing = ways.missing("CREATE TEMP TABLE s (LIKE t)", "dev").unwrap();
        assert_eq!(
            missing.to_string(),
            "42501: permission denied to create temporary tables in database \"dev\""
        );
        assert!(ways.missing("CREATE TABLE s (a int)", "dev").is_none());
    }

    #[test]
    fn a_missing_grant_is_told_by_the_statements_that_need_it() {
        let ways = Ways::default();
        let select = "SELECT 1 FROM \"public\".\"hits\" WHERE false";
        ways.deny(Some((Grant::Relation, "hits")));
        let said = |sql| ways.missing(sql, "dev").map(|error| error.to_string());
        assert_eq!(said(select).as_deref(), Some("42501: permission denied for relation hits"));
        assert_eq!(said("SELECT 1 FROM \"public\".\"ledger\""), None);
        ways.deny(Some((Grant::Schema, "public")));
        assert_eq!(said(select).as_deref(), Some("42501: permission denied for schema public"));
        ways.deny(None);
        assert_eq!(said(select), None);
    }
}
