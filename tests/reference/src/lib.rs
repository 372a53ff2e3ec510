//! The transform once more, the obvious way: a `serde_json::Value` of the whole record, a `String` for each cell.
//!
//! It shares no code with the producer's transform but the schema, so that tests can ask whether the two agree, and
//! a benchmark how much the obvious way costs. A `Value` does not know how the record spelled a number or an escape:
//! the two agree byte for byte on records that are spelled as a `Value` prints.

mod check;
mod decimal;
mod value;

use serde_json::{Map, Value};
use shared::schema::{Column, Kind, Rule, Schema};

pub use check::{Checker, every_kind};
pub use value::Fit;

/// The schema, ready for records.
#[derive(Debug)]
pub struct Reference {
    columns: Vec<Column>,
    /// The value of columns of kind `instance`.
    instance: String,
    cell: String,
    altered: Vec<usize>,
}

/// A value does not fit the column of this name, whose rule is to reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected(pub String);

impl Reference {
    /// For rows of this schema.
    #[must_use]
    pub fn new(schema: &Schema, instance: &str) -> Self {
        Self {
            columns: schema.in_row().cloned().collect(),
            instance: instance.to_owned(),
            cell: String::new(),
            altered: Vec::new(),
        }
    }

    /// Columns of the latest row that have not all they were sent.
    pub fn altered(&self) -> impl Iterator<Item = &str> {
        self.altered.iter().filter_map(|number| Some(self.columns.get(*number)?.name.as_str()))
    }

    /// Appends the record's row; `line` is the record's own text.
    ///
    /// # Errors
    /// When a column's rule rejects the record. The row is then left half written.
    pub fn row(
        &mut self,
        record: &Map<String, Value>,
        line: &str,
        row: &mut Vec<u8>,
    ) -> Result<(), Rejected> {
        let start = row.len();
        let mut cell = std::mem::take(&mut self.cell);
        let mut altered = std::mem::take(&mut self.altered);
        altered.clear();
        // Neighbours nearly always stand in the same object: it is looked for once.
        let mut parents = Parents { record, last: None };
        for (number, column) in self.columns.iter().enumerate() {
            if number > 0 {
                row.push(b'~');
            }
            cell.clear();
            if self.cell(column, &mut parents, line, &mut cell)? {
                altered.push(number);
            }
            write_cell(&cell, row);
        }
        if row.len() == start {
            row.extend_from_slice(b"\"\"");
        }
        row.push(b'\n');
        (self.cell, self.altered) = (cell, altered);
        Ok(())
    }

    /// Fills the cell; true if that is not all that was sent.
    fn cell<'a>(
        &'a self,
        column: &'a Column,
        parents: &mut Parents<'a>,
        line: &str,
        cell: &mut String,
    ) -> Result<bool, Rejected> {
        let (mut misfit, mut altered) = (false, false);
        match column.kind {
            Kind::Instance => {
                cell.push_str(&self.instance);
                return Ok(value::cut(cell, column));
            }
            Kind::Record => {
                let mended = |out: &mut String| value::write_object(parents.record, out);
                match value::json_text(line.trim_ascii(), mended, column, cell) {
                    Fit::Whole => {}
                    Fit::Altered if column.rule == Rule::Cut => altered = true,
                    Fit::Altered | Fit::Misfit => misfit = true,
                }
            }
            _ => {
                for path in &column.paths {
                    let found = parents.get(path.keys());
                    let Some(found) = found.filter(|found| !is_empty(found)) else { continue };
                    cell.clear();
                    match value::store(found, column, cell) {
                        Fit::Whole if !cell.is_empty() => return Self::missed(column, misfit, altered),
                        Fit::Altered if !cell.is_empty() && column.rule == Rule::Cut => {
                            return Self::missed(column, misfit, true);
                        }
                        Fit::Whole => {}
                        Fit::Altered if column.rule == Rule::Cut => altered = true,
                        Fit::Altered | Fit::Misfit => misfit = true,
                    }
                    cell.clear();
                }
            }
        }
        if misfit {
            cell.clear();
        }
        Self::missed(column, misfit, altered)
    }

    /// A spelling whose value does not fit rejects the record under that rule, whatever another spelling has.
    fn missed(column: &Column, misfit: bool, altered: bool) -> Result<bool, Rejected> {
        let rejects = misfit && column.rule == Rule::Reject;
        if rejects { Err(Rejected(column.name.clone())) } else { Ok(misfit || altered) }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Finds values; remembers the object the last one stood in.
struct Parents<'a> {
    record: &'a Map<String, Value>,
    last: Option<Parent<'a>>,
}

/// The keys that lead to an object, and the object, if there is one.
type Parent<'a> = (&'a [String], Option<&'a Map<String, Value>>);

impl<'a> Parents<'a> {
    fn get(&mut self, keys: &'a [String]) -> Option<&'a Value> {
        let (last, parents) = keys.split_last()?;
        let object = match self.last {
            Some((known, object)) if known == parents => object,
            _ => {
                let mut object = Some(self.record);
                for key in parents {
                    object = object.and_then(|object| object.get(key)?.as_object());
                }
                self.last = Some((parents, object));
                object
            }
        };
        object?.get(last)
    }
}

/// A cell as COPY reads it back: quoted if it would be taken for something else.
fn write_cell(cell: &str, row: &mut Vec<u8>) {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
    let bytes = cell.as_bytes();
    let quoted = bytes.iter().any(|byte| matches!(byte, b'~' | b'"' | b'\n' | b'\r'))
        || blank(bytes.first())
        || blank(bytes.last())
        || matches!(cell, "\\." | "\\N");
    if !quoted {
        row.extend_from_slice(bytes);
        return;
    }
    row.push(b'"');
    row.extend_from_slice(
        if cell.contains('"') { cell.replace('"', "\"\"") } else { cell.to_owned() }.as_bytes(),
    );
    row.push(b'"');
}
