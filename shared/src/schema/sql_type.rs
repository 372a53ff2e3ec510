//! The Redshift types a column can have.

use std::fmt;
use std::str::FromStr;

/// A Redshift column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SqlType {
    /// Text of at most so many bytes (not characters), 1 to 65535.
    Varchar(u32),
    /// 16 bits, signed.
    Smallint,
    /// 32 bits, signed.
    Integer,
    /// 64 bits, signed.
    Bigint,
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    Boolean,
    /// Date and time without a zone; ours are UTC.
    Timestamp,
    Super,
}

/// A text that is not a type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is no type `{0}`; types are varchar(n), smallint, integer, bigint, decimal(p,s), boolean, timestamp, super"
)]
pub struct SqlTypeError(String);

impl SqlType {
    /// Whether it holds whole numbers only.
    pub fn is_whole_number(self) -> bool {
        matches!(self, Self::Smallint | Self::Integer | Self::Bigint | Self::Decimal { scale: 0, .. })
    }

    /// The most bytes a value's text can have in a row.
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Varchar(bytes) => bytes as usize,
            Self::Smallint => 6,
            Self::Integer => 11,
            Self::Bigint => 20,
            Self::Decimal { precision, .. } => usize::from(precision) + 3,
            Self::Boolean => 5,
            Self::Timestamp => 26,
            Self::Super => 65535,
        }
    }

    pub(super) fn validate(self) -> Result<(), String> {
        match self {
            Self::Varchar(bytes) if !(1..=65535).contains(&bytes) => {
                Err(format!("varchar holds 1 to 65535 bytes, not {bytes}"))
            }
            Self::Decimal { precision, .. } if !(1..=38).contains(&precision) => {
                Err(format!("decimal has a precision of 1 to 38, not {precision}"))
            }
            Self::Decimal { precision, scale } if scale > precision || scale > 37 => {
                Err(format!("decimal has a scale of 0 to its precision and at most 37, not {scale}"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varchar(bytes) => write!(f, "varchar({bytes})"),
            Self::Smallint => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::Bigint => f.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Super => f.write_str("super"),
        }
    }
}

impl FromStr for SqlType {
    type Err = SqlTypeError;

    /// Takes our own names, Redshift's synonyms, and the long names under which the catalog shows a live table.
    fn from_str(text: &str) -> Result<Self, SqlTypeError> {
        let refuse = || SqlTypeError(text.escape_debug().to_string());
        let lower = text.trim().to_ascii_lowercase();
        let (name, arguments) = match lower.split_once('(') {
            Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or_else(refuse)?)),
            None => (lower.as_str(), None),
        };
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| refuse());
        let small = |text: &str| text.trim().parse::<u8>().map_err(|_| refuse());
        match (name, arguments) {
            ("varchar" | "character varying", Some("max")) => Ok(Self::Varchar(65535)),
            ("varchar" | "character varying", Some(bytes)) => Ok(Self::Varchar(number(bytes)?)),
            ("smallint" | "int2", None) => Ok(Self::Smallint),
            ("integer" | "int" | "int4", None) => Ok(Self::Integer),
            ("bigint" | "int8", None) => Ok(Self::Bigint),
            ("decimal" | "numeric", Some(arguments)) => {
                let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
                Ok(Self::Decimal { precision: small(precision)?, scale: small(scale)? })
            }
            ("boolean" | "bool", None) => Ok(Self::Boolean),
            ("timestamp" | "timestamp without time zone", None) => Ok(Self::Timestamp),
            ("super", None) => Ok(Self::Super),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_prints_as_it_is_read() {
        for text in [
            "varchar(255)",
            "smallint",
            "integer",
            "bigint",
            "decimal(20,0)",
            "boolean",
            "timestamp",
            "super",
        ] {
            assert_eq!(text.parse::<SqlType>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn synonyms_and_catalog_names_are_read() {
        let same = [
            ("VARCHAR(MAX)", "varchar(65535)"),
            ("character varying(10)", "varchar(10)"),
            ("int4", "integer"),
            ("numeric(18, 2)", "decimal(18,2)"),
            ("decimal(9)", "decimal(9,0)"),
            ("timestamp without time zone", "timestamp"),
        ];
        for (text, name) in same {
            assert_eq!(text.parse::<SqlType>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_is_not_a_type_is_refused() {
        for text in [
            "",
            "text",
            "varchar",
            "varchar()",
            "varchar(-1)",
            "varchar(10",
            "decimal",
            "decimal(300,2)",
            "float",
        ] {
            assert!(text.parse::<SqlType>().is_err(), "{text}");
        }
        assert!(SqlType::Decimal { precision: 39, scale: 0 }.validate().is_err());
        assert!(SqlType::Decimal { precision: 5, scale: 6 }.validate().is_err());
        assert!(SqlType::Varchar(0).validate().is_err());
    }
}
