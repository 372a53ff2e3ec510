//! Judges the rows of a file and hands the good ones on as the CSV PostgreSQL shall copy.
//!
//! A row whose values PostgreSQL reads as Redshift does goes through untouched, as one slice; only a row with
//! a value that must change is written anew.

use std::io::Read;

use memchr::{memchr, memchr_iter};

use super::csv::{Field, Found, Scanner};
use super::load_errors::LoadError;
use crate::types::{Outcome, Reading, Reason, Type, reason};

/// <https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html>: a row has at most 4 MB.
const MAX_ROW_BYTES: usize = 4 << 20;
/// Beyond this the end of a row is not looked for.
const GIVE_UP_BYTES: usize = 64 << 20;
/// Of one small node.
const SLICES: u32 = 2;
const READ_BYTES: usize = 256 << 10;
const SEND_BYTES: usize = 256 << 10;

/// A column the rows are loaded into.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Type,
    /// Declared NOT NULL: a missing value is an error of the row.
    pub(crate) required: bool,
}

/// What applies to every row of a COPY.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) targets: Vec<Target>,
    pub(crate) delimiter: u8,
    pub(crate) empty_as_null: bool,
    pub(crate) accept_inv_chars: Option<u8>,
    pub(crate) reading: Reading,
    /// The load fails when this many rows are bad.
    pub(crate) fails_at: u64,
    /// Only the form of values is looked at, as far as is known: a value that is missing where the table needs one is
    /// found by a load alone.
    pub(crate) no_load: bool,
    /// `line_number` counts rows, and not lines of the file.
    pub(crate) rows_as_lines: bool,
}

/// Why a file's reading ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// As many bad rows as were allowed.
    TooManyErrors,
    /// The file cannot be read.
    Unreadable(std::io::Error),
    /// Nobody takes the rows any more.
    Abandoned,
}

/// Takes a buffer of good rows; `false` if it is no longer wanted.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Vec<u8>) -> bool;

/// Reads the files of one COPY, one after the other.
pub(crate) struct Loader {
    rules: Rules,
    scanner: Scanner,
    out: Vec<u8>,
    scratch: Vec<u8>,
    unescaped: Vec<u8>,
    /// Field index and range in `scratch` of the values that change.
    changes: Vec<(usize, usize, usize)>,
    required: usize,
    /// Files begun so far.
    files: u32,
    pub(crate) loaded: u64,
    pub(crate) errors: Vec<LoadError>,
}

/// A bad row: at which field, and why.
struct Bad {
    field: Option<usize>,
    column: Option<usize>,
    reason: Reason,
}

impl Bad {
    fn row(code: u16, text: &str) -> Self {
        Self { field: None, column: None, reason: reason(code, text) }
    }
}

impl Loader {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            scanner: Scanner::new(rules.delimiter),
            out: Vec::with_capacity(SEND_BYTES + (64 << 10)),
            scratch: Vec::new(),
            unescaped: Vec::new(),
            changes: Vec::new(),
            required: rules.targets.iter().filter(|target| target.required).count(),
            files: 0,
            loaded: 0,
            errors: Vec::new(),
            rules,
        }
    }

    /// Reads one file to its end. What is left over for the sink comes with `finish`.
    pub(crate) fn file(&mut self, name: &str, input: &mut dyn Read, sink: Sink<'_>) -> Result<u64, Stop> {
        let mut buffer = vec![0; 2 * READ_BYTES];
        let (mut start, mut filled, mut ended, mut line) = (0, 0, false, 1);
        self.files += 1;
        loop {
            while start < filled {
                let found = self.scanner.scan(&buffer[start..filled], ended);
                let Found::Row { end, next } = found else { break };
                line += self.row(name, &buffer[start..start + end], line)?;
                start += next;
                if self.out.len() >= SEND_BYTES {
                    self.flush(sink)?;
                }
            }
            if ended {
                return Ok(line - 1);
            }
            buffer.copy_within(start..filled, 0);
            filled -= start;
            start = 0;
            if filled > GIVE_UP_BYTES {
                return Err(Stop::Unreadable(std::io::Error::other("a row has no end")));
            }
            // Doubling keeps the second look at a long row cheap.
            if buffer.len() - filled < READ_BYTES {
                buffer.resize(buffer.len() * 2, 0);
            }
            while filled < buffer.len() {
                let read = input.read(&mut buffer[filled..]).map_err(Stop::Unreadable)?;
                filled += read;
                ended = read == 0;
                if ended || filled >= READ_BYTES {
                    break;
                }
            }
        }
    }

    /// Hands over the last rows.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) -> Result<(), Stop> {
        self.flush(sink)
    }

    fn flush(&mut self, sink: Sink<'_>) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.out, Vec::with_capacity(SEND_BYTES + (64 << 10)));
        if sink(full) { Ok(()) } else { Err(Stop::Abandoned) }
    }

    /// Judges and writes a row; says how many lines of the file it took.
    fn row(&mut self, file: &str, row: &[u8], line: u64) -> Result<u64, Stop> {
        let within = if self.rules.rows_as_lines { 0 } else { memchr_iter(b'\n', row).count() as u64 };
        let lines = 1 + within;
        let replaced;
        let mut row = row;
        if let Some(replacement) = self.rules.accept_inv_chars
            && simdutf8::basic::from_utf8(row).is_err()
        {
            replaced = replace_invalid(row, replacement);
            row = &replaced;
        }
        match self.judge(row) {
            Ok(()) => {
                self.loaded += 1;
                if !self.rules.no_load {
                    self.write(row);
                }
            }
            Err(bad) => {
                let error = self.describe(file, row, line, bad);
                self.errors.push(error);
                if self.errors.len() as u64 >= self.rules.fails_at {
                    return Err(Stop::TooManyErrors);
                }
            }
        }
        Ok(lines)
    }

    fn judge(&mut self, row: &[u8]) -> Result<(), Bad> {
        self.changes.clear();
        self.scratch.clear();
        if row.len() > MAX_ROW_BYTES {
            return Err(Bad::row(1216, "Input line is not valid: it exceeds 4194304 bytes"));
        }
        if self.scanner.malformed.is_some() {
            return Err(Bad::row(1214, "Invalid quote formatting for CSV"));
        }
        let columns = self.rules.targets.len();
        if self.scanner.count > columns {
            return Err(Bad::row(1202, "Extra column(s) found"));
        }
        if self.scanner.count < columns {
            let column = Some(self.scanner.count - 1);
            return Err(Bad { column, ..Bad::row(1214, "Delimiter not found") });
        }
        let null_byte = memchr(0, row);
        let invalid = simdutf8::compat::from_utf8(row).err().map(|error| error.valid_up_to());
        if let Some(at) = null_byte.into_iter().chain(invalid).min() {
            let text = if null_byte == Some(at) {
                reason(1218, "Invalid null byte - field longer than 1 byte")
            } else {
                let digits: Vec<String> = row[at..].iter().take(4).map(|byte| format!("{byte:x}")).collect();
                reason(
                    1220,
                    format!(
                        "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: {} (error 2)",
                        digits.join(" ")
                    ),
                )
            };
            let field = self
                .scanner
                .fields
                .iter()
                .position(|field| (field.start as usize..field.end as usize).contains(&at));
            return Err(Bad { field, column: None, reason: text });
        }
        let mut present = 0;
        for index in 0..self.scanner.fields.len() {
            let field = self.scanner.fields[index];
            let Target { kind, required, .. } = self.rules.targets[field.column as usize];
            present += usize::from(self.value(row, index, field, kind)? && required);
        }
        self.check_required(present)
    }

    /// Judges one value; says whether there is one.
    fn value(&mut self, row: &[u8], index: usize, field: Field, kind: Type) -> Result<bool, Bad> {
        let raw = &row[field.value_start as usize..field.value_end as usize];
        if raw.is_empty() {
            if field.end - field.start > 2 {
                // Blanks around the quotes, which PostgreSQL would take for the value.
                self.changes.push((index, self.scratch.len(), self.scratch.len()));
            }
            return Ok(false);
        }
        if self.rules.reading.blanks_are_null && kind.is_text() && raw.iter().all(u8::is_ascii_whitespace) {
            // Written as a field without quotes, which is NULL with EMPTYASNULL.
            self.changes.push((index, self.scratch.len(), self.scratch.len()));
            return Ok(false);
        }
        let start = self.scratch.len();
        let outcome = if field.doubled {
            self.unescaped.clear();
            let mut last_was_quote = false;
            for byte in raw {
                last_was_quote = *byte == b'"' && !last_was_quote;
                if !last_was_quote {
                    self.unescaped.push(*byte);
                }
            }
            kind.check(&self.unescaped, self.rules.reading, &mut self.scratch)
        } else {
            kind.check(raw, self.rules.reading, &mut self.scratch)
        };
        match outcome {
            Ok(Outcome::Rewritten) => self.changes.push((index, start, self.scratch.len())),
            Ok(Outcome::AsIs) => {
                let padded =
                    field.quoted && field.end - field.start != field.value_end - field.value_start + 2;
                // PostgreSQL takes a CR outside quotes for the end of a row.
                let bare_return = !field.quoted && memchr(b'\r', raw).is_some();
                if padded || bare_return {
                    self.scratch.extend_from_slice(if field.doubled { &self.unescaped } else { raw });
                    self.changes.push((index, start, self.scratch.len()));
                }
            }
            Err(reason) => return Err(Bad { field: Some(index), column: None, reason }),
        }
        Ok(true)
    }

    fn check_required(&self, present: usize) -> Result<(), Bad> {
        if present == self.required || self.rules.no_load {
            return Ok(());
        }
        for (column, target) in self.rules.targets.iter().enumerate().filter(|(_, target)| target.required) {
            let field = self.scanner.fields.iter().find(|field| field.column as usize == column);
            let empty = field.is_none_or(|field| field.value_start == field.value_end);
            // Without EMPTYASNULL an empty string is a value.
            if empty && (self.rules.empty_as_null || !target.kind.is_text()) {
                return Err(Bad {
                    column: Some(column),
                    ..Bad::row(1213, "Missing data for not-null field")
                });
            }
        }
        Ok(())
    }

    fn write(&mut self, row: &[u8]) {
        if row == b"\\." {
            // PostgreSQL would take this line for the end of the data.
            self.out.extend_from_slice(b"\"\\.\"\n");
            return;
        }
        let mut from = 0;
        for (index, start, end) in &self.changes {
            let field = self.scanner.fields[*index];
            self.out.extend_from_slice(&row[from..field.start as usize]);
            self.out.push(b'"');
            for byte in &self.scratch[*start..*end] {
                if *byte == b'"' {
                    self.out.push(b'"');
                }
                self.out.push(*byte);
            }
            self.out.push(b'"');
            from = field.end as usize;
        }
        self.out.extend_from_slice(&row[from..]);
        self.out.push(b'\n');
    }

    fn describe(&self, file: &str, row: &[u8], line: u64, bad: Bad) -> LoadError {
        let field = bad.field.and_then(|index| self.scanner.fields.get(index));
        let column = field.map(|field| field.column as usize).or(bad.column);
        let target = column.and_then(|column| self.rules.targets.get(column));
        let value = field.map_or(&[][..], |field| &row[field.value_start as usize..field.value_end as usize]);
        LoadError {
            // Files go to the slices in turn.
            slice: self.files.saturating_sub(1) % SLICES,
            field: column.unwrap_or_default(),
            file: file.to_owned(),
            line,
            column: target.map_or_else(String::new, |target| target.name.clone()),
            kind: target.map(|target| target.kind),
            position: field.map_or(0, |field| field.start),
            raw_line: row[..row.len().min(2048)].to_vec(),
            raw_value: value[..value.len().min(2048)].to_vec(),
            reason: bad.reason,
        }
    }
}

/// ACCEPTINVCHARS: as many replacements as there were bytes.
fn replace_invalid(row: &[u8], replacement: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.len());
    for chunk in row.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        out.extend(chunk.invalid().iter().map(|_| replacement));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(kinds: &[Type]) -> Rules {
        let targets = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| Target { name: format!("c{index}"), kind: *kind, required: false })
            .collect();
        Rules {
            targets,
            delimiter: b'~',
            empty_as_null: true,
            accept_inv_chars: None,
            reading: Reading::default(),
            fails_at: 100,
            no_load: false,
            rows_as_lines: false,
        }
    }

    fn load(rules: Rules, bytes: &[u8]) -> (String, Vec<(u64, u16)>) {
        let mut loader = Loader::new(rules);
        let mut out = Vec::new();
        let mut sink = |rows: Vec<u8>| {
            out.extend(rows);
            true
        };
        loader.file("f", &mut &*bytes, &mut sink).unwrap();
        loader.finish(&mut sink).unwrap();
        let errors = loader.errors.iter().map(|error| (error.line, error.reason.code)).collect();
        (String::from_utf8(out).unwrap(), errors)
    }

    #[test]
    fn good_rows_pass_untouched_and_line_ends_become_lf() {
        let (out, errors) = load(rules(&[Type::Int4, Type::Varchar(9)]), b"1~a\r\n~\n2~\"x~\n\"\"y\"");
        assert_eq!(out, "1~a\n~\n2~\"x~\n\"\"y\"\n");
        assert!(errors.is_empty());
    }

    #[test]
    fn values_that_must_change_are_written_anew() {
        let kinds = [Type::Decimal(5, 1), Type::Timestamp, Type::Varchar(3)];
        let (out, _) = load(rules(&kinds), b"1.99~2024-01-01 00:00:00 UTC~ \"a\"\" \" \n");
        assert_eq!(out, "\"1.9\"~\"2024-01-01 00:00:00\"~\"a\"\" \"\n");
    }

    #[test]
    fn bad_rows_are_reported_by_line_and_skipped() {
        let bytes = b"1~\"a\nb\"\nx~c\n3~ok\n4~5~6\n7\n8~\xff\n9~a\0b\n10~toolongvalue\n";
        let (out, errors) = load(rules(&[Type::Int4, Type::Varchar(9)]), bytes);
        assert_eq!(out, "1~\"a\nb\"\n3~ok\n");
        assert_eq!(errors, [(3, 1207), (5, 1202), (6, 1214), (7, 1220), (8, 1218), (9, 1204)]);
    }

    #[test]
    fn required_columns_need_a_value() {
        let mut needed = rules(&[Type::Int4, Type::Varchar(9)]);
        needed.targets[1].required = true;
        assert_eq!(load(needed.clone(), b"1~\n1~\"\"\n1~x\n").1, [(1, 1213), (2, 1213)]);
        needed.empty_as_null = false;
        assert_eq!(load(needed, b"1~\n").1, []);
    }

    #[test]
    fn accept_inv_chars_replaces_byte_by_byte() {
        let mut lenient = rules(&[Type::Varchar(9)]);
        lenient.accept_inv_chars = Some(b'?');
        // The second row ends in a character cut short.
        assert_eq!(load(lenient, b"a\xffb\nc\xe2\x82\n"), ("a?b\nc??\n".to_owned(), vec![]));
    }

    #[test]
    fn a_row_longer_than_every_buffer_is_found_whole_and_refused() {
        let mut bytes = vec![b'a'; 5 << 20];
        bytes.extend_from_slice(b"\nb\n");
        assert_eq!(load(rules(&[Type::Varchar(9)]), &bytes), ("b\n".to_owned(), vec![(1, 1216)]));
    }
}
