//! A schema of the columns that a stream fills.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use anyhow::anyhow;
use shared::clock::Clock;
use shared::config::Protect;
use shared::exit::{Exit, Failure};
use shared::human::{count, counted, time};
use shared::schema::{Column, JsonPath, Kind, MAX_COLUMNS, Rule, Schema, SqlType};
use state::status::drift::SeenField;

use crate::commands::schema::columns::as_toml;
use crate::commands::schema::file::Looked;
use crate::commands::schema::protected::Protected;
use crate::commands::schema::saving::Cost;
use crate::transform::IDENTITY;

const WIDTHS: [u32; 11] = [64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_535];
/// Fewer values say little of those that come later: by them no column is made narrower, and a new one has room.
const ENOUGH: u64 = 1_000;
/// The narrowest text column of so few values.
const ROOM: u32 = 256;
/// The digits behind the point that a new number has room for, beyond those seen.
const SCALE: u64 = 2;
/// A whole number of more digits may be of 64 bits, such as an id.
const WHOLE_DIGITS: u64 = 15;
const RECORD: [&str; 2] = ["record", "record_json"];

/// What comes of the fields.
struct Suggested {
    columns: Vec<Column>,
    /// Fields that have become columns.
    new: usize,
    /// Fields that are in `record` only.
    left: Vec<String>,
    /// It had no column for the record.
    adds_record: bool,
}

/// Writes the schema file.
pub(super) fn suggest(
    schema: &Schema,
    looked: &Looked,
    protect: &Protect,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if looked.seen.looked_at == 0 {
        return Err(Failure::new(
            Exit::Unavailable,
            anyhow!(
                "no record was looked at yet: wait until the producer has read some thousand, or give records with --input FILE"
            ),
        ));
    }
    let suggested = suggested(schema, &looked.seen.fields, &Protected::of(protect, schema));
    let columns = suggested.columns.clone();
    let whole =
        Schema::new(columns, "the suggested schema").map_err(|error| Failure::new(Exit::Software, error))?;
    let head = head(schema, &whole, &suggested, looked, clock);
    writeln!(out, "{}\n{}", head.trim_end(), as_toml(&whole.columns))?;
    Ok(())
}

fn head(schema: &Schema, whole: &Schema, suggested: &Suggested, looked: &Looked, clock: &Clock) -> String {
    let Looked { seen, origin, others, sample } = looked;
    let (records, at) = (counted(seen.looked_at, "record", "records"), time(clock.wall()));
    let mut lines = vec![
        format!("Written by `producer schema --suggest` at {at}, from {records} of {origin}."),
        format!(
            "{} of {} columns have values; {} more for fields that are in none, and one for the record.",
            count((suggested.columns.len() - suggested.new - usize::from(suggested.adds_record)) as u64),
            count(schema.columns.len() as u64),
            count(suggested.new as u64)
        ),
    ];
    if *others > 0 {
        lines.push(format!("{} that become no row were left out.", counted(*others, "line", "lines")));
    }
    let without = suggested.columns.iter().filter(|column| column.kind != Kind::Record).cloned().collect();
    let without = Schema::new(without, "the suggested schema").ok();
    let built_in = Schema::default();
    let costs = [
        ("the built-in schema", Some(&built_in)),
        ("the schema in force", Some(schema)),
        ("this one", Some(whole)),
        ("this one without the record", without.as_ref()),
    ];
    let costs = costs.map(|(name, schema)| Some(Cost::of(schema?, sample, clock)?.line(name)));
    lines.extend(costs.into_iter().flatten());
    lines.push(
        "What did not come in these records has no column: it is in the column of kind `record` only."
            .to_owned(),
    );
    if suggested.adds_record {
        lines.push(
            "It makes rows longer. Leave it out if they should be short; then what has no column is lost."
                .to_owned(),
        );
    }
    for path in &suggested.left {
        lines.push(format!("no column: {path}"));
    }
    lines.iter().map(|line| format!("# {line}\n")).collect()
}

fn suggested(schema: &Schema, fields: &[SeenField], protected: &Protected) -> Suggested {
    let by_path: HashMap<&str, &SeenField> =
        fields.iter().map(|field| (field.path.as_str(), field)).collect();
    let mut columns: Vec<Column> =
        schema.columns.iter().filter_map(|column| kept(column, &by_path, protected)).collect();
    let has_record = columns.iter().any(|column| column.kind == Kind::Record);
    let mut names: HashSet<String> = columns.iter().map(|column| column.name.clone()).collect();
    names.extend(RECORD.map(str::to_owned));
    // A column of such a name would take the protection from the path that is meant.
    names.extend(protected.names().map(str::to_owned));
    let (mut new, mut left) = (0, Vec::new());
    for field in fields.iter().filter(|field| field.column.is_none() && !is_identity(field)) {
        let column = column_of(field, &mut names).filter(|_| columns.len() + 1 < MAX_COLUMNS);
        match column {
            Some(column) => {
                columns.push(column);
                new += 1;
            }
            None if is_filled(field) => left.push(field.path.clone()),
            None => {}
        }
    }
    if !has_record {
        let taken = columns.iter().any(|column| column.name == RECORD[0]);
        let name = if taken { RECORD[1] } else { RECORD[0] };
        columns.push(Column::new(name, vec![JsonPath::record()], Kind::Record, SqlType::Super));
    }
    Suggested { columns, new, left, adds_record: !has_record }
}

fn is_filled(field: &SeenField) -> bool {
    field.records > field.values.empty
}

fn is_identity(field: &SeenField) -> bool {
    IDENTITY.contains(&field.path.as_str())
}

/// The column as it is to be; None if no record has anything for it.
fn kept(column: &Column, by_path: &HashMap<&str, &SeenField>, protected: &Protected) -> Option<Column> {
    // Without a column that `[protect]` names, the name would be a path, and the value stand in the record as it was sent.
    // Of a protected value it is not known how long it is, nor what takes its place.
    let is_own = !column.kind.is_from_record() || column.kind == Kind::Record;
    if is_own || protected.names().any(|name| name == column.name) {
        return Some(column.clone());
    }
    let paths: Vec<_> = column.paths.iter().map(ToString::to_string).collect();
    let seen: Vec<_> = paths.iter().filter_map(|path| by_path.get(path.as_str()).copied()).collect();
    let is_needed = paths.iter().any(|path| IDENTITY.contains(&path.as_str()));
    if !is_needed && !seen.iter().any(|field| is_filled(field)) {
        return None;
    }
    let mut kept = column.clone();
    if let SqlType::Varchar(bytes) = column.sql_type
        && matches!(column.kind, Kind::Text | Kind::List | Kind::Json)
        && !protected.touches(column)
    {
        let may_narrow = column.rule != Rule::Reject && is_measured(column);
        kept.sql_type = SqlType::Varchar(fitting(bytes, may_narrow, &seen));
    }
    Some(kept)
}

/// Whether the bytes of a value in the record say how many the cell takes.
fn is_measured(column: &Column) -> bool {
    match column.kind {
        Kind::Text | Kind::Json => true,
        // A longer one, which the record may also state itself, makes more of the list than its JSON has.
        Kind::List => column.delimiter.as_ref().is_some_and(|delimiter| delimiter.len() == 1),
        _ => false,
    }
}

/// The width of a text column that has so many bytes: wider if that was too little, narrower if it may be and enough values
/// say so. Where the rule is to reject, a later value that is longer would be the end of its record.
fn fitting(bytes: u32, may_narrow: bool, seen: &[&SeenField]) -> u32 {
    let longest = seen.iter().map(|field| field.values.longest).max().unwrap_or(0);
    let values = seen.iter().map(|field| field.records.saturating_sub(field.values.empty)).sum();
    if longest > u64::from(bytes) {
        width(longest, values)
    } else if !may_narrow || values < ENOUGH {
        bytes
    } else {
        width(longest, values).min(bytes)
    }
}

/// The longest, and half of it more, in steps.
fn width(longest: u64, values: u64) -> u32 {
    let least = if values < ENOUGH { ROOM } else { 0 };
    let wanted = u64::from(least).max(longest + longest / 2);
    WIDTHS.into_iter().find(|width| u64::from(*width) >= wanted).unwrap_or(65_535)
}

/// A column for a field that has none; None if its values are of several types, or it cannot be named.
fn column_of(field: &SeenField, names: &mut HashSet<String>) -> Option<Column> {
    if field.is_protected || !field.is_plain || !is_filled(field) {
        return None;
    }
    let values = &field.values;
    let types: Vec<_> = values.types.keys().map(String::as_str).collect();
    let width = width(values.longest, field.records.saturating_sub(values.empty));
    let (kind, sql_type) = match types[..] {
        ["text"] => (Kind::Text, SqlType::Varchar(width)),
        ["boolean"] => (Kind::Boolean, SqlType::Boolean),
        ["number"] => (Kind::Decimal, number(values.whole_digits, values.fraction_digits)?),
        ["array" | "object"] if values.longest > 43_000 => (Kind::Json, SqlType::Super),
        ["array" | "object"] => (Kind::Json, SqlType::Varchar(width)),
        _ => return None,
    };
    let path: JsonPath = field.path.parse().ok()?;
    let keys = path.keys();
    // The last key says enough, unless it is taken.
    let short = name(keys.get(keys.len().checked_sub(1)?..)?);
    let name = [short, name(keys)].into_iter().find(|name| !names.contains(name))?;
    let mut column = Column::new(name.clone(), vec![path], kind, sql_type);
    if kind == Kind::Decimal {
        // More digits behind the point than there are now are rounded: a number that is NULL says nothing.
        column.rule = Rule::Cut;
    }
    Schema::new(vec![column.clone()], "suggested").ok()?;
    names.insert(name);
    Some(column)
}

/// Room for whole numbers of 64 bits, for three digits more than were seen before the point, and two more behind it: a number
/// that was whole so far may be an amount. One too long for an amount is an id.
fn number(whole: u64, fraction: u64) -> Option<SqlType> {
    let is_id = fraction == 0 && whole > WHOLE_DIGITS;
    let scale = if is_id { 0 } else { fraction + SCALE };
    let before = (whole + 3).max(if is_id { 20 } else { WHOLE_DIGITS + 3 });
    let precision = u8::try_from(before + scale).ok()?;
    let scale = u8::try_from(scale).ok()?;
    // Where there is no room for all, for those that were seen.
    let seen = u8::try_from(whole + u64::from(scale)).ok()?;
    (seen <= 38).then(|| SqlType::Decimal { precision: precision.min(38), scale })
}

fn name(keys: &[String]) -> String {
    let text = keys.join("_").to_ascii_lowercase();
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("field_{plain}") } else { plain }
}

#[cfg(test)]
mod tests;
