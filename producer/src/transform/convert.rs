//! One value into one cell, by the kind and type of its column.

use super::list::{self, List};
use super::number::{Number, Scaled};
use super::stats::ColumnCounts;
use super::value::{self, Shape, shape};
use super::{cell, event, text, time};
use shared::schema::{Kind, SqlType};

/// The most bytes of a JSON text for a SUPER column.
const SUPER_BYTES: usize = 1 << 20;

/// Kind and type together, with the limits already worked out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Convert {
    Text {
        max: usize,
    },
    List {
        max: usize,
    },
    Json {
        max: usize,
    },
    /// A whole number of at most so much, below zero and above.
    Whole {
        lowest: u128,
        highest: u128,
    },
    Decimal {
        precision: u32,
        scale: u32,
    },
    Boolean,
    Timestamp,
    /// Whole, or within the decimal.
    WholeEvent {
        lowest: u128,
        highest: u128,
    },
    DecimalEvent {
        precision: u32,
        scale: u32,
    },
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Its cell is written.
    Written,
    /// There is no value: the cell stays empty.
    Empty,
    /// The type has no form for it: the cell stays empty.
    Null,
}

/// The buffers conversion needs; they grow to the longest value and stay.
#[derive(Debug, Clone, Default)]
pub(super) struct Converter {
    pub(super) text: Vec<u8>,
}

impl Convert {
    pub(super) fn new(kind: Kind, sql_type: SqlType) -> Self {
        let max = match sql_type {
            SqlType::Varchar(bytes) => bytes as usize,
            _ => SUPER_BYTES,
        };
        match (kind, sql_type) {
            (Kind::Text, _) => Self::Text { max },
            (Kind::List, _) => Self::List { max },
            (Kind::Json | Kind::Record, _) => Self::Json { max },
            (Kind::Boolean, _) => Self::Boolean,
            (Kind::Timestamp, _) => Self::Timestamp,
            (Kind::Unsigned, _) => Self::Whole { lowest: 0, highest: u128::from(u64::MAX) },
            (Kind::Decimal, SqlType::Decimal { precision, scale }) => {
                Self::Decimal { precision: precision.into(), scale: scale.into() }
            }
            (Kind::EventValue, SqlType::Decimal { precision, scale }) => {
                Self::DecimalEvent { precision: precision.into(), scale: scale.into() }
            }
            (Kind::EventValue, _) => {
                let (lowest, highest) = limits(sql_type);
                Self::WholeEvent { lowest, highest }
            }
            (Kind::Integer | Kind::Decimal, _) => {
                let (lowest, highest) = limits(sql_type);
                Self::Whole { lowest, highest }
            }
        }
    }
}

/// How far a whole number of this type goes below zero and above.
fn limits(sql_type: SqlType) -> (u128, u128) {
    let signed = |highest: u128| (highest + 1, highest);
    match sql_type {
        SqlType::Smallint => signed(0x7fff),
        SqlType::Integer => signed(0x7fff_ffff),
        SqlType::Decimal { precision, .. } => {
            let limit = 10_u128.saturating_pow(precision.into()) - 1;
            (limit, limit)
        }
        _ => signed(0x7fff_ffff_ffff_ffff),
    }
}

impl Converter {
    /// Appends the cell of `raw`, a valid JSON value, to `row`.
    pub(super) fn convert(
        &mut self,
        convert: Convert,
        raw: &str,
        row: &mut Vec<u8>,
        counts: &mut ColumnCounts,
    ) -> Done {
        match convert {
            Convert::Text { max } => self.text(raw, max, row, counts),
            Convert::List { max } => self.list(raw, max, row, counts),
            Convert::Json { max } => json(raw, max, row),
            Convert::Whole { lowest, highest } => self.whole(raw, lowest, highest, row),
            Convert::Decimal { precision, scale } => {
                let number = value::scalar(raw, &mut self.text).and_then(Number::parse);
                let scaled = number.and_then(|number| number.scaled(number.natural_scale(scale)));
                decimal(scaled, precision, scale, row, counts)
            }
            Convert::Boolean => self.boolean(raw, row),
            Convert::Timestamp => self.timestamp(raw, row, counts),
            Convert::WholeEvent { lowest, highest } => match event::sum(raw, &mut self.text) {
                Some(Some(sum)) => whole(Some(sum.at_most(0)), lowest, highest, row),
                Some(None) => Done::Empty,
                None => Done::Null,
            },
            Convert::DecimalEvent { precision, scale } => match event::sum(raw, &mut self.text) {
                Some(Some(sum)) => decimal(Some(sum.at_most(scale)), precision, scale, row, counts),
                Some(None) => Done::Empty,
                None => Done::Null,
            },
        }
    }

    /// A string as it is, anything else by its JSON text.
    fn text(&mut self, raw: &str, max: usize, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
        let Shape::String(string) = shape(raw) else {
            return if raw == "null" { Done::Empty } else { write_text(raw.as_bytes(), max, row, counts) };
        };
        // Nearly every value: short, nothing escaped. A quote or a line end would be escaped.
        if memchr::memchr2(b'\\', cell::DELIMITER, string).is_none() {
            if string.len() <= max && !cell::edge_is_blank(string) {
                row.extend_from_slice(string);
                return if string.is_empty() { Done::Empty } else { Done::Written };
            }
            return write_text(string, max, row, counts);
        }
        self.text.clear();
        text::unescape(string, &mut self.text, counts);
        write_text(&self.text, max, row, counts)
    }

    fn list(&mut self, raw: &str, max: usize, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
        match list::read(raw) {
            List::Single(value) => self.text(value, max, row, counts),
            List::Array(array, delimiter) => {
                self.text.clear();
                list::join(array, delimiter, &mut self.text, counts);
                write_text(&self.text, max, row, counts)
            }
        }
    }

    fn whole(&mut self, raw: &str, lowest: u128, highest: u128, row: &mut Vec<u8>) -> Done {
        let Some(text) = value::scalar(raw, &mut self.text) else { return Done::Null };
        // Nearly every number: its digits are its form.
        if let Some(number) = small(text)
            && u128::from(number) <= highest
        {
            row.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            return Done::Written;
        }
        let number = match raw {
            "true" => Some(Scaled::from_signed(1, 0)),
            "false" => Some(Scaled::from_signed(0, 0)),
            _ => Number::parse(text).and_then(|number| number.whole()),
        };
        whole(number, lowest, highest, row)
    }

    fn boolean(&mut self, raw: &str, row: &mut Vec<u8>) -> Done {
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
        row.extend_from_slice(word);
        Done::Written
    }

    fn timestamp(&mut self, raw: &str, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
        let text = value::scalar(raw, &mut self.text).unwrap_or_default();
        if let Some(seconds) = small(text).and_then(|seconds| i64::try_from(seconds).ok()) {
            return if time::write_parts(seconds, 0, row) { Done::Written } else { Done::Null };
        }
        let time = Number::parse(text).and_then(|number| number.scaled(6));
        match time {
            Some(time) if time::write(&time, row) => {
                counts.rounded += u64::from(time.rounded);
                Done::Written
            }
            _ => Done::Null,
        }
    }
}

/// A number that is nothing but at most 18 digits.
fn small(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter()
        .try_fold(0_u64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

fn whole(number: Option<Scaled>, lowest: u128, highest: u128, row: &mut Vec<u8>) -> Done {
    let fits = |number: &Scaled| number.units <= if number.negative { lowest } else { highest };
    match number.filter(|number| !number.rounded && fits(number)) {
        Some(number) => {
            number.write(row);
            Done::Written
        }
        None => Done::Null,
    }
}

fn decimal(
    number: Option<Scaled>,
    precision: u32,
    scale: u32,
    row: &mut Vec<u8>,
    counts: &mut ColumnCounts,
) -> Done {
    let Some(number) = number.filter(|number| number.fits(precision, scale)) else { return Done::Null };
    counts.rounded += u64::from(number.rounded);
    number.write(row);
    Done::Written
}

/// A JSON text cut short would be none.
fn json(raw: &str, max: usize, row: &mut Vec<u8>) -> Done {
    if raw.len() > max {
        return Done::Null;
    }
    cell::write(raw.as_bytes(), row);
    Done::Written
}

fn write_text(text: &[u8], max: usize, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
    let kept = text::cut(text, max);
    counts.cut += u64::from(kept.len() < text.len());
    cell::write(kept, row);
    if kept.is_empty() { Done::Empty } else { Done::Written }
}
