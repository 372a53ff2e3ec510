//! Counts the rows of a file: decompresses it, finds its rows as COPY does, and reads a few columns. It streams and holds
//! one value of those columns, where a CSV reader would hold a row of any length.

use std::io;

use bytes::Bytes;
use memchr::memchr3;
use shared::compress;
use shared::layout::Compression;
use shared::object_store;
use shared::schema::{Kind, Schema};
use shared::seal::MAX_OBJECT_BYTES;

const DELIMITER: u8 = b'~';
const QUOTE: u8 = b'"';
const BLOCK: usize = 128 << 10;
/// Bytes of a value that is read, at most: a time, a name or an id.
const FIELD: usize = 64 << 10;

/// Columns that are read, by their position in a row; None where the schema has none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watched {
    /// `receivedTimeGMT`
    pub received: Option<usize>,
    pub instance: Option<usize>,
    pub batch: Option<usize>,
}

impl Watched {
    pub(crate) fn of(schema: &Schema) -> Self {
        let of_kind = |kind| schema.in_row().position(|column| column.kind == kind);
        let received = |column: &shared::schema::Column| {
            column.kind == Kind::Timestamp
                && column.paths.iter().any(|path| path.keys() == ["receivedTimeGMT"])
        };
        Self {
            received: schema.in_row().position(received),
            instance: of_kind(Kind::Instance),
            batch: of_kind(Kind::Batch),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub rows: u64,
    pub columns: usize,
    pub bytes: u64,
    /// CRC-32 of the object, as S3 spells it.
    pub crc32: String,
    /// Lowest and highest text of each column that is read.
    pub received: Option<(String, String)>,
    pub instance: Option<(String, String)>,
    pub batch: Option<(String, String)>,
}

/// Reads a whole file; it blocks. The error says what is wrong: cut off, compressed otherwise, rows of unequal columns.
pub(crate) fn read(object: &Bytes, compression: Compression, watched: Watched) -> Result<Contents, String> {
    let mut reader =
        compress::reader(object, compression, MAX_OBJECT_BYTES).map_err(|error| error.to_string())?;
    let mut scan = Scan { watched, ..Scan::default() };
    let mut block = vec![0; BLOCK];
    loop {
        match reader.read(&mut block) {
            Ok(0) => break,
            Ok(n) => scan.read(block.get(..n).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("it cannot be decompressed: {error}")),
        }
    }
    let mut contents = scan.end()?;
    contents.bytes = object.len() as u64;
    contents.crc32 = object_store::crc32(object);
    Ok(contents)
}

#[derive(Debug, Default)]
struct Scan {
    watched: Watched,
    contents: Contents,
    quoted: bool,
    /// Whether anything of a row was seen.
    begun: bool,
    column: usize,
    field: Vec<u8>,
}

impl Scan {
    fn read(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            self.begun = true;
            let at = memchr3(DELIMITER, QUOTE, b'\n', piece);
            let (before, rest) = piece.split_at(at.unwrap_or(piece.len()));
            if self.is_watched() {
                self.field.extend_from_slice(before);
                if self.field.len() > FIELD {
                    let (row, column) = (self.contents.rows + 1, self.column + 1);
                    return Err(format!(
                        "a value of row {row}, column {column} is longer than {FIELD} bytes"
                    ));
                }
            }
            let Some((&byte, rest)) = rest.split_first() else { return Ok(()) };
            piece = rest;
            match byte {
                // A doubled quote leaves and enters again.
                QUOTE => self.quoted = !self.quoted,
                DELIMITER if !self.quoted => {
                    self.end_field();
                    self.column += 1;
                }
                b'\n' if !self.quoted => self.end_row()?,
                byte if self.is_watched() => self.field.push(byte),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_watched(&self) -> bool {
        let Watched { received, instance, batch } = self.watched;
        [received, instance, batch].contains(&Some(self.column))
    }

    fn end_field(&mut self) {
        if self.field.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.field).into_owned();
        self.field.clear();
        let Contents { received, instance, batch, .. } = &mut self.contents;
        for (watched, seen) in [
            (self.watched.received, received),
            (self.watched.instance, instance),
            (self.watched.batch, batch),
        ] {
            if watched == Some(self.column) {
                let (low, high) = seen.get_or_insert_with(|| (text.clone(), text.clone()));
                if text < *low {
                    low.clone_from(&text);
                }
                if text > *high {
                    high.clone_from(&text);
                }
            }
        }
    }

    fn end_row(&mut self) -> Result<(), String> {
        self.end_field();
        let columns = self.column + 1;
        let contents = &mut self.contents;
        contents.rows += 1;
        if contents.rows == 1 {
            contents.columns = columns;
        } else if contents.columns != columns {
            let (row, first) = (contents.rows, contents.columns);
            return Err(format!("row {row} has {columns} columns, the first has {first}"));
        }
        (self.column, self.begun) = (0, false);
        Ok(())
    }

    fn end(self) -> Result<Contents, String> {
        let row = self.contents.rows + 1;
        match (self.quoted, self.begun) {
            (true, _) => Err(format!("it is cut off within a quoted value of row {row}")),
            (false, true) => Err(format!("it is cut off in row {row}")),
            (false, false) => Ok(self.contents),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> Result<Contents, String> {
        let watched = Watched { received: Some(1), instance: None, batch: Some(0) };
        read(&Bytes::copy_from_slice(text.as_bytes()), Compression::None, watched)
    }

    #[test]
    fn rows_are_counted_as_copy_finds_them() {
        let contents = plain("b~2026-01-02 03:04:05~\"a\n~\"\"b\"\nb~2026-01-01 00:00:00~\nb~~x\n").unwrap();
        assert_eq!((contents.rows, contents.columns), (3, 3));
        let both = ("2026-01-01 00:00:00".to_owned(), "2026-01-02 03:04:05".to_owned());
        assert_eq!(contents.received, Some(both));
        assert_eq!(contents.batch, Some(("b".to_owned(), "b".to_owned())));
        assert_eq!(plain("").unwrap().rows, 0);
    }

    #[test]
    fn a_value_that_is_looked_at_takes_no_more_memory_than_it_may() {
        let long = "x".repeat(10 * FIELD);
        assert_eq!(plain(&format!("b~t~{long}\n")).unwrap().rows, 1, "nobody looks at that one");
        let why = plain(&format!("b~t~v\n{long}~t~v\n")).unwrap_err();
        assert_eq!(why, "a value of row 2, column 1 is longer than 65536 bytes");
    }

    #[test]
    fn a_file_that_is_not_whole_says_where_it_ends() {
        assert_eq!(plain("a~b\nc~d").unwrap_err(), "it is cut off in row 2");
        assert_eq!(plain("a~b\nc~\"d\n").unwrap_err(), "it is cut off within a quoted value of row 2");
        assert_eq!(plain("a~b\nc~d~e\n").unwrap_err(), "row 2 has 3 columns, the first has 2");
        let rows = "a~b\n".repeat(10_000);
        let zstd = zstd::bulk::compress(rows.as_bytes(), 1).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, rows.as_bytes()).unwrap();
        for (compressed, form) in [(zstd, Compression::Zstd), (gzip.finish().unwrap(), Compression::Gzip)] {
            let whole = Bytes::from(compressed);
            assert_eq!(read(&whole, form, Watched::default()).unwrap().rows, 10_000);
            let cut = whole.slice(..whole.len() - 1);
            assert!(read(&cut, form, Watched::default()).is_err(), "{form:?}");
        }
    }

    proptest! {
        #[test]
        fn wherever_the_pieces_end_the_same_rows_are_found(
            text in "([a~\"\n]|\"\"){0,40}", cuts in prop::collection::vec(0_usize..40, 0..5),
        ) {
            let scan = |cuts: &[usize]| {
                let watched = Watched { received: Some(0), ..Watched::default() };
                let mut scan = Scan { watched, ..Scan::default() };
                let mut from = 0;
                for cut in cuts.iter().copied().chain([text.len()]) {
                    let cut = cut.clamp(from, text.len());
                    scan.read(&text.as_bytes()[from..cut])?;
                    from = cut;
                }
                scan.end()
            };
            let mut cuts = cuts;
            cuts.sort_unstable();
            prop_assert_eq!(scan(&cuts), scan(&[]));
        }
    }
}
