//! The replacement of one value, as JSON.

use shared::config::Protect;

use crate::transform::outcome::ColumnCounts;
use crate::transform::protect::how::How;
use crate::transform::protect::parameters::Parameters;
use crate::transform::protect::pseudonym::Pseudonyms;
use crate::transform::protect::{email, ip, query};
use crate::transform::scan::{self, Scanner};
use crate::transform::text;
use crate::transform::value::{self, Shape, shape};

/// Lists within lists deeper than this are dropped.
const DEPTH: usize = 4;
/// The delimiter of a list is no longer, so that no value passes for one.
const DELIMITER_BYTES: usize = 4;

/// Buffers, and what is the same for every value.
#[derive(Debug, Clone)]
pub(super) struct Replacer {
    pub(super) pseudonyms: Pseudonyms,
    parameters: Parameters,
    unescaped: Vec<u8>,
    masked: String,
}

impl Replacer {
    pub(super) fn new(protect: &Protect) -> Self {
        Self {
            pseudonyms: Pseudonyms::new(protect),
            parameters: Parameters::new(&protect.parameters),
            unescaped: Vec::new(),
            masked: String::new(),
        }
    }

    /// Appends what takes the place of `raw`, a valid JSON value. `escaped`: it is a string with a backslash in it. False if
    /// a part of it is not as expected: that is dropped.
    pub(super) fn replace(&mut self, how: How, (raw, escaped): (&str, bool), out: &mut String) -> bool {
        if how == How::Drop {
            out.push_str("null");
            return true;
        }
        match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            // As most values are: no need to look at it again.
            Some(text) if !escaped && !text.is_empty() => {
                let done = self.plain(how, text, out);
                if !done {
                    out.push_str("null");
                }
                done
            }
            _ => self.value(how, raw, DEPTH, out),
        }
    }

    fn value(&mut self, how: How, raw: &str, depth: usize, out: &mut String) -> bool {
        let done = match shape(raw) {
            Shape::Null => false,
            Shape::Array(array) if depth > 0 => return self.array(how, array, depth - 1, out),
            Shape::Object(object) if depth > 0 => return self.list(how, object, depth - 1, out),
            Shape::Array(_) | Shape::Object(_) => false,
            Shape::String(&[]) => {
                out.push_str(raw);
                return true;
            }
            Shape::String(string) if memchr::memchr(b'\\', string).is_some() => {
                let mut unescaped = std::mem::take(&mut self.unescaped);
                unescaped.clear();
                text::unescape(string, &mut unescaped, &mut ColumnCounts::default());
                let done =
                    simdutf8::basic::from_utf8(&unescaped).is_ok_and(|text| self.escaped(how, text, out));
                self.unescaped = unescaped;
                done
            }
            Shape::String(_) => self.plain(how, raw.get(1..raw.len() - 1).unwrap_or_default(), out),
            Shape::Bool(_) | Shape::Number(_) => self.plain(how, raw, out),
        };
        if !done {
            out.push_str("null");
        }
        done || raw == "null"
    }

    /// For a text that stands in JSON as it is: so does what is kept of it. False, and nothing is appended, if it cannot be
    /// masked so.
    fn plain(&mut self, how: How, text: &str, out: &mut String) -> bool {
        let start = out.len();
        out.push('"');
        let done = self.scalar(how, text, out);
        if done {
            out.push('"');
        } else {
            out.truncate(start);
        }
        done
    }

    /// The same for any text.
    fn escaped(&mut self, how: How, text: &str, out: &mut String) -> bool {
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        let done = self.scalar(how, text, &mut masked);
        if done {
            quote(&masked, out);
        }
        self.masked = masked;
        done
    }

    fn scalar(&mut self, how: How, text: &str, out: &mut String) -> bool {
        match how {
            How::Drop => false,
            How::MaskIp => ip::mask(text, out),
            How::MaskEmail => email::mask(text, out),
            How::MaskQuery => query::mask(text, out),
            How::MaskParameters => self.parameters.mask(text, out),
            How::Pseudonym => {
                self.pseudonyms.write(text, out);
                true
            }
        }
    }

    fn array(&mut self, how: How, array: &str, depth: usize, out: &mut String) -> bool {
        let (mut between, mut done) = ("[", true);
        for element in scan::elements(array) {
            out.push_str(between);
            between = ",";
            done &= self.value(how, array.get(element).unwrap_or("null"), depth, out);
        }
        out.push_str(if between == "[" { "[]" } else { "]" });
        done
    }

    /// A list comes as `{values, delim}` too; any other object is dropped, since its keys may be values.
    fn list(&mut self, how: How, object: &str, depth: usize, out: &mut String) -> bool {
        let (mut values, mut delimiter, mut done) = (None, None, true);
        let read = Scanner::of_valid(object).members(object, |key, value| match key {
            "values" => value::keep_last(&mut values, value),
            "delim" => value::keep_last(&mut delimiter, value),
            _ => done = false,
        });
        let Some(values) = values.filter(|_| read.is_ok()) else {
            out.push_str("null");
            return false;
        };
        out.push_str("{\"values\":");
        done &= self.value(how, values, depth, out);
        if let Some(delimiter) = delimiter.filter(|raw| is_delimiter(raw)) {
            out.push_str(",\"delim\":");
            out.push_str(delimiter);
        }
        out.push('}');
        done
    }
}

fn is_delimiter(raw: &str) -> bool {
    match shape(raw) {
        Shape::Number(number) | Shape::String(number) => number.len() <= DELIMITER_BYTES,
        _ => false,
    }
}

/// Appends a text as a JSON string.
fn quote(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // A text can always be written as JSON.
        out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "null".to_owned()));
    }
}
