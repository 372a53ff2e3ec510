//! The words of a schema file: kinds, rules and encodings.

use crate::schema::sql_type::SqlType;

macro_rules! words {
    ($(#[$about:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// The word in a schema file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                [$(Self::$value),*].into_iter().find(|value| value.name() == text).ok_or_else(|| {
                    let (what, names) = ($what, [$($word),*].join(", "));
                    format!("there is no {what} `{}`; {what}s are {names}", text.escape_debug())
                })
            }
        }
    };
}

words!(
    /// How the JSON value of a field is read. Every kind takes numbers as strings and strings as numbers.
    #[allow(missing_docs, reason = "the names say it")]
    Kind ("kind") {
        /// A string as it is; the text of a number or boolean; the JSON text of anything else.
        Text = "text",
        Integer = "integer",
        /// A whole number from 0 to 2^64-1, such as a hit id.
        Unsigned = "unsigned",
        Decimal = "decimal",
        /// true/false, 0/1, Y/N, yes/no.
        Boolean = "boolean",
        /// Seconds since 1970, as a UTC date and time.
        Timestamp = "timestamp",
        /// Sum of count × 10^exponent over an array of `{count, exponent}`, exactly.
        EventValue = "event_value",
        /// A string, an array or `{values, delim}`: the values joined by their delimiter, `,` if none is given.
        List = "list",
        Json = "json",
        Record = "record",
        Instance = "instance",
        /// The id of the batch that brings the row to Redshift, as in the ledger.
        Batch = "batch",
        /// When the row was loaded: filled by Redshift, so no part of a row or of COPY.
        LoadTime = "load_time",
    }
);

const BATCH_BYTES: u32 = 36;

impl Kind {
    /// Whether its value comes from the record, by a path.
    pub fn is_from_record(self) -> bool {
        !matches!(self, Self::Instance | Self::Batch | Self::LoadTime)
    }

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

words!(
    /// What happens to a value that the type of its column cannot hold as it was sent. Each time is counted by column.
    Rule ("rule") {
        /// As much is stored as the type holds: text is cut between characters, arrays of JSON behind a whole element;
        /// numbers and times are rounded half away from zero. NULs go. What cannot be cut is NULL.
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

words!(
    /// How Redshift compresses a column.
    #[allow(missing_docs, reason = "Redshift's own names")]
    Encoding ("encoding") {
        Raw = "raw",
        Az64 = "az64",
        Bytedict = "bytedict",
        Delta = "delta",
        Delta32k = "delta32k",
        Lzo = "lzo",
        Mostly8 = "mostly8",
        Mostly16 = "mostly16",
        Mostly32 = "mostly32",
        Runlength = "runlength",
        Text255 = "text255",
        Text32k = "text32k",
        Zstd = "zstd",
    }
);

impl Encoding {
    /// Whether Redshift takes it for a column of this type.
    pub fn fits(self, sql_type: SqlType) -> bool {
        use SqlType::{Bigint, Boolean, Decimal, Integer, Smallint, Super, Timestamp, Varchar};
        match self {
            Self::Raw | Self::Zstd => true,
            Self::Az64 => matches!(sql_type, Smallint | Integer | Bigint | Decimal { .. } | Timestamp),
            Self::Bytedict => !matches!(sql_type, Boolean | Super),
            Self::Delta => matches!(sql_type, Smallint | Integer | Bigint | Decimal { .. } | Timestamp),
            Self::Delta32k => matches!(sql_type, Integer | Bigint | Decimal { .. } | Timestamp),
            Self::Lzo => sql_type != Boolean,
            Self::Mostly8 => matches!(sql_type, Smallint | Integer | Bigint | Decimal { .. }),
            Self::Mostly16 => matches!(sql_type, Integer | Bigint | Decimal { .. }),
            Self::Mostly32 => matches!(sql_type, Bigint | Decimal { .. }),
            Self::Runlength => sql_type != Super,
            Self::Text255 | Self::Text32k => matches!(sql_type, Varchar(_)),
        }
    }
}
