//! Redshift's column types: how they are declared, stored in PostgreSQL, and what COPY accepts for each.
//!
//! Limits: <https://docs.aws.amazon.com/redshift/latest/dg/r_Character_types.html> (VARCHAR in bytes),
//! <https://docs.aws.amazon.com/redshift/latest/dg/r_Numeric_types201.html>,
//! <https://docs.aws.amazon.com/redshift/latest/dg/r_Datetime_types.html>. Error codes:
//! <https://docs.aws.amazon.com/redshift/latest/dg/r_Load_Error_Reference.html>.

use std::fmt;

use sqlparser::ast::{CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

/// A column type of Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Varchar(u32),
    Char(u32),
    Super,
    Int2,
    Int4,
    Int8,
    Decimal(u8, u8),
    Bool,
    Float4,
    Float8,
    Timestamp,
    TimestampTz,
    Date,
}

/// Why a value cannot be loaded: `err_code` and `err_reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: u16,
    pub(crate) text: String,
}

/// What becomes of a good value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// PostgreSQL reads it the same way.
    AsIs,
    /// The replacement was appended to the scratch buffer.
    Rewritten,
}

/// What the options of a COPY change in the reading of values.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// TRUNCATECOLUMNS.
    pub(crate) truncate: bool,
    /// TIMEFORMAT 'auto'.
    pub(crate) auto_time: bool,
    /// ROUNDEC.
    pub(crate) round: bool,
    /// TRIMBLANKS.
    pub(crate) trim: bool,
    /// BLANKSASNULL.
    pub(crate) blanks_are_null: bool,
}

impl Type {
    /// The type of a column definition.
    pub(crate) fn from_ast(data_type: &DataType) -> Result<Self, String> {
        let chars = |length: &Option<CharacterLength>, default: u64, max: u32| match length {
            None => Ok(u32::try_from(default).unwrap_or(max)),
            Some(CharacterLength::Max) => Ok(max),
            Some(CharacterLength::IntegerLength { length, .. }) => u32::try_from(*length)
                .ok()
                .filter(|length| (1..=max).contains(length))
                .ok_or_else(|| format!("length for type character varying cannot exceed {max}")),
        };
        Ok(match data_type {
            DataType::Varchar(n)
            | DataType::CharacterVarying(n)
            | DataType::CharVarying(n)
            | DataType::Nvarchar(n) => Self::Varchar(chars(n, 256, 65535)?),
            DataType::Text => Self::Varchar(256),
            DataType::Char(n) | DataType::Character(n) => Self::Char(chars(n, 1, 4096)?),
            DataType::Int2(None) | DataType::SmallInt(None) => Self::Int2,
            DataType::Int4(None) | DataType::Int(None) | DataType::Integer(None) => Self::Int4,
            DataType::Int8(None) | DataType::BigInt(None) => Self::Int8,
            DataType::Bool | DataType::Boolean => Self::Bool,
            DataType::Real | DataType::Float4 => Self::Float4,
            DataType::Double(ExactNumberInfo::None)
            | DataType::DoublePrecision
            | DataType::Float8
            | DataType::Float(ExactNumberInfo::None) => Self::Float8,
            DataType::Decimal(info) | DataType::Numeric(info) | DataType::Dec(info) => {
                let (precision, scale) = match info {
                    ExactNumberInfo::None => (18, 0),
                    ExactNumberInfo::Precision(precision) => (*precision, 0),
                    ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
                };
                match (u8::try_from(precision), u8::try_from(scale)) {
                    (Ok(p @ 1..=38), Ok(s)) if s <= p && s <= 37 => Self::Decimal(p, s),
                    _ => {
                        return Err(format!(
                            "DECIMAL precision {precision} must be between 1 and 38, scale within it"
                        ));
                    }
                }
            }
            DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Self::Timestamp,
            DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Self::TimestampTz,
            DataType::Date => Self::Date,
            DataType::Custom(name, args)
                if args.is_empty() && name.to_string().eq_ignore_ascii_case("super") =>
            {
                Self::Super
            }
            other => return Err(format!("column type {other}")),
        })
    }

    /// Reads what `Display` wrote into the stand-in's catalog.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, args) =
            text.split_once('(').map_or((text, ""), |(name, rest)| (name, rest.trim_end_matches(')')));
        Some(match name {
            "character varying" => Self::Varchar(args.parse().ok()?),
            "character" => Self::Char(args.parse().ok()?),
            "super" => Self::Super,
            "smallint" => Self::Int2,
            "integer" => Self::Int4,
            "bigint" => Self::Int8,
            "numeric" => {
                let (precision, scale) = args.split_once(',')?;
                Self::Decimal(precision.parse().ok()?, scale.parse().ok()?)
            }
            "boolean" => Self::Bool,
            "real" => Self::Float4,
            "double precision" => Self::Float8,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "date" => Self::Date,
            _ => return None,
        })
    }

    /// The type that holds it in PostgreSQL, where lengths count characters and not bytes.
    pub(crate) fn postgres(self) -> String {
        match self {
            Self::Varchar(_) | Self::Char(_) | Self::Super => "text".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether an empty field may be an empty string.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Varchar(_) | Self::Char(_))
    }

    /// `type` and `col_length` of `stl_load_errors`.
    pub(crate) fn for_load_errors(self) -> (&'static str, String) {
        match self {
            Self::Varchar(n) => ("varchar", n.to_string()),
            Self::Char(n) => ("char", n.to_string()),
            Self::Super => ("super", String::new()),
            Self::Int2 => ("int2", "0".to_owned()),
            Self::Int4 => ("int4", "0".to_owned()),
            Self::Int8 => ("int8", "0".to_owned()),
            Self::Decimal(p, s) => ("numeric", format!("{p}, {s}")),
            Self::Bool => ("bool", "0".to_owned()),
            Self::Float4 => ("float4", "0".to_owned()),
            Self::Float8 => ("float8", "0".to_owned()),
            Self::Timestamp => ("timestamp", "0".to_owned()),
            Self::TimestampTz => ("timestamptz", "0".to_owned()),
            Self::Date => ("date", "0".to_owned()),
        }
    }

    /// Judges a value that is not empty. `value` is valid UTF-8 without the quotes around it.
    pub(crate) fn check(
        self,
        value: &[u8],
        reading: Reading,
        scratch: &mut Vec<u8>,
    ) -> Result<Outcome, Reason> {
        match self {
            // Of VARCHAR only: <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html>.
            Self::Varchar(n) if reading.trim && value.last().is_some_and(u8::is_ascii_whitespace) => {
                let trimmed = value.trim_ascii_end();
                if text(trimmed, n, reading, scratch)? == Outcome::AsIs {
                    scratch.extend_from_slice(trimmed);
                }
                Ok(Outcome::Rewritten)
            }
            Self::Varchar(n) => text(value, n, reading, scratch),
            Self::Char(n) => {
                if !value.is_ascii() {
                    return Err(reason(
                        1220,
                        "Multibyte character not supported for CHAR (Hint: try using VARCHAR)",
                    ));
                }
                text(value, n, reading, scratch)
            }
            Self::Super => semi_structured(value),
            Self::Int2 => integer(value, i16::MIN.into(), i16::MAX.into(), "Short"),
            Self::Int4 => integer(value, i32::MIN.into(), i32::MAX.into(), "Integer"),
            Self::Int8 => integer(value, i64::MIN, i64::MAX, "Long"),
            Self::Decimal(precision, scale) => decimal(value, precision, scale, reading, scratch),
            Self::Bool => boolean(value),
            Self::Float4 => float(value, f64::from(f32::MAX)),
            Self::Float8 => float(value, f64::MAX),
            Self::Timestamp => timestamp(value, false, reading, scratch),
            Self::TimestampTz => timestamp(value, true, reading, scratch),
            Self::Date => date(value),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varchar(n) => write!(f, "character varying({n})"),
            Self::Char(n) => write!(f, "character({n})"),
            Self::Super => f.write_str("super"),
            Self::Int2 => f.write_str("smallint"),
            Self::Int4 => f.write_str("integer"),
            Self::Int8 => f.write_str("bigint"),
            Self::Decimal(p, s) => write!(f, "numeric({p},{s})"),
            Self::Bool => f.write_str("boolean"),
            Self::Float4 => f.write_str("real"),
            Self::Float8 => f.write_str("double precision"),
            Self::Timestamp => f.write_str("timestamp without time zone"),
            Self::TimestampTz => f.write_str("timestamp with time zone"),
            Self::Date => f.write_str("date"),
        }
    }
}

pub(crate) fn reason(code: u16, text: impl Into<String>) -> Reason {
    Reason { code, text: text.into() }
}

fn text(value: &[u8], max: u32, reading: Reading, scratch: &mut Vec<u8>) -> Result<Outcome, Reason> {
    let max = max as usize;
    if value.len() <= max {
        return Ok(Outcome::AsIs);
    }
    if !reading.truncate {
        return Err(reason(1204, "String length exceeds DDL length"));
    }
    let mut end = max;
    while end > 0 && value[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    scratch.extend_from_slice(&value[..end]);
    Ok(Outcome::Rewritten)
}

/// The longest string within a SUPER: <https://docs.aws.amazon.com/redshift/latest/dg/limitations-super.html>.
const SUPER_STRING_BYTES: usize = 65_535;

/// What looks like a document must be one; anything else is taken as a scalar.
fn semi_structured(value: &[u8]) -> Result<Outcome, Reason> {
    let Some(b'{' | b'[' | b'"') = value.trim_ascii_start().first() else { return Ok(Outcome::AsIs) };
    let document = serde_json::from_slice::<serde_json::Value>(value)
        .map_err(|error| reason(1224, format!("Invalid JSON format. {error}")))?;
    if holds_long_string(&document) {
        return Err(reason(1224, "Invalid JSON format. A string is longer than a SUPER can hold"));
    }
    Ok(Outcome::AsIs)
}

fn holds_long_string(document: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object, String};
    let long = |text: &str| text.len() > SUPER_STRING_BYTES;
    match document {
        String(text) => long(text),
        Array(values) => values.iter().any(holds_long_string),
        Object(fields) => fields.iter().any(|(key, value)| long(key) || holds_long_string(value)),
        _ => false,
    }
}

fn invalid_digit(value: &[u8], at: usize, kind: &str) -> Reason {
    let found = value.get(at).map_or_else(String::new, |byte| char::from(*byte).to_string());
    reason(1207, format!("Invalid digit, Value '{found}', Pos {at}, Type: {kind}"))
}

fn integer(value: &[u8], min: i64, max: i64, kind: &str) -> Result<Outcome, Reason> {
    let (negative, start) = sign(value);
    if start == value.len() {
        return Err(invalid_digit(value, start, kind));
    }
    let mut number: i128 = 0;
    for (at, byte) in value.iter().enumerate().skip(start) {
        if !byte.is_ascii_digit() {
            return Err(invalid_digit(value, at, kind));
        }
        number = (number * 10 + i128::from(byte - b'0')).min(i128::from(u64::MAX));
    }
    if negative {
        number = -number;
    }
    if number < i128::from(min) || number > i128::from(max) {
        let text = String::from_utf8_lossy(value);
        return Err(reason(1222, format!("Overflow, Value '{text}', Type: {kind}")));
    }
    Ok(Outcome::AsIs)
}

fn sign(value: &[u8]) -> (bool, usize) {
    match value.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    }
}

/// Digits beyond the scale are cut off, not rounded, as long as ROUNDEC is not given:
/// <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html>.
fn decimal(
    value: &[u8],
    precision: u8,
    scale: u8,
    reading: Reading,
    scratch: &mut Vec<u8>,
) -> Result<Outcome, Reason> {
    let (_, start) = sign(value);
    let mut point = None;
    for (at, byte) in value.iter().enumerate().skip(start) {
        match byte {
            b'0'..=b'9' => {}
            b'.' if point.is_none() => point = Some(at),
            _ => return Err(invalid_digit(value, at, "Decimal")),
        }
    }
    let whole = &value[start..point.unwrap_or(value.len())];
    let fraction = point.map_or(&[][..], |point| &value[point + 1..]);
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid_digit(value, start, "Decimal"));
    }
    let significant = whole.iter().skip_while(|byte| **byte == b'0').count();
    if significant > usize::from(precision - scale) {
        let text = String::from_utf8_lossy(value);
        return Err(reason(1222, format!("Numeric overflow, Value '{text}', Type: Decimal")));
    }
    if fraction.len() <= usize::from(scale) {
        return Ok(Outcome::AsIs);
    }
    if reading.round {
        return rounded(value, precision, scale, scratch);
    }
    let keep = value.len() - (fraction.len() - usize::from(scale));
    let kept = value[..keep].strip_suffix(b".").unwrap_or(&value[..keep]);
    if whole.is_empty() && scale == 0 {
        scratch.push(b'0');
    } else {
        scratch.extend_from_slice(kept);
    }
    Ok(Outcome::Rewritten)
}

/// ROUNDEC: the digits beyond the scale round the last one that stays, halves away from zero.
fn rounded(value: &[u8], precision: u8, scale: u8, scratch: &mut Vec<u8>) -> Result<Outcome, Reason> {
    let (negative, start) = sign(value);
    let (whole, fraction) =
        value[start..].split_at(value[start..].iter().position(|byte| *byte == b'.').unwrap_or(0));
    let fraction = &fraction[1..];
    let kept = usize::from(scale);
    let mut digits: Vec<u8> = [&b"0"[..], whole, &fraction[..kept]].concat();
    if fraction[kept] >= b'5' {
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
    let point = digits.len() - kept;
    let leading = digits[..point - 1].iter().take_while(|byte| **byte == b'0').count();
    if point - leading > usize::from(precision - scale) && digits[leading..point] != b"0"[..] {
        let text = String::from_utf8_lossy(value);
        return Err(reason(1222, format!("Numeric overflow, Value '{text}', Type: Decimal")));
    }
    if negative {
        scratch.push(b'-');
    }
    scratch.extend_from_slice(&digits[leading..point]);
    if kept > 0 {
        scratch.push(b'.');
        scratch.extend_from_slice(&digits[point..]);
    }
    Ok(Outcome::Rewritten)
}

/// <https://docs.aws.amazon.com/redshift/latest/dg/r_Boolean_type.html>
fn boolean(value: &[u8]) -> Result<Outcome, Reason> {
    const WORDS: [&[u8]; 10] = [b"t", b"true", b"y", b"yes", b"1", b"f", b"false", b"n", b"no", b"0"];
    if WORDS.iter().any(|word| word.eq_ignore_ascii_case(value)) {
        Ok(Outcome::AsIs)
    } else {
        Err(reason(1210, "Unknown boolean format"))
    }
}

fn float(value: &[u8], max: f64) -> Result<Outcome, Reason> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok());
    match number {
        None => Err(reason(1208, "Invalid float format or exponent")),
        Some(number) if number.is_infinite() && value.iter().any(u8::is_ascii_digit) => {
            Err(reason(1222, "Overflow, Type: Float"))
        }
        Some(number) if number.is_finite() && number.abs() > max => {
            Err(reason(1222, "Overflow, Type: Float"))
        }
        Some(_) => Ok(Outcome::AsIs),
    }
}

/// `YYYY-MM-DD`.
fn date(value: &[u8]) -> Result<Outcome, Reason> {
    if value.len() == 10 && calendar_day(value) {
        Ok(Outcome::AsIs)
    } else {
        Err(reason(1205, "Invalid Date Format - length must be 10 or more"))
    }
}

fn two(value: &[u8], at: usize) -> Option<u32> {
    match value.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => None,
    }
}

fn calendar_day(value: &[u8]) -> bool {
    let day = || {
        let year = two(value, 0)? * 100 + two(value, 2)?;
        let (month, day) = (two(value, 5)?, two(value, 8)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let separated = value[4] == b'-' && value[7] == b'-';
        (year > 0 && separated && (1..=last).contains(&day)).then_some(())
    };
    day().is_some()
}

/// `YYYY-MM-DD HH:MI:SS[.ffffff]`, then possibly a zone, which TIMESTAMP ignores.
fn timestamp(value: &[u8], zoned: bool, reading: Reading, scratch: &mut Vec<u8>) -> Result<Outcome, Reason> {
    let bad = || reason(1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]");
    let Some(zone) = clock_end(value, reading) else { return Err(bad()) };
    if zone == value.len() {
        return Ok(Outcome::AsIs);
    }
    let rest = value[zone..].trim_ascii();
    let zone_like = rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-:/_".contains(byte));
    if rest.is_empty() || !zone_like || rest[0].is_ascii_digit() {
        return Err(bad());
    }
    if zoned {
        return Ok(Outcome::AsIs);
    }
    scratch.extend_from_slice(&value[..zone]);
    Ok(Outcome::Rewritten)
}

/// Where the zone would start, or `None` if there is no good date and time before it.
fn clock_end(value: &[u8], reading: Reading) -> Option<usize> {
    if value.len() < 10 || !calendar_day(value) {
        return None;
    }
    if value.len() == 10 {
        return reading.auto_time.then_some(10);
    }
    if value[10] != b' ' && !(reading.auto_time && value[10] == b'T') {
        return None;
    }
    let (hour, minute, second) = (two(value, 11)?, two(value, 14)?, two(value, 17)?);
    if value[13] != b':' || value[16] != b':' || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if value.get(19) != Some(&b'.') {
        return Some(19);
    }
    let digits = value[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=6).contains(&digits).then_some(20 + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(kind: Type, value: &str) -> Result<String, u16> {
        let mut scratch = Vec::new();
        let reading = Reading { auto_time: true, ..Reading::default() };
        match kind.check(value.as_bytes(), reading, &mut scratch) {
            Ok(Outcome::AsIs) => Ok(value.to_owned()),
            Ok(Outcome::Rewritten) => Ok(String::from_utf8(scratch).unwrap()),
            Err(reason) => Err(reason.code),
        }
    }

    fn same(kind: Type, value: &str) {
        assert_eq!(load(kind, value).as_deref(), Ok(value));
    }

    #[test]
    fn varchar_counts_bytes() {
        same(Type::Varchar(4), "éé");
        assert_eq!(load(Type::Varchar(3), "éé"), Err(1204));
        assert_eq!(load(Type::Char(9), "é"), Err(1220));
        let mut scratch = Vec::new();
        let reading = Reading { truncate: true, ..Reading::default() };
        assert_eq!(Type::Varchar(3).check("éé".as_bytes(), reading, &mut scratch), Ok(Outcome::Rewritten));
        assert_eq!(scratch, "é".as_bytes());
    }

    #[test]
    fn integers_stop_at_their_width() {
        same(Type::Int2, "-32768");
        assert_eq!(load(Type::Int2, "32768"), Err(1222));
        same(Type::Int8, "9223372036854775807");
        assert_eq!(load(Type::Int8, "9223372036854775808"), Err(1222));
        assert_eq!(load(Type::Int8, "99999999999999999999999999999999999999999999999999"), Err(1222));
        assert_eq!(load(Type::Int4, "12x"), Err(1207));
        assert_eq!(load(Type::Int4, "1.5"), Err(1207));
        assert_eq!(load(Type::Int4, "-"), Err(1207));
    }

    #[test]
    fn decimals_lose_excess_digits_without_rounding() {
        same(Type::Decimal(20, 0), "18446744073709551615");
        assert_eq!(load(Type::Decimal(5, 2), "1.999").unwrap(), "1.99");
        assert_eq!(load(Type::Decimal(5, 0), "-1.9").unwrap(), "-1");
        assert_eq!(load(Type::Decimal(5, 0), ".9").unwrap(), "0");
        same(Type::Decimal(5, 2), "000123.4");
        assert_eq!(load(Type::Decimal(5, 2), "1234"), Err(1222));
        assert_eq!(load(Type::Decimal(5, 2), "1e2"), Err(1207));
        assert_eq!(load(Type::Decimal(5, 2), "."), Err(1207));
    }

    #[test]
    fn a_timestamp_drops_its_zone_and_must_exist() {
        same(Type::Timestamp, "2024-02-29 23:59:59.123456");
        assert_eq!(load(Type::Timestamp, "2024-02-29 23:59:59 UTC").unwrap(), "2024-02-29 23:59:59");
        assert_eq!(load(Type::Timestamp, "2024-02-29T23:59:59Z").unwrap(), "2024-02-29T23:59:59");
        same(Type::TimestampTz, "2024-02-29 23:59:59+02");
        for bad in
            ["2023-02-29 00:00:00", "2024-01-01 24:00:00", "1700000000", "2024-01-01 00:00:00.1234567", "x"]
        {
            assert_eq!(load(Type::Timestamp, bad), Err(1206), "{bad}");
        }
        same(Type::Date, "2000-02-29");
        assert_eq!(load(Type::Date, "1900-02-29"), Err(1205));
    }

    #[test]
    fn booleans_and_documents_are_read_as_redshift_reads_them() {
        same(Type::Bool, "YES");
        assert_eq!(load(Type::Bool, "on"), Err(1210));
        same(Type::Super, r#"{"a":[1,2]}"#);
        same(Type::Super, "plain");
        assert_eq!(load(Type::Super, r#"{"a":"#), Err(1224));
        assert_eq!(load(Type::Float8, "1e400"), Err(1222));
        assert_eq!(load(Type::Float8, "abc"), Err(1208));
    }

    #[test]
    fn the_stored_form_reads_back() {
        for kind in [
            Type::Varchar(65535),
            Type::Char(3),
            Type::Super,
            Type::Decimal(20, 3),
            Type::TimestampTz,
            Type::Date,
        ] {
            assert_eq!(Type::parse(&kind.to_string()), Some(kind));
        }
    }
}
