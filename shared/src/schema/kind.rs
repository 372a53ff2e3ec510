//! Kinds: how the JSON value of a field is read.

use crate::schema::sql_type::SqlType;
use std::fmt;
use std::str::FromStr;

/// How the JSON value of a field is read. Adobe sends strings for numbers and numbers for strings: every kind
/// accepts both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A string as it is; the text of a number or boolean; the JSON text of anything else.
    Text,
    /// A whole number.
    Integer,
    /// A whole number from 0 to 2^64-1, such as a hit id.
    Unsigned,
    /// A number, kept exactly.
    Decimal,
    /// true/false, 0/1, Y/N, yes/no.
    Boolean,
    /// Seconds since 1970, as a UTC date and time.
    Timestamp,
    /// Sum of count × 10^exponent over an array of `{count, exponent}`, exactly.
    EventValue,
    /// A string, an array or `{values, delim}`: the values joined by their delimiter, `,` if none is given.
    List,
    /// The JSON text of the value.
    Json,
    /// The JSON text of the whole record.
    Record,
    /// The name of the producer.
    Instance,
    /// The id of the batch that brings the row to Redshift, as in the ledger.
    Batch,
    /// When the row was loaded: filled by Redshift, so no part of a row or of COPY.
    LoadTime,
}

/// The characters of a batch id.
const BATCH_BYTES: u32 = 36;

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Text,
        Self::Integer,
        Self::Unsigned,
        Self::Decimal,
        Self::Boolean,
        Self::Timestamp,
        Self::EventValue,
        Self::List,
        Self::Json,
        Self::Record,
        Self::Instance,
        Self::Batch,
        Self::LoadTime,
    ];

    /// The name in a schema file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Decimal => "decimal",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::EventValue => "event_value",
            Self::List => "list",
            Self::Json => "json",
            Self::Record => "record",
            Self::Instance => "instance",
            Self::Batch => "batch",
            Self::LoadTime => "load_time",
        }
    }

    /// Whether its value comes from the record, by a path.
    pub fn is_from_record(self) -> bool {
        !matches!(self, Self::Instance | Self::Batch | Self::LoadTime)
    }

    /// Whether every value of this kind has a form in `sql_type`; the error is the rule.
    pub(super) fn check_type(self, sql_type: SqlType) -> Result<(), String> {
        let (fits, rule) = match self {
            Self::Text | Self::List | Self::Instance => {
                (matches!(sql_type, SqlType::Varchar(_)), "varchar(n)")
            }
            Self::Batch => (
                matches!(sql_type, SqlType::Varchar(BATCH_BYTES..)),
                "varchar(36) or wider: a batch id has 36 characters",
            ),
            Self::Integer => (sql_type.is_whole_number(), "smallint, integer, bigint or decimal(p,0)"),
            Self::Unsigned => (
                matches!(sql_type, SqlType::Decimal { precision: 20.., scale: 0 }),
                "decimal(20,0) or a wider decimal(p,0), since bigint ends at 2^63-1",
            ),
            Self::Decimal => (matches!(sql_type, SqlType::Decimal { .. }), "decimal(p,s)"),
            Self::Boolean => (sql_type == SqlType::Boolean, "boolean"),
            Self::Timestamp | Self::LoadTime => (sql_type == SqlType::Timestamp, "timestamp"),
            Self::EventValue => (
                matches!(sql_type, SqlType::Decimal { .. }) || sql_type.is_whole_number(),
                "decimal(p,s), smallint, integer or bigint",
            ),
            Self::Json | Self::Record => {
                (matches!(sql_type, SqlType::Varchar(_) | SqlType::Super), "varchar(n) or super")
            }
        };
        if fits { Ok(()) } else { Err(format!("kind `{self}` takes type {rule}, not {sql_type}")) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("there is no kind `{}`; kinds are {}", text.escape_debug(), names.join(", "))
        })
    }
}
