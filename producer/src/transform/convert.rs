//! One value into one cell, by the kind and type of its column.

use crate::transform::list::{self, Delimiter, List, Sent};
use crate::transform::number::{Number, Scaled};
use crate::transform::outcome::{ColumnCounts, Full};
use crate::transform::value::{self, Shape, plain_unsigned, shape};
use crate::transform::{cell, event, scan, semi, text, time};
use shared::schema::{Column, Kind, SqlType};

/// Adobe cuts eVars at so many bytes: a text of that length may have lost its end.
const ADOBE_CUTS_AT: usize = 255;
/// The most bytes of a JSON text for a SUPER column.
const SUPER_BYTES: usize = 1 << 20;

/// Kind and type together, with the limits already worked out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Convert {
    /// At most so many bytes, as in the others.
    Text(usize),
    /// A delimiter of the column replaces what the record names.
    List(usize, Option<Delimiter>),
    Json(usize),
    /// JSON text for a SUPER, which Redshift takes apart.
    Super,
    Whole(Limits),
    Decimal(Digits),
    Boolean,
    Timestamp,
    WholeEvent(Limits),
    DecimalEvent(Digits),
    Instance(usize),
    /// The converter's mark, which the log replaces by the id of the batch.
    Batch,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    lowest: u128,
    highest: u128,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    precision: u32,
    scale: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Its cell is written, as far as the type can hold it: what was altered is counted.
    Written,
    /// As it was sent, a text that is as long as it can be.
    Full(Full),
    /// There is no value: the cell stays empty.
    Empty,
    /// The type has no form for it: the cell stays empty.
    Null,
}

/// Buffers, which grow to the longest value and stay, and what is the same in every row.
#[derive(Debug, Clone, Default)]
pub(super) struct Converter {
    pub(super) text: Vec<u8>,
    pub(super) instance: String,
    pub(super) batch_placeholder: String,
    day: time::Day,
}

pub(super) struct Out<'r> {
    pub(super) row: &'r mut Vec<u8>,
    pub(super) counts: &'r mut ColumnCounts,
}

impl Convert {
    pub(super) fn new(column: &Column) -> Self {
        let sql_type = column.sql_type;
        let max = match sql_type {
            SqlType::Varchar(bytes) => bytes as usize,
            _ => SUPER_BYTES,
        };
        match (column.kind, sql_type) {
            (Kind::Text, _) => Self::Text(max),
            (Kind::List, _) => {
                let delimiter = column.delimiter.as_deref().and_then(|text| Delimiter::new(text.as_bytes()));
                Self::List(max, delimiter)
            }
            (Kind::Json | Kind::Record, SqlType::Super) => Self::Super,
            (Kind::Json | Kind::Record, _) => Self::Json(max),
            (Kind::Boolean, _) => Self::Boolean,
            (Kind::Timestamp | Kind::LoadTime, _) => Self::Timestamp,
            (Kind::Unsigned, _) => Self::Whole(Limits { lowest: 0, highest: u128::from(u64::MAX) }),
            (Kind::Decimal, SqlType::Decimal { precision, scale }) => {
                Self::Decimal(Digits { precision: precision.into(), scale: scale.into() })
            }
            (Kind::EventValue, SqlType::Decimal { precision, scale }) if scale > 0 => {
                Self::DecimalEvent(Digits { precision: precision.into(), scale: scale.into() })
            }
            (Kind::EventValue, _) => Self::WholeEvent(Limits::of(sql_type)),
            (Kind::Integer | Kind::Decimal, _) => Self::Whole(Limits::of(sql_type)),
            (Kind::Instance, _) => Self::Instance(max),
            (Kind::Batch, _) => Self::Batch,
        }
    }
}

impl Limits {
    fn of(sql_type: SqlType) -> Self {
        let signed = |highest: u128| Self { lowest: highest + 1, highest };
        match sql_type {
            SqlType::Smallint => signed(0x7fff),
            SqlType::Integer => signed(0x7fff_ffff),
            SqlType::Decimal { precision, .. } => {
                let limit = 10_u128.saturating_pow(precision.into()) - 1;
                Self { lowest: limit, highest: limit }
            }
            _ => signed(0x7fff_ffff_ffff_ffff),
        }
    }
}

impl Converter {
    /// Appends the cell of `raw`, a valid JSON value. `escaped`: it is a string with a backslash in it.
    pub(super) fn convert(&mut self, convert: Convert, raw: &str, escaped: bool, out: &mut Out<'_>) -> Done {
        match convert {
            Convert::Text(max) => self.text(raw, escaped, max, out),
            // A string is no list.
            Convert::List(max, _) if raw.starts_with('"') => self.text(raw, escaped, max, out),
            Convert::List(max, delimiter) => self.list(raw, max, delimiter, out),
            Convert::Json(max) => json(raw, max, out),
            Convert::Super => self.semi(raw, out),
            Convert::Whole(limits) => self.whole(raw, limits, out),
            Convert::Decimal(digits) => {
                let number = value::scalar(raw, &mut self.text).and_then(Number::parse);
                let scaled = number.and_then(|number| number.scaled(number.natural_scale(digits.scale)));
                decimal(scaled, digits, out)
            }
            Convert::Boolean => self.boolean(raw, out),
            Convert::Timestamp => self.timestamp(raw, out),
            Convert::WholeEvent(limits) => match event::sum(raw, &mut self.text) {
                Some(Some(sum)) => whole(Some(sum.at_most(0)), limits, out),
                Some(None) => Done::Empty,
                None => Done::Null,
            },
            Convert::DecimalEvent(digits) => match event::sum(raw, &mut self.text) {
                Some(Some(sum)) => decimal(Some(sum.at_most(digits.scale)), digits, out),
                Some(None) => Done::Empty,
                None => Done::Null,
            },
            Convert::Instance(max) => match write_text(self.instance.as_bytes(), max, out) {
                // It says nothing of the stream.
                Done::Full(_) => Done::Written,
                done => done,
            },
            Convert::Batch => {
                out.row.extend_from_slice(self.batch_placeholder.as_bytes());
                Done::Written
            }
        }
    }

    /// A string as it is, anything else by its JSON text.
    fn text(&mut self, raw: &str, escaped: bool, max: usize, out: &mut Out<'_>) -> Done {
        let Shape::String(string) = shape(raw) else {
            return if raw == "null" { Done::Empty } else { write_text(raw.as_bytes(), max, out) };
        };
        if escaped {
            self.text.clear();
            text::unescape(string, &mut self.text, out.counts);
            return write_text(&self.text, max, out);
        }
        // Nearly every value: short, with no delimiter. A quote or a line end would be escaped.
        let is_short = string.len() < max && string.len() != ADOBE_CUTS_AT;
        if is_short && !cell::edge_is_blank(string) && !scan::contains(string, cell::DELIMITER) {
            out.row.extend_from_slice(string);
            return if string.is_empty() { Done::Empty } else { Done::Written };
        }
        write_text(string, max, out)
    }

    fn list(&mut self, raw: &str, max: usize, delimiter: Option<Delimiter>, out: &mut Out<'_>) -> Done {
        let (array, sent) = match list::read(raw) {
            // A value within an object may be escaped.
            List::Single(value) => return self.text(value, true, max, out),
            List::Array(array, sent) => (array, sent),
        };
        let delimiter = match (delimiter, sent) {
            (Some(configured), _) => configured,
            (None, Sent::Usable(sent)) => sent,
            (None, Sent::Nothing) => Delimiter::default(),
            (None, Sent::Unusable) => {
                out.counts.delimiters += 1;
                Delimiter::default()
            }
        };
        self.text.clear();
        list::join(array, delimiter, &mut self.text, out.counts);
        write_text(&self.text, max, out)
    }

    /// A value that Redshift has no form for loses no more than it must.
    fn semi(&mut self, raw: &str, out: &mut Out<'_>) -> Done {
        if semi::fits(raw, &mut self.text) {
            return json(raw, SUPER_BYTES, out);
        }
        self.text.clear();
        if !semi::mend(raw, &mut self.text, out.counts) {
            return Done::Null;
        }
        std::str::from_utf8(&self.text).map_or(Done::Null, |mended| json(mended, SUPER_BYTES, out))
    }

    fn whole(&mut self, raw: &str, limits: Limits, out: &mut Out<'_>) -> Done {
        let Some(text) = value::scalar(raw, &mut self.text) else { return Done::Null };
        // Nearly every number: its digits are its form.
        if let Some(number) = plain_unsigned(text)
            && u128::from(number) <= limits.highest
        {
            if text.first() == Some(&b'0') {
                out.row.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            } else {
                out.row.extend_from_slice(text);
            }
            return Done::Written;
        }
        let number = match raw {
            "true" => Some(Scaled::from_signed(1, 0)),
            "false" => Some(Scaled::from_signed(0, 0)),
            _ => Number::parse(text).and_then(|number| number.whole()),
        };
        whole(number, limits, out)
    }

    fn boolean(&mut self, raw: &str, out: &mut Out<'_>) -> Done {
        let text = value::scalar(raw, &mut self.text).unwrap_or_default().trim_ascii();
        let is_one_of =
            |words: [&str; 5]| words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(text));
        let word: &[u8] = if is_one_of(["true", "t", "1", "yes", "y"]) {
            b"true"
        } else if is_one_of(["false", "f", "0", "no", "n"]) {
            b"false"
        } else {
            return Done::Null;
        };
        out.row.extend_from_slice(word);
        Done::Written
    }

    fn timestamp(&mut self, raw: &str, out: &mut Out<'_>) -> Done {
        let text = value::scalar(raw, &mut self.text).unwrap_or_default();
        if let Some(seconds) = plain_unsigned(text).and_then(|seconds| i64::try_from(seconds).ok()) {
            return if self.day.write(seconds, 0, out.row) { Done::Written } else { Done::Null };
        }
        match Number::parse(text).and_then(|number| number.scaled(6)) {
            Some(time) if self.day.write_scaled(&time, out.row) => {
                out.counts.rounded += u64::from(time.rounded);
                Done::Written
            }
            _ => Done::Null,
        }
    }
}

fn whole(number: Option<Scaled>, limits: Limits, out: &mut Out<'_>) -> Done {
    let fits = |number: &Scaled| number.units <= if number.negative { limits.lowest } else { limits.highest };
    let Some(number) = number.filter(|number| !number.rounded && fits(number)) else { return Done::Null };
    number.write(out.row);
    Done::Written
}

fn decimal(number: Option<Scaled>, Digits { precision, scale }: Digits, out: &mut Out<'_>) -> Done {
    let Some(number) = number.filter(|number| number.fits(precision, scale)) else { return Done::Null };
    out.counts.rounded += u64::from(number.rounded);
    number.write(out.row);
    Done::Written
}

/// Only an array can be cut: behind each of its elements it is JSON again.
fn json(raw: &str, max: usize, out: &mut Out<'_>) -> Done {
    if raw.len() <= max {
        cell::write(raw.as_bytes(), out.row);
        return Done::Written;
    }
    let Some(elements) = list::whole_elements(raw, max) else { return Done::Null };
    out.counts.cut += 1;
    cell::write(format!("{elements}]").as_bytes(), out.row);
    Done::Written
}

/// Whether it has the length at which Adobe cuts; up to three bytes less if another character of several bytes may have stood
/// there.
fn is_cut_by_adobe(text: &[u8]) -> bool {
    let is_long = text.last().is_some_and(|last| *last >= 0x80);
    text.len() == ADOBE_CUTS_AT || (is_long && (ADOBE_CUTS_AT - 3..ADOBE_CUTS_AT).contains(&text.len()))
}

fn write_text(text: &[u8], max: usize, out: &mut Out<'_>) -> Done {
    let kept = text::cut(text, max);
    out.counts.cut += u64::from(kept.len() < text.len());
    cell::write(kept, out.row);
    match kept.len() {
        0 => Done::Empty,
        length if length == text.len() && is_cut_by_adobe(text) => Done::Full(Full::At255),
        length if length == max && text.len() == max => Done::Full(Full::Column),
        _ => Done::Written,
    }
}
