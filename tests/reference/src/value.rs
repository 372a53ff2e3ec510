//! One `Value` as the text of a cell, by the kind and type of its column.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::schema::{Column, Kind, SqlType};

use crate::decimal::Decimal;

/// Whether the type of a column can hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// As it was sent.
    Whole,
    /// In part: the cell holds what the rule `cut` keeps.
    Altered,
    /// Not at all.
    Misfit,
}

/// Appends the text of the cell.
pub(crate) fn store(value: &Value, column: &Column, cell: &mut String) -> Fit {
    match column.kind {
        Kind::Text => text(&plain(value), column, cell),
        Kind::List => list(value, column, cell),
        Kind::Json => json_text(&value.to_string(), |out| write_super(value, out), column, cell),
        Kind::Boolean => boolean(value, cell),
        Kind::Timestamp => timestamp(value, cell),
        Kind::Integer | Kind::Unsigned => whole(value, column, cell),
        Kind::Decimal => match scalar(value).filter(|_| !value.is_boolean()) {
            Some(number) => decimal(Decimal::parse(&number), column, cell),
            None => Fit::Misfit,
        },
        Kind::EventValue if usual_event(value, column, cell) => Fit::Whole,
        Kind::EventValue => match event(value) {
            Some(Some(sum)) => decimal(Some(sum), column, cell),
            Some(None) => Fit::Whole,
            None => Fit::Misfit,
        },
        // Not of the record, or the whole of it.
        Kind::Record | Kind::Instance | Kind::Batch | Kind::LoadTime => Fit::Misfit,
    }
}

/// A string as it is, nothing for null, anything else as JSON.
fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    }
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)).then(|| plain(value))
}

fn text(value: &str, column: &Column, cell: &mut String) -> Fit {
    let nuls = value.contains('\0');
    if nuls {
        cell.extend(value.chars().filter(|c| *c != '\0'));
    } else {
        cell.push_str(value);
    }
    let cut = cut(cell, column);
    if nuls || cut { Fit::Altered } else { Fit::Whole }
}

/// Cuts the cell to the column's bytes; whether there was anything to cut.
pub(crate) fn cut(cell: &mut String, column: &Column) -> bool {
    let SqlType::Varchar(max) = column.sql_type else { return false };
    let end = cell.floor_char_boundary(max as usize);
    let cut = end < cell.len();
    cell.truncate(end);
    cut
}

fn list(value: &Value, column: &Column, cell: &mut String) -> Fit {
    let fields = value.as_object();
    let values = fields.and_then(|fields| fields.get("values")).unwrap_or(value);
    let Some(values) = values.as_array() else { return text(&plain(values), column, cell) };
    let sent = fields
        .and_then(|fields| fields.get("delim"))
        .filter(|sent| !crate::is_empty(sent) && sent.as_u64() != Some(0));
    let usable = sent.and_then(delimiter);
    let lost = column.delimiter.is_none() && sent.is_some() && usable.is_none();
    let delimiter = column.delimiter.clone().or(usable).unwrap_or_else(|| ",".to_owned());
    match text(&values.iter().map(plain).collect::<Vec<_>>().join(&delimiter), column, cell) {
        Fit::Whole if lost => Fit::Altered,
        fit => fit,
    }
}

/// A character code as number or as two digits or more, or the text itself.
fn delimiter(value: &Value) -> Option<String> {
    let code = |text: &str| {
        let c = text.parse::<u32>().ok().and_then(char::from_u32)?;
        (c != '\0').then(|| c.to_string())
    };
    match value {
        Value::Number(number) => code(&number.to_string()),
        Value::String(text) if text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_digit()) => code(text),
        Value::String(text) if (1..=8).contains(&text.len()) && !text.contains('\0') => Some(text.clone()),
        _ => None,
    }
}

/// JSON text is stored whole, but for an array, of which as many elements are as fit, and for what a SUPER cannot hold:
/// then it is what `mended` writes, which says whether that is another text.
pub(crate) fn json_text(
    text: &str,
    mended: impl FnOnce(&mut String) -> bool,
    column: &Column,
    cell: &mut String,
) -> Fit {
    let max = match column.sql_type {
        SqlType::Varchar(bytes) => bytes as usize,
        _ => 1 << 20,
    };
    let mut other = String::new();
    let altered = column.sql_type == SqlType::Super && mended(&mut other);
    let text = if altered { other.as_str() } else { text };
    if text.len() <= max {
        cell.push_str(text);
        return if altered { Fit::Altered } else { Fit::Whole };
    }
    let Ok(elements) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else { return Fit::Misfit };
    let start = cell.len();
    for element in elements {
        // The bracket or comma before it, and the bracket at the end.
        if cell.len() - start + element.get().len() + 2 > max {
            break;
        }
        cell.push(if cell.len() == start { '[' } else { ',' });
        cell.push_str(element.get());
    }
    if cell.len() == start {
        return Fit::Misfit;
    }
    cell.push(']');
    Fit::Altered
}

/// The text as a SUPER can hold it: no NUL, and no string longer than Redshift takes. Whether that altered it.
fn write_super(value: &Value, out: &mut String) -> bool {
    match value {
        Value::String(text) => write_string(text, out),
        Value::Array(values) => {
            let mut altered = false;
            out.push('[');
            for (number, value) in values.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                altered |= write_super(value, out);
            }
            out.push(']');
            altered
        }
        Value::Object(fields) => write_object(fields, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            out.push_str(&value.to_string());
            false
        }
    }
}

pub(crate) fn write_object(fields: &Map<String, Value>, out: &mut String) -> bool {
    let mut altered = false;
    out.push('{');
    for (number, (key, value)) in fields.iter().enumerate() {
        out.push_str(if number > 0 { "," } else { "" });
        altered |= write_string(key, out);
        out.push(':');
        altered |= write_super(value, out);
    }
    out.push('}');
    altered
}

fn write_string(text: &str, out: &mut String) -> bool {
    let mut kept: String = text.chars().filter(|c| *c != '\0').collect();
    kept.truncate(kept.floor_char_boundary(65_535));
    let altered = kept.len() < text.len();
    out.push_str(&Value::from(kept).to_string());
    altered
}

fn boolean(value: &Value, cell: &mut String) -> Fit {
    let word = scalar(value).unwrap_or_default();
    let word = word.trim_ascii();
    let among = |words: [&str; 5]| words.iter().any(|one| one.eq_ignore_ascii_case(word));
    cell.push_str(if among(["true", "t", "1", "yes", "y"]) {
        "true"
    } else if among(["false", "f", "0", "no", "n"]) {
        "false"
    } else {
        return Fit::Misfit;
    });
    Fit::Whole
}

fn timestamp(value: &Value, cell: &mut String) -> Fit {
    // The usual case first, as anybody would write it.
    if let Some(time) = value.as_i64().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0)) {
        return write_time(&time, false, cell);
    }
    let time = scalar(value).filter(|_| !value.is_boolean()).and_then(|text| {
        let (micros, lost) = Decimal::parse(&text)?.fixed(20, 6)?;
        let (seconds, fraction) = micros.split_once('.').unwrap_or((&micros, ""));
        let sign = if seconds.starts_with('-') { -1 } else { 1 };
        let seconds: i64 = seconds.parse().ok()?;
        let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
        let total = seconds.checked_mul(1_000_000)?.checked_add(sign * fraction)?;
        Some((chrono::DateTime::from_timestamp_micros(total)?, lost))
    });
    time.map_or(Fit::Misfit, |(time, lost)| write_time(&time, lost, cell))
}

fn write_time(time: &chrono::DateTime<chrono::Utc>, lost: bool, cell: &mut String) -> Fit {
    use chrono::{Datelike, Timelike};
    let (year, month, day) = (time.year(), time.month(), time.day());
    if !(1..=9999).contains(&year) {
        return Fit::Misfit;
    }
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    // Writing to a String cannot fail.
    let _ = write!(cell, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    let micros = time.timestamp_subsec_micros();
    if micros != 0 {
        let _ = write!(cell, ".{micros:06}");
    }
    if lost { Fit::Altered } else { Fit::Whole }
}

fn whole(value: &Value, column: &Column, cell: &mut String) -> Fit {
    // The usual case first: a number, or digits.
    let digits = |text: &String| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    if let Some(number) = value.as_u64().or_else(|| match value {
        Value::String(text) => digits(text),
        _ => None,
    }) {
        let highest = match (column.kind, column.sql_type) {
            (Kind::Unsigned, _) => u64::MAX,
            (_, SqlType::Smallint) => 0x7fff,
            (_, SqlType::Integer) => 0x7fff_ffff,
            (_, SqlType::Bigint) => 0x7fff_ffff_ffff_ffff,
            _ => 0,
        };
        if number <= highest {
            let _ = write!(cell, "{number}");
            return Fit::Whole;
        }
    }
    let text = match value {
        Value::Bool(flag) => Some(u8::from(*flag).to_string().into()),
        other => scalar(other),
    };
    let number = text.and_then(|text| Decimal::parse(&text)?.fixed(39, 0));
    let Some((number, false)) = number else { return Fit::Misfit };
    let fits = match (column.kind, column.sql_type) {
        (Kind::Unsigned, _) => number.parse::<u64>().is_ok(),
        (_, SqlType::Smallint) => number.parse::<i16>().is_ok(),
        (_, SqlType::Integer) => number.parse::<i32>().is_ok(),
        (_, SqlType::Bigint) => number.parse::<i64>().is_ok(),
        (_, SqlType::Decimal { precision, .. }) => number.trim_start_matches('-').len() <= precision.into(),
        _ => false,
    };
    if !fits {
        return Fit::Misfit;
    }
    cell.push_str(&number);
    Fit::Whole
}

fn decimal(number: Option<Decimal>, column: &Column, cell: &mut String) -> Fit {
    let (digits, scale) = match column.sql_type {
        SqlType::Decimal { precision, scale } => (usize::from(precision - scale), usize::from(scale)),
        _ => (39, 0),
    };
    let Some((text, lost)) = number.and_then(|number| number.fixed(digits, scale)) else {
        return Fit::Misfit;
    };
    if scale == 0 {
        // A type of whole numbers, which has limits of its own and no use for a rounded value.
        let whole = serde_json::Value::from(text);
        return if lost { Fit::Misfit } else { self::whole(&whole, column, cell) };
    }
    cell.push_str(&text);
    if lost { Fit::Altered } else { Fit::Whole }
}

/// Writes the sum of terms that have small counts and all one exponent, which an `i64` holds; false for any other.
fn usual_event(value: &Value, column: &Column, cell: &mut String) -> bool {
    let SqlType::Decimal { precision, scale } = column.sql_type else { return false };
    let Some(terms) = value.as_array() else { return false };
    let exponent = |term: &Value| term["exponent"].as_i64();
    let Some(shared) = terms.first().and_then(exponent).filter(|exponent| (-2..=0).contains(exponent)) else {
        return false;
    };
    let mut sum = 0;
    for term in terms {
        match term["count"].as_u64().filter(|count| *count < 1_000_000) {
            Some(count) if exponent(term) == Some(shared) => sum += count,
            _ => return false,
        }
    }
    let shown = shared.unsigned_abs();
    if shown > scale.into() || precision - scale < 9 || terms.len() > 100 {
        return false;
    }
    // Writing to a String cannot fail.
    let _ = match shown {
        0 => write!(cell, "{sum}"),
        1 => write!(cell, "{}.{}", sum / 10, sum % 10),
        _ => write!(cell, "{}.{:02}", sum / 100, sum % 100),
    };
    true
}

/// The outer none if it has no value, the inner if there is nothing to add up.
fn event(value: &Value) -> Option<Option<Decimal>> {
    match value {
        Value::Array(terms) => {
            let terms: Option<Vec<_>> = terms.iter().map(|term| self::term(term.as_object()?)).collect();
            let terms = terms?;
            let Some(scale) = terms.iter().map(|term| term.scale.max(0)).max() else { return Some(None) };
            let mut sum: i128 = 0;
            for term in &terms {
                sum = sum.checked_add(term.units(scale)?)?;
            }
            let digits = if sum == 0 { Vec::new() } else { sum.unsigned_abs().to_string().into_bytes() };
            Some(Some(Decimal { negative: sum < 0, digits, scale }))
        }
        Value::Object(term) => self::term(term).map(Some),
        Value::Number(_) | Value::String(_) => Decimal::parse(&plain(value))?.exact().map(Some),
        Value::Null => Some(None),
        Value::Bool(_) => None,
    }
}

fn term(fields: &Map<String, Value>) -> Option<Decimal> {
    let exponent = match fields.get("exponent") {
        None | Some(Value::Null) => 0,
        Some(value) => {
            let (exponent, lost) = Decimal::parse(&scalar(value)?)?.fixed(18, 0)?;
            if lost {
                return None;
            }
            exponent.parse::<i64>().ok()?
        }
    };
    let mut count = Decimal::parse(&scalar(fields.get("count")?)?)?;
    count.scale = count.scale.saturating_sub(exponent);
    count.exact()
}
