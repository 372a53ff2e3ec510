//! Kinds: how the JSON value of a field is read.

use crate::schema::sql_type::SqlType;
use crate::schema::words::words;

words!(
    /// How the JSON value of a field is read. Adobe sends strings for numbers and numbers for strings: every kind
    /// accepts both.
    Kind ("kind") {
        /// A string as it is; the text of a number or boolean; the JSON text of anything else.
        Text = "text",
        /// A whole number.
        Integer = "integer",
        /// A whole number from 0 to 2^64-1, such as a hit id.
        Unsigned = "unsigned",
        /// A number, kept exactly.
        Decimal = "decimal",
        /// true/false, 0/1, Y/N, yes/no.
        Boolean = "boolean",
        /// Seconds since 1970, as a UTC date and time.
        Timestamp = "timestamp",
        /// Sum of count × 10^exponent over an array of `{count, exponent}`, exactly.
        EventValue = "event_value",
        /// A string, an array or `{values, delim}`: the values joined by their delimiter, `,` if none is given.
        List = "list",
        /// The JSON text of the value.
        Json = "json",
        /// The JSON text of the whole record.
        Record = "record",
        /// The name of the producer.
        Instance = "instance",
        /// The id of the batch that brings the row to Redshift, as in the ledger.
        Batch = "batch",
        /// When the row was loaded: filled by Redshift, so no part of a row or of COPY.
        LoadTime = "load_time",
    }
);

/// The characters of a batch id.
const BATCH_BYTES: u32 = 36;

impl Kind {
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
