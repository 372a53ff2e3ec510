//! Compression encodings of a column: <https://docs.aws.amazon.com/redshift/latest/dg/c_Compression_encodings.html>.

use crate::schema::sql_type::SqlType;
use std::fmt;
use std::str::FromStr;

/// How Redshift compresses a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Redshift's own names")]
pub enum Encoding {
    Raw,
    Az64,
    Bytedict,
    Delta,
    Delta32k,
    Lzo,
    Mostly8,
    Mostly16,
    Mostly32,
    Runlength,
    Text255,
    Text32k,
    Zstd,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 13] = [
        Self::Raw,
        Self::Az64,
        Self::Bytedict,
        Self::Delta,
        Self::Delta32k,
        Self::Lzo,
        Self::Mostly8,
        Self::Mostly16,
        Self::Mostly32,
        Self::Runlength,
        Self::Text255,
        Self::Text32k,
        Self::Zstd,
    ];

    /// Redshift's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Az64 => "az64",
            Self::Bytedict => "bytedict",
            Self::Delta => "delta",
            Self::Delta32k => "delta32k",
            Self::Lzo => "lzo",
            Self::Mostly8 => "mostly8",
            Self::Mostly16 => "mostly16",
            Self::Mostly32 => "mostly32",
            Self::Runlength => "runlength",
            Self::Text255 => "text255",
            Self::Text32k => "text32k",
            Self::Zstd => "zstd",
        }
    }

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

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("there is no encoding `{}`; encodings are {}", text.escape_debug(), names.join(", "))
        })
    }
}
