//! Whether one line, whatever it holds, is turned into a row as promised: for tests and for the fuzzer.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use producer::{Outcome, Reject, Transform};
use redshift::Judge;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::schema::{Column, JsonPath, Kind, Rule, Schema, SchemaError, SqlType};

use crate::Reference;

const INSTANCE: &str = "web~1";

/// The transform of one schema, COPY's reading of its rows, and the reference.
pub struct Checker {
    transform: Transform,
    reference: Reference,
    judge: Judge,
}

/// A schema with a column for every kind and rule, each fed by the field of its kind's name.
///
/// # Errors
/// Never, as long as the schema's own rules do not change.
pub fn every_kind() -> Result<Schema, SchemaError> {
    use SqlType::{Bigint, Boolean, Decimal, Integer, Smallint, Super, Timestamp, Varchar};
    let money = Decimal { precision: 9, scale: 2 };
    let kinds = [
        (Kind::Text, Varchar(9)),
        (Kind::List, Varchar(9)),
        (Kind::Integer, Smallint),
        (Kind::Integer, Integer),
        (Kind::Integer, Bigint),
        (Kind::Unsigned, Decimal { precision: 20, scale: 0 }),
        (Kind::Decimal, money),
        (Kind::Decimal, Decimal { precision: 38, scale: 10 }),
        (Kind::Boolean, Boolean),
        (Kind::Timestamp, Timestamp),
        (Kind::EventValue, money),
        (Kind::EventValue, Integer),
        (Kind::Json, Varchar(40)),
        (Kind::Json, Super),
        (Kind::Record, Varchar(400)),
    ];
    let mut columns = vec![Column::new("instance", vec![], Kind::Instance, Varchar(127))];
    for (number, (kind, sql_type)) in kinds.into_iter().enumerate() {
        for rule in [Rule::Null, Rule::Cut] {
            let whole = matches!(kind, Kind::Integer | Kind::Unsigned | Kind::Boolean)
                || (kind == Kind::EventValue && sql_type.is_whole_number());
            if rule == Rule::Cut && whole {
                continue;
            }
            let paths = match kind {
                Kind::Record => vec![JsonPath::record()],
                _ => vec![JsonPath::of([kind.name()]), JsonPath::of(["o", kind.name()])],
            };
            let column = Column::new(format!("{kind}_{rule}_{number}"), paths, kind, sql_type);
            columns.push(Column { rule, ..column });
        }
    }
    let strict = Column::new("strict", vec![JsonPath::of(["strict"])], Kind::Text, Varchar(3));
    columns.push(Column { rule: Rule::Reject, ..strict });
    let joined = Column::new("joined", vec![JsonPath::of(["list"])], Kind::List, Varchar(65535));
    columns.push(Column { delimiter: Some("|~".to_owned()), ..joined });
    Schema::new(columns, "every kind")
}

impl Checker {
    /// For rows of this schema.
    ///
    /// # Errors
    /// When the schema cannot be used.
    pub fn new(schema: &Schema) -> anyhow::Result<Self> {
        Ok(Self {
            transform: Transform::new(schema, &[])?.with_instance(INSTANCE),
            reference: Reference::new(schema, INSTANCE),
            judge: Judge::new(
                schema.in_row().map(|column| (column.name.as_str(), column.sql_type.to_string())),
            )?,
        })
    }

    /// Turns the line into a row. A line that is a JSON object, mended or as it came, must become one, unless a rule
    /// rejects it, and COPY must take the row without altering a value; any other line must be a reject. The row of a
    /// line with raw control characters must be that of the line with their escapes. Then the same for the line as `Value` prints it, of
    /// whose row the reference knows every byte.
    ///
    /// # Errors
    /// With what is not as it should be.
    pub fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        // A raw value checks the grammar only, as the transform does: half a surrogate pair is none of its business.
        let is_object = |line: &[u8]| {
            serde_json::from_slice::<Box<RawValue>>(line).is_ok_and(|raw| raw.get().starts_with('{'))
        };
        if is_object(line) {
            self.transformed(line, true)?;
        } else {
            let mended = mended(line);
            let is_object = is_object(mended.as_bytes());
            let row = self.transformed(line, is_object)?;
            // What is no UTF-8 counts as altered, which U+FFFD does not.
            if is_object && row.is_some() && std::str::from_utf8(line).is_ok() {
                let expected = self.transformed(mended.as_bytes(), true)?;
                ensure!(row == expected, "mended it gave another row than {mended:?}");
            }
        }
        if let Ok(Value::Object(record)) = serde_json::from_slice(line) {
            self.record(&record)?;
        }
        Ok(())
    }

    /// A record as `Value` prints it gives the row of the reference, and the columns that have not all they were sent
    /// are those that are counted.
    ///
    /// # Errors
    /// With both rows if they differ.
    pub fn record(&mut self, record: &Map<String, Value>) -> anyhow::Result<Option<Vec<u8>>> {
        let line = serde_json::to_string(record)?;
        self.transform.drain_altered(|_, _| ());
        let row = self.transformed(line.as_bytes(), true)?;
        let mut expected = Vec::new();
        let expected = self.reference.row(record, &line, &mut expected).is_ok().then_some(expected);
        let show = |row: &Option<Vec<u8>>| {
            row.as_ref().map_or("a reject".to_owned(), |row| row.escape_ascii().to_string())
        };
        let mut counted = BTreeSet::new();
        self.transform.drain_altered(|column, _| {
            counted.insert(column.to_owned());
        });
        let altered: BTreeSet<String> = self.reference.altered().map(str::to_owned).collect();
        let is_row = row.is_some();
        ensure!(!is_row || counted == altered, "{line}\ncounted {counted:?}\nand not {altered:?}");
        ensure!(row == expected, "{line}\ngave     {}\nand not  {}", show(&row), show(&expected));
        Ok(row)
    }

    /// The row, or none if a rule rejected the record.
    fn transformed(&mut self, line: &[u8], is_object: bool) -> anyhow::Result<Option<Vec<u8>>> {
        let mut row = Vec::new();
        let outcome = self.transform.record(line, &mut row);
        let is_row = matches!(outcome, Outcome::Row { .. });
        ensure!(is_row != row.is_empty(), "{outcome:?} with {} bytes", row.len());
        match &outcome {
            Outcome::Row { .. } if !is_object => bail!("no JSON object, but a row: {}", row.escape_ascii()),
            Outcome::Row { .. } => {}
            Outcome::Rejected(Reject::Misfit { .. } | Reject::RowTooLong { .. }) if is_object => {
                return Ok(None);
            }
            Outcome::Rejected(_) if !is_object => return Ok(None),
            Outcome::Rejected(_) | Outcome::Filtered { .. } => bail!("a JSON object, but {outcome:?}"),
        }
        let read = self.judge.read(&row).with_context(|| row.escape_ascii().to_string())?;
        ensure!(read.len() == 1, "{} rows: {}", read.len(), row.escape_ascii());
        Ok(Some(row))
    }
}

/// The line with U+FFFD in the place of what is no UTF-8, and the escapes of control characters within its strings.
fn mended(line: &[u8]) -> String {
    let (mut mended, mut in_string, mut escaped) = (String::new(), false, false);
    for c in String::from_utf8_lossy(line).chars() {
        if in_string && !escaped && c < ' ' {
            mended.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            mended.push(c);
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
    }
    mended
}
