//! Whether COPY can load a column of the schema into a column of another type: it reads the text of each value as
//! the table's type wants it, so that the text decides and not the pair of types.

use shared::schema::{Kind, SqlType};

/// What becomes of the values, those that are not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Each is stored.
    All,
    /// Each is stored, some rounded, cut or read with a time zone.
    Altered,
    /// Some are stored; COPY refuses the rows of the others.
    Some,
    /// COPY refuses the row of any.
    None,
}

/// A type of the table, as COPY reads text for it.
enum Reader {
    Text {
        bytes: usize,
        ascii: bool,
    },
    Super,
    /// Of so many digits.
    Whole(u8),
    /// Of so many digits before the point and behind it.
    Decimal(u8, u8),
    /// Of binary digits: so many decimal ones survive.
    Float(u8),
    Boolean,
    Timestamp,
    TimestampWithZone,
    Date,
}

impl Reader {
    fn of(live: &str) -> Option<Self> {
        if let Ok(known) = live.parse::<SqlType>() {
            return Some(match known {
                SqlType::Varchar(bytes) => Self::text(bytes, false),
                SqlType::Smallint | SqlType::Integer | SqlType::Bigint => {
                    Self::Whole(digits(known).map_or(0, |(whole, _)| whole))
                }
                SqlType::Decimal { precision, scale } => {
                    Self::Decimal(precision.saturating_sub(scale), scale)
                }
                SqlType::Boolean => Self::Boolean,
                SqlType::Timestamp => Self::Timestamp,
                SqlType::Super => Self::Super,
            });
        }
        let (name, length) = live.split_once('(').unwrap_or((live, "1"));
        Some(match name.trim() {
            "character" | "char" | "bpchar" => {
                Self::text(length.trim_end_matches(')').trim().parse().ok()?, true)
            }
            "real" | "float4" => Self::Float(7),
            "double precision" | "float8" | "float" => Self::Float(15),
            "timestamp with time zone" | "timestamptz" => Self::TimestampWithZone,
            "date" => Self::Date,
            _ => return None,
        })
    }

    fn text(bytes: u32, ascii: bool) -> Self {
        Self::Text { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), ascii }
    }
}

/// The characters of a batch id.
const BATCH_BYTES: usize = 36;

/// Decimal digits before the point and behind it; none for what is no number.
fn digits(number: SqlType) -> Option<(u8, u8)> {
    match number {
        SqlType::Smallint => Some((5, 0)),
        SqlType::Integer => Some((10, 0)),
        SqlType::Bigint => Some((19, 0)),
        SqlType::Decimal { precision, scale } => Some((precision.saturating_sub(scale), scale)),
        _ => None,
    }
}

/// What becomes of the values of `wanted` in a column that Redshift's catalog calls `live`. Of a type that is not
/// known here nothing is known: COPY decides row by row.
pub(super) fn fit(wanted: SqlType, live: &str) -> Fit {
    use SqlType::{Boolean, Super, Timestamp, Varchar};
    let Some(live) = Reader::of(live) else { return Fit::Some };
    match (live, wanted) {
        // CHAR takes ASCII only and forgets blanks at the end.
        (Reader::Text { ascii: true, .. }, Varchar(_) | Super) => Fit::Some,
        // A SUPER value may be longer than any VARCHAR.
        (Reader::Text { .. }, Super) => Fit::Some,
        (Reader::Text { bytes, .. }, _) => text(wanted, bytes),
        // Text that begins like JSON must be JSON.
        (Reader::Super, Varchar(_) | Timestamp) => Fit::Some,
        (Reader::Super, Super | Boolean) => Fit::All,
        // Its integers have 64 bits, its fractions binary digits.
        (Reader::Super, SqlType::Bigint) => Fit::All,
        (Reader::Super, number) => all_or_altered(number, 18),
        (Reader::Boolean, Boolean) | (Reader::Timestamp, Timestamp) => Fit::All,
        // Without a zone in the text, that of the session.
        (Reader::TimestampWithZone, Timestamp) => Fit::Altered,
        // With DATEFORMAT 'auto' COPY would cut the time off; ours does not give it, and Redshift does not say.
        (Reader::Date, Timestamp) => Fit::Some,
        // Any text may be a date, and 1 or 0 a boolean.
        (Reader::Timestamp | Reader::TimestampWithZone | Reader::Date, Varchar(_)) => Fit::Some,
        (Reader::Timestamp | Reader::TimestampWithZone | Reader::Date, _) => Fit::None,
        (Reader::Boolean, Timestamp) => Fit::None,
        (Reader::Boolean, _) => Fit::Some,
        // Any text, and any JSON, may be a number; `true` and a time are none.
        (_, Varchar(_) | Super) => Fit::Some,
        (_, Boolean | Timestamp) => Fit::None,
        (Reader::Float(digits), number) => all_or_altered(number, digits),
        (Reader::Whole(digits), number) => whole(number, digits),
        (Reader::Decimal(whole, fraction), number) => decimal(number, whole, fraction),
    }
}

/// The same for a column of the schema. A batch id and a whole record are never a number, a boolean or a time, and
/// they are in every row.
pub(super) fn fit_kind(kind: Kind, wanted: SqlType, live: &str) -> Fit {
    match (kind, Reader::of(live)) {
        (Kind::Batch, Some(Reader::Text { bytes, .. })) if bytes >= BATCH_BYTES => Fit::All,
        (Kind::Batch, Some(Reader::Text { .. })) => Fit::None,
        (Kind::Batch | Kind::Record, Some(Reader::Text { .. } | Reader::Super) | None) => fit(wanted, live),
        (Kind::Batch | Kind::Record, Some(_)) => Fit::None,
        _ => fit(wanted, live),
    }
}

fn all_or_altered(number: SqlType, held: u8) -> Fit {
    match digits(number) {
        Some((whole, 0)) if whole <= held => Fit::All,
        _ => Fit::Altered,
    }
}

fn text(wanted: SqlType, bytes: usize) -> Fit {
    let shortest = match wanted {
        SqlType::Boolean => "true".len(),
        SqlType::Timestamp => "2000-01-01 00:00:00".len(),
        _ => 1,
    };
    match bytes {
        bytes if bytes >= wanted.max_bytes() => Fit::All,
        bytes if bytes >= shortest => Fit::Some,
        _ => Fit::None,
    }
}

fn whole(number: SqlType, held: u8) -> Fit {
    let fits = match (number, digits(number)) {
        // Integers end within their last digit: a decimal needs one less.
        (SqlType::Decimal { .. }, Some((whole, fraction))) => held > whole && fraction == 0,
        (_, Some((whole, _))) => held >= whole,
        (_, None) => false,
    };
    if fits { Fit::All } else { Fit::Some }
}

/// COPY cuts digits behind the point, and refuses too many before it.
fn decimal(number: SqlType, held_whole: u8, held_fraction: u8) -> Fit {
    match digits(number) {
        Some((whole, _)) if whole > held_whole => Fit::Some,
        Some((_, fraction)) if fraction > held_fraction => Fit::Altered,
        Some(_) => Fit::All,
        None => Fit::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Fit, pairs: &[(&str, &str)]) {
        for (wanted, live) in pairs {
            assert_eq!(fit(wanted.parse().unwrap(), live), expected, "{wanted} into {live}");
        }
    }

    #[test]
    fn a_type_that_holds_every_value_fits() {
        check(
            Fit::All,
            &[
                ("varchar(9)", "character varying(9)"),
                ("varchar(9)", "varchar(10)"),
                ("smallint", "bigint"),
                ("smallint", "real"),
                ("smallint", "character(6)"),
                ("integer", "numeric(10,0)"),
                ("integer", "double precision"),
                ("integer", "super"),
                ("bigint", "numeric(38,2)"),
                ("bigint", "super"),
                ("bigint", "character varying(20)"),
                ("decimal(9,2)", "numeric(10,3)"),
                ("decimal(18,0)", "bigint"),
                ("decimal(15,0)", "double precision"),
                ("decimal(7,0)", "real"),
                ("decimal(18,0)", "super"),
                ("decimal(20,0)", "character varying(23)"),
                ("timestamp", "timestamp without time zone"),
                ("timestamp", "character varying(26)"),
                ("timestamp", "character(26)"),
                ("boolean", "boolean"),
                ("boolean", "character varying(5)"),
                ("boolean", "super"),
                ("super", "super"),
            ],
        );
    }

    #[test]
    fn a_type_that_rounds_cuts_or_adds_a_zone_alters() {
        check(
            Fit::Altered,
            &[
                ("integer", "real"),
                ("bigint", "double precision"),
                ("decimal(9,2)", "double precision"),
                ("decimal(9,2)", "real"),
                ("decimal(20,0)", "double precision"),
                ("decimal(8,0)", "real"),
                ("decimal(9,2)", "numeric(9,1)"),
                ("decimal(9,2)", "numeric(7,0)"),
                ("decimal(20,0)", "super"),
                ("decimal(9,2)", "super"),
                ("timestamp", "timestamp with time zone"),
            ],
        );
    }

    #[test]
    fn a_type_that_holds_some_values_refuses_the_rows_of_others() {
        check(
            Fit::Some,
            &[
                ("varchar(9)", "character varying(8)"),
                ("varchar(9)", "character(9)"),
                ("varchar(9)", "character(4096)"),
                ("varchar(9)", "super"),
                ("varchar(9)", "bigint"),
                ("varchar(9)", "numeric(9,2)"),
                ("varchar(9)", "double precision"),
                ("varchar(9)", "boolean"),
                ("varchar(10)", "date"),
                ("varchar(26)", "timestamp without time zone"),
                ("bigint", "integer"),
                ("bigint", "character varying(19)"),
                ("integer", "numeric(9,0)"),
                ("integer", "boolean"),
                ("decimal(19,0)", "bigint"),
                ("decimal(9,2)", "numeric(9,3)"),
                ("decimal(9,2)", "bigint"),
                ("timestamp", "character varying(19)"),
                ("timestamp", "date"),
                ("timestamp", "super"),
                ("boolean", "character varying(4)"),
                ("super", "character varying(65535)"),
                ("super", "character(4096)"),
                ("super", "integer"),
                ("super", "boolean"),
                ("integer", "binary varying(64)"),
                ("varchar(9)", "geometry"),
            ],
        );
    }

    #[test]
    fn a_batch_id_and_a_record_need_text() {
        let batch = |live| fit_kind(Kind::Batch, SqlType::Varchar(64), live);
        assert_eq!(batch("character varying(36)"), Fit::All);
        assert_eq!(batch("character(36)"), Fit::All);
        assert_eq!(batch("character varying(35)"), Fit::None);
        assert_eq!(batch("bigint"), Fit::None);
        let record = |live| fit_kind(Kind::Record, SqlType::Super, live);
        assert_eq!(record("super"), Fit::All);
        assert_eq!(record("character varying(65535)"), Fit::Some);
        assert_eq!(record("bigint"), Fit::None);
        assert_eq!(fit_kind(Kind::Text, SqlType::Varchar(9), "bigint"), Fit::Some);
    }

    #[test]
    fn a_type_that_holds_no_value_is_fatal() {
        check(
            Fit::None,
            &[
                ("timestamp", "bigint"),
                ("timestamp", "numeric(20,0)"),
                ("timestamp", "double precision"),
                ("timestamp", "boolean"),
                ("timestamp", "character varying(18)"),
                ("integer", "timestamp without time zone"),
                ("integer", "date"),
                ("decimal(9,2)", "timestamp with time zone"),
                ("boolean", "integer"),
                ("boolean", "numeric(1,0)"),
                ("boolean", "real"),
                ("boolean", "date"),
                ("boolean", "character(3)"),
                ("super", "timestamp without time zone"),
                ("super", "date"),
            ],
        );
    }
}
