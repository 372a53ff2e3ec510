//! Compression encodings of a column: <https://docs.aws.amazon.com/redshift/latest/dg/c_Compression_encodings.html>.

use crate::schema::sql_type::SqlType;
use crate::schema::words::words;

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
