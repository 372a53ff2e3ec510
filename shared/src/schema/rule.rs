//! What happens to a value that the type of its column cannot hold as it was sent.

use crate::schema::kind::Kind;
use crate::schema::sql_type::SqlType;
use crate::schema::words::words;

words!(
    /// What happens to a value that the type of its column cannot hold as it was sent. Each time is counted by column.
    Rule ("rule") {
        /// As much of it is stored as the type can hold: text is cut between two characters, loses its NULs, and has
        /// half a surrogate pair, and what was no UTF-8, replaced by U+FFFD; so are the strings within a SUPER; an array
        /// of JSON is cut behind a whole element; a number or time is rounded to the digits there are, half away from
        /// zero. What cannot be cut is NULL.
        Cut = "cut",
        /// The column is NULL.
        Null = "null",
        /// The record is a reject.
        Reject = "reject",
    }
);

impl Rule {
    /// The rule of a column that names none: text and JSON are cut, anything else NULL.
    pub fn default_of(kind: Kind) -> Self {
        match kind {
            Kind::Text | Kind::List | Kind::Instance | Kind::Json | Kind::Record => Self::Cut,
            _ => Self::Null,
        }
    }

    /// Whether it makes sense for such a column; the error says why not.
    pub(super) fn check(self, kind: Kind, sql_type: SqlType) -> Result<(), String> {
        let can_be_cut = match kind {
            Kind::Text
            | Kind::List
            | Kind::Instance
            | Kind::Timestamp
            | Kind::Decimal
            | Kind::Json
            | Kind::Record => true,
            Kind::EventValue => !sql_type.is_whole_number(),
            Kind::Integer | Kind::Unsigned | Kind::Boolean | Kind::Batch | Kind::LoadTime => false,
        };
        if self == Self::Cut && !can_be_cut {
            return Err(format!(
                "rule `cut` is for text, JSON and digits after the point: kind `{kind}` as {sql_type} takes `null` or `reject`"
            ));
        }
        Ok(())
    }
}
