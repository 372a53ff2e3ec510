//! One value into one cell, by the kind and type of its column.

use crate::transform::list::{self, Delimiter, List, Sent};
use crate::transform::number::{Number, Scaled};
use crate::transform::stats::ColumnCounts;
use crate::transform::value::{self, Shape, plain_unsigned, shape};
use crate::transform::{cell, event, scan, semi, text, time};
use shared::schema::{Column, Kind, SqlType};

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
        /// In the place of what the record says.
        delimiter: Option<Delimiter>,
    },
    /// JSON text for a varchar.
    Json {
        max: usize,
    },
    /// JSON text for a SUPER, which Redshift takes apart.
    Super,
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
    /// The converter's name of the instance.
    Instance {
        max: usize,
    },
    /// The converter's mark, in whose place the log writes the id of the batch.
    Batch,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Its cell is written, as far as the type can hold it: what was altered is counted.
    Written,
    /// There is no value: the cell stays empty.
    Empty,
    /// The type has no form for it: the cell stays empty.
    Null,
}

/// The buffers conversion needs; they grow to the longest value and stay. And what is the same in every row.
#[derive(Debug, Clone, Default)]
pub(super) struct Converter {
    pub(super) text: Vec<u8>,
    pub(super) instance: String,
    pub(super) batch_mark: String,
    day: time::Day,
}

impl Convert {
    pub(super) fn new(column: &Column) -> Self {
        let sql_type = column.sql_type;
        let max = match sql_type {
            SqlType::Varchar(bytes) => bytes as usize,
            _ => SUPER_BYTES,
        };
        match (column.kind, sql_type) {
            (Kind::Text, _) => Self::Text { max },
            (Kind::List, _) => {
                let delimiter = column.delimiter.as_deref().and_then(|text| Delimiter::new(text.as_bytes()));
                Self::List { max, delimiter }
            }
            (Kind::Json | Kind::Record, SqlType::Super) => Self::Super,
            (Kind::Json | Kind::Record, _) => Self::Json { max },
            (Kind::Boolean, _) => Self::Boolean,
            (Kind::Timestamp | Kind::LoadTime, _) => Self::Timestamp,
            (Kind::Unsigned, _) => Self::Whole { lowest: 0, highest: u128::from(u64::MAX) },
            (Kind::Decimal, SqlType::Decimal { precision, scale }) => {
                Self::Decimal { precision: precision.into(), scale: scale.into() }
            }
            (Kind::EventValue, SqlType::Decimal { precision, scale }) if scale > 0 => {
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
            (Kind::Instance, _) => Self::Instance { max },
            (Kind::Batch, _) => Self::Batch,
        }
    }

    /// Whether the value is the same whatever the record.
    pub(super) fn is_constant(self) -> bool {
        matches!(self, Self::Instance { .. } | Self::Batch)
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
    /// Appends the cell of `raw`, a valid JSON value, to `row`. `escaped`: it is a string with a backslash in it.
    pub(super) fn convert(
        &mut self,
        convert: Convert,
        raw: &str,
        escaped: bool,
        row: &mut Vec<u8>,
        counts: &mut ColumnCounts,
    ) -> Done {
        match convert {
            Convert::Text { max } => self.text(raw, escaped, max, row, counts),
            Convert::List { max, delimiter } => self.list(raw, escaped, max, delimiter, row, counts),
            Convert::Json { max } => json(raw, max, row, counts),
            Convert::Super => self.semi(raw, row, counts),
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
            Convert::Instance { max } => write_text(self.instance.as_bytes(), max, row, counts),
            Convert::Batch => {
                row.extend_from_slice(self.batch_mark.as_bytes());
                Done::Written
            }
        }
    }

    /// A string as it is, anything else by its JSON text.
    fn text(
        &mut self,
        raw: &str,
        escaped: bool,
        max: usize,
        row: &mut Vec<u8>,
        counts: &mut ColumnCounts,
    ) -> Done {
        let Shape::String(string) = shape(raw) else {
            return if raw == "null" { Done::Empty } else { write_text(raw.as_bytes(), max, row, counts) };
        };
        if escaped {
            self.text.clear();
            text::unescape(string, &mut self.text, counts);
            return write_text(&self.text, max, row, counts);
        }
        // Nearly every value: short, with no delimiter. A quote or a line end would be escaped.
        if string.len() <= max && !cell::edge_is_blank(string) && !scan::contains(string, cell::DELIMITER) {
            row.extend_from_slice(string);
            return if string.is_empty() { Done::Empty } else { Done::Written };
        }
        write_text(string, max, row, counts)
    }

    fn list(
        &mut self,
        raw: &str,
        escaped: bool,
        max: usize,
        delimiter: Option<Delimiter>,
        row: &mut Vec<u8>,
        counts: &mut ColumnCounts,
    ) -> Done {
        if raw.starts_with('"') {
            return self.text(raw, escaped, max, row, counts);
        }
        match list::read(raw) {
            // Of a value within an object it is not known whether it is escaped: it may be.
            List::Single(value) => self.text(value, true, max, row, counts),
            List::Array(array, sent) => {
                self.text.clear();
                let delimiter = match (delimiter, sent) {
                    (Some(configured), _) => configured,
                    (None, Sent::Usable(sent)) => sent,
                    (None, Sent::Nothing) => Delimiter::default(),
                    (None, Sent::Unusable) => {
                        counts.delimiters += 1;
                        Delimiter::default()
                    }
                };
                list::join(array, delimiter, &mut self.text, counts);
                write_text(&self.text, max, row, counts)
            }
        }
    }

    /// Of what Redshift has no value for, no more is lost than must be.
    fn semi(&mut self, raw: &str, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
        if semi::fits(raw, &mut self.text) {
            return json(raw, SUPER_BYTES, row, counts);
        }
        self.text.clear();
        if !semi::mend(raw, &mut self.text, counts) {
            return Done::Null;
        }
        std::str::from_utf8(&self.text).map_or(Done::Null, |mended| json(mended, SUPER_BYTES, row, counts))
    }

    fn whole(&mut self, raw: &str, lowest: u128, highest: u128, row: &mut Vec<u8>) -> Done {
        let Some(text) = value::scalar(raw, &mut self.text) else { return Done::Null };
        // Nearly every number: its digits are its form.
        if let Some(number) = plain_unsigned(text)
            && u128::from(number) <= highest
        {
            if text.first() == Some(&b'0') {
                row.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            } else {
                row.extend_from_slice(text);
            }
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
        if let Some(seconds) = plain_unsigned(text).and_then(|seconds| i64::try_from(seconds).ok()) {
            return if self.day.write(seconds, 0, row) { Done::Written } else { Done::Null };
        }
        let time = Number::parse(text).and_then(|number| number.scaled(6));
        match time {
            Some(time) if self.day.write_scaled(&time, row) => {
                counts.rounded += u64::from(time.rounded);
                Done::Written
            }
            _ => Done::Null,
        }
    }
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

/// A JSON text cut short would be none, but for an array, which is one again behind each of its elements.
fn json(raw: &str, max: usize, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
    if raw.len() <= max {
        cell::write(raw.as_bytes(), row);
        return Done::Written;
    }
    let Some(elements) = list::whole_elements(raw, max) else { return Done::Null };
    counts.cut += 1;
    cell::write(format!("{elements}]").as_bytes(), row);
    Done::Written
}

fn write_text(text: &[u8], max: usize, row: &mut Vec<u8>, counts: &mut ColumnCounts) -> Done {
    let kept = text::cut(text, max);
    counts.cut += u64::from(kept.len() < text.len());
    cell::write(kept, row);
    if kept.is_empty() { Done::Empty } else { Done::Written }
}
