//! Redshift's way of saying no: SQLSTATE, message text and the DETAIL block.
//!
//! Clients of Redshift classify a failure by its message and by `code:` in the DETAIL, because nearly every
//! failure of a load carries the one SQLSTATE `XX000`. So the texts here are the interface.

use std::fmt::Write;

use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use tokio_postgres::error::SqlState;

const SERIALIZABLE: &str = "1023";
const CONFLICT: &str = "could not complete because of conflict with concurrent transaction";

/// An error as the client will see it.
#[derive(Debug, Clone)]
pub(crate) struct SqlError {
    fatal: bool,
    state: String,
    message: String,
    detail: Option<String>,
}

/// What stands in the DETAIL block besides the message.
pub(crate) struct Where<'a> {
    pub(crate) code: u32,
    pub(crate) context: &'a str,
    pub(crate) query: i64,
    pub(crate) location: &'a str,
    pub(crate) pid: i32,
}

impl SqlError {
    /// An `XX000` without a DETAIL block.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::with_state("XX000", message)
    }

    /// An error whose SQLSTATE Redshift inherited from PostgreSQL.
    pub(crate) fn with_state(state: &str, message: impl Into<String>) -> Self {
        Self { fatal: false, state: state.to_owned(), message: message.into(), detail: None }
    }

    /// An error that ends the connection.
    pub(crate) fn fatal(state: &str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::with_state(state, message) }
    }

    /// Something Redshift does not have, or this stand-in does not know. Both are loud.
    pub(crate) fn refused(what: impl AsRef<str>) -> Self {
        Self::internal(format!("the Redshift stand-in refuses this: {}", what.as_ref()))
    }

    /// An `XX000` with Redshift's block of `error: / code: / context: / query: / location: / process:`.
    pub(crate) fn block(message: impl Into<String>, at: &Where<'_>) -> Self {
        let message = message.into();
        let rule = "  -----------------------------------------------";
        let mut detail = String::from("\n");
        let _ = writeln!(detail, "{rule}");
        let _ = writeln!(detail, "  error:  {message}");
        let _ = writeln!(detail, "  code:      {}", at.code);
        let _ = writeln!(detail, "  context:   {}", at.context);
        let _ = writeln!(detail, "  query:     {}", at.query);
        let _ = writeln!(detail, "  location:  {}", at.location);
        let _ = writeln!(detail, "  process:   padbmaster [pid={}]", at.pid);
        let _ = writeln!(detail, "{rule}");
        Self { detail: Some(detail), ..Self::internal(message) }
    }

    /// <https://github.com/aws/aws-sdk-pandas/issues/665> shows the message to be the bare number.
    pub(crate) fn serializable(pid: i32) -> Self {
        let detail = format!(
            "Serializable isolation violation on table - 100101, transactions forming the cycle are: 2001, 2002 (pid:{pid})"
        );
        Self { detail: Some(detail), ..Self::internal(SERIALIZABLE) }
    }

    /// Two transactions under snapshot isolation change the same rows.
    pub(crate) fn conflict() -> Self {
        Self::internal(CONFLICT)
    }

    /// Whether concurrent transactions are the reason.
    pub(crate) fn is_conflict(&self) -> bool {
        [SERIALIZABLE, CONFLICT].contains(&self.message.as_str())
    }

    /// Somebody cancelled the statement, or its time was over.
    pub(crate) fn cancelled(pid: i32) -> Self {
        Self::with_state("57014", format!("Query ({pid}) cancelled on user's request"))
    }

    /// What PostgreSQL answers to every statement after the one that failed, until ROLLBACK.
    pub(crate) fn aborted() -> Self {
        Self::with_state(
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block",
        )
    }

    /// Puts an error of the private PostgreSQL into Redshift's words.
    pub(crate) fn from_postgres(error: &tokio_postgres::Error, pid: i32) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::fatal("57P01", format!("the stand-in lost its PostgreSQL session: {error}"));
        };
        let code = db.code();
        if *code == SqlState::T_R_SERIALIZATION_FAILURE {
            // PostgreSQL names what made the cycle; a row that another has changed is none yet.
            let cycle = db.message().contains("read/write dependencies");
            return if cycle { Self::serializable(pid) } else { Self::conflict() };
        }
        if *code == SqlState::QUERY_CANCELED {
            return Self::cancelled(pid);
        }
        if *code == SqlState::CHECK_VIOLATION {
            let at = Where {
                code: 8001,
                context: "Value too long for type character varying",
                query: 0,
                location: "string.cpp:260",
                pid,
            };
            return Self::block("Value too long for character type", &at);
        }
        if *code == SqlState::NOT_NULL_VIOLATION {
            let column = db.column().unwrap_or("?");
            return Self::internal(format!("Cannot insert a NULL value into column {column}"));
        }
        let fatal = db.severity() == "FATAL" || db.severity() == "PANIC";
        Self {
            fatal,
            state: code.code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
        }
    }

    /// Whether the connection ends with this error.
    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// The message on the wire.
    pub(crate) fn response(self) -> ErrorResponse {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let mut fields = vec![(b'S', severity.to_owned()), (b'C', self.state), (b'M', self.message)];
        if let Some(detail) = self.detail {
            fields.push((b'D', detail));
        }
        ErrorResponse::new(fields)
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.state, self.message)
    }
}

/// Redshift sends its remarks with severity INFO: <https://github.com/dbcrossbar/dbcrossbar/issues/41>.
pub(crate) fn info(message: String) -> NoticeResponse {
    NoticeResponse::new(vec![(b'S', "INFO".to_owned()), (b'C', "00000".to_owned()), (b'M', message)])
}
