//! What Redshift answers to a statement: rows, or why there are none.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use shared::causes::causes;

use crate::redshift::redact;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlFailure {
    Refused {
        /// SQLSTATE; nearly always `XX000`, whatever the error is.
        state: String,
        message: String,
        /// The DETAIL, a block with `code:` and `context:` among its lines.
        detail: String,
    },
    /// AWS gave out no password, so that there is no connection.
    NoPassword {
        /// The action of AWS that was asked for one.
        action: &'static str,
        why: String,
    },
    /// There was no answer, or no connection in the first place.
    Lost(String),
}

impl SqlFailure {
    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Self::Lost(why.into())
    }

    /// Redshift's own error code, from the DETAIL.
    pub(super) fn code(&self) -> Option<u32> {
        self.detail_line("code:")?.parse().ok()
    }

    pub(super) fn is_login(&self) -> bool {
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
            Self::NoPassword { action, why } => write!(f, "{action} gave no password: {why}"),
            Self::Lost(why) => f.write_str(why),
            Self::Refused { message, .. } => {
                f.write_str(&redact::message(message.trim()))?;
                if let Some(code) = self.code() {
                    write!(f, " (code {code})")?;
                }
                match self.detail_line("context:") {
                    Some(context) if !context.is_empty() && redact::may_show_context(message) => {
                        write!(f, " [{}]", redact::message(context))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl From<tokio_postgres::Error> for SqlFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Refused {
                state: refusal.code().code().to_owned(),
                message: refusal.message().to_owned(),
                detail: refusal.detail().unwrap_or_default().to_owned(),
            },
            None => Self::Lost(causes(&error)),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

impl Rows {
    /// The only value of an answer such as that to `SELECT pg_last_copy_count()`.
    pub(crate) fn single(&self) -> Option<&str> {
        self.first().text(0)
    }

    /// The first row; without one, a row that has nothing but NULL.
    pub(super) fn first(&self) -> Row<'_> {
        Row(self.0.first().map_or(&[], Vec::as_slice))
    }

    pub(super) fn last(&self) -> Option<Row<'_>> {
        self.0.last().map(|cells| Row(cells))
    }

    /// Reads each row. Rows that cannot be read are left out: somebody else wrote them.
    pub(crate) fn read<T>(&self, read: impl Fn(Row<'_>) -> Option<T>) -> Vec<T> {
        self.0.iter().filter_map(|cells| read(Row(cells))).collect()
    }

    pub(crate) fn first_column<T: FromStr>(&self) -> Vec<T> {
        self.read(|row| row.get(0))
    }
}

/// A row of an answer. A column that it does not have is NULL.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [Option<String>]);

impl<'a> Row<'a> {
    /// As it came, blanks included.
    pub(crate) fn text(self, column: usize) -> Option<&'a str> {
        self.0.get(column)?.as_deref()
    }

    /// Redshift pads texts with blanks to the width of their column.
    pub(super) fn trimmed(self, column: usize) -> Option<&'a str> {
        self.text(column).map(str::trim)
    }

    pub(crate) fn get<T: FromStr>(self, column: usize) -> Option<T> {
        self.trimmed(column)?.parse().ok()
    }

    /// A number that the answer to `sql` must have.
    pub(super) fn number(self, column: usize, sql: &str) -> Result<u64, SqlFailure> {
        self.get(column).ok_or_else(|| SqlFailure::lost(format!("no number in the answer to {sql}")))
    }

    pub(super) fn time(self, column: usize) -> Option<DateTime<Utc>> {
        self.text(column).and_then(read_moment)
    }
}

/// A timestamp as Redshift writes it.
pub(crate) fn read_moment(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

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
