//! The rows of a file, read piece by piece: which of them are a person's, and the file without these. Memory holds the
//! object, compressed, and one row.

use std::io::{self, Read, Write};

use bytes::Bytes;
use memchr::memchr2;
use shared::compress::{self, CompressedFile};
use shared::layout::Compression;
use shared::seal::MAX_OBJECT_BYTES;

use crate::quarantine::csv::{self, MAX_ROW};
use crate::sought::Sought;

const BLOCK: usize = 128 << 10;

/// What a file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) rows: u64,
    /// Those of the person.
    pub(super) found: u64,
    /// Bytes of the other rows, not compressed.
    kept_bytes: u64,
}

impl Counted {
    pub(super) fn kept(&self) -> u64 {
        self.rows.saturating_sub(self.found)
    }
}

/// Where the values stand: the file's compression, and the number of the column, from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) compression: Compression,
    pub(super) column: usize,
}

/// Counts; it blocks. The error says what is wrong with the file.
pub(super) fn count(object: &[u8], form: Form, sought: &Sought) -> Result<Counted, String> {
    let mut counted = Counted::default();
    each_row(object, form.compression, |row| {
        counted.rows += 1;
        if is_of(row, form.column, sought) {
            counted.found += 1;
        } else {
            counted.kept_bytes += row.len() as u64;
        }
        Ok(())
    })?;
    Ok(counted)
}

/// The file without the rows of the person, compressed alike; it blocks. `counted` is what [`count`] found.
pub(super) fn without(
    object: &[u8],
    form: Form,
    sought: &Sought,
    counted: &Counted,
) -> Result<Bytes, String> {
    let mut file =
        CompressedFile::new(counted.kept_bytes, form.compression).map_err(|error| error.to_string())?;
    each_row(object, form.compression, |row| {
        if is_of(row, form.column, sought) { Ok(()) } else { file.write_all(row) }
    })?;
    file.finish().map_err(|error| error.to_string())
}

/// Whether this is a row of the person, with its line end.
pub(super) fn is_of(row: &[u8], column: usize, sought: &Sought) -> bool {
    csv::cell(row, column).is_some_and(|cell| sought.is(&cell))
}

/// Calls `on_row` for each row, as COPY finds them, with its line end.
fn each_row(
    object: &[u8],
    compression: Compression,
    mut on_row: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("it cannot be decompressed: {error}");
    let mut reader = compress::reader(object, compression, MAX_OBJECT_BYTES).map_err(unreadable)?;
    let mut block = vec![0; BLOCK];
    // The beginning of a row that goes on in the next block.
    let (mut begun, mut quoted, mut rows) = (Vec::new(), false, 0_u64);
    loop {
        let read = match reader.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(unreadable)?,
        };
        let mut rest = block.get(..read).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let mut at = 0;
        while let Some(offset) = rest.get(at..).and_then(|rest| memchr2(b'"', b'\n', rest)) {
            at += offset + 1;
            if rest.get(at - 1) == Some(&b'"') {
                // A doubled quote leaves and enters again.
                quoted = !quoted;
            } else if !quoted {
                let (row, after) = rest.split_at(at);
                if begun.is_empty() {
                    on_row(row).map_err(|error| error.to_string())?;
                } else {
                    begun.extend_from_slice(row);
                    on_row(&begun).map_err(|error| error.to_string())?;
                    begun.clear();
                }
                (rest, at, rows) = (after, 0, rows + 1);
            }
        }
        begun.extend_from_slice(rest);
        if begun.len() > MAX_ROW {
            return Err(format!("row {} is longer than {MAX_ROW} bytes", rows + 1));
        }
    }
    if begun.is_empty() { Ok(()) } else { Err(format!("it is cut off in row {}", rows + 1)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sought::tests::sought;

    fn filtered(rows: &str, compression: Compression, column: usize, values: &[&str]) -> (Counted, String) {
        let (form, sought) = (Form { compression, column }, sought(values));
        let object = compress::compress(rows.as_bytes(), compression).unwrap();
        let counted = count(&object, form, &sought).unwrap();
        let kept = without(&object, form, &sought, &counted).unwrap();
        let again = count(&kept, form, &sought).unwrap();
        assert_eq!((again.rows, again.found), (counted.kept(), 0));
        let kept = compress::decompress(&kept, compression, 1 << 30).unwrap();
        (counted, String::from_utf8(kept.to_vec()).unwrap())
    }

    #[test]
    fn only_rows_with_the_value_in_the_column_go_whatever_stands_around_it() {
        let rows = "1~jane~x\n2~\"jane\"~\"a\n~\"\"jane\"\"\"\n3~joe~jane\n4~\"ja\"\"ne\"~x\n5~jane \n6~\n~\"j~o\ne\"~\n";
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let (counted, kept) = filtered(rows, compression, 1, &["jane"]);
            assert_eq!((counted.rows, counted.found), (7, 3), "{compression:?}");
            assert_eq!(kept, "3~joe~jane\n4~\"ja\"\"ne\"~x\n6~\n~\"j~o\ne\"~\n");
            let (_, kept) = filtered(rows, compression, 1, &["ja\"ne", "j~o\ne"]);
            assert_eq!(kept, "1~jane~x\n2~\"jane\"~\"a\n~\"\"jane\"\"\"\n3~joe~jane\n5~jane \n6~\n");
        }
        assert_eq!(filtered(rows, Compression::Zstd, 2, &["a\n~\"jane\""]).0.found, 1);
        assert_eq!(
            filtered("jane\njane\n", Compression::Gzip, 0, &["jane"]),
            (Counted { rows: 2, found: 2, kept_bytes: 0 }, String::new())
        );
    }

    #[test]
    fn rows_over_the_edges_of_blocks_stay_as_they_were() {
        let long = format!("1~jane~\"{}\"\n", "x\"\"\n".repeat(BLOCK));
        let rows = format!("{long}{}{long}", "2~joe~y\n".repeat(BLOCK / 3));
        let (counted, kept) = filtered(&rows, Compression::Zstd, 1, &["jane"]);
        assert_eq!(counted.found, 2);
        assert_eq!(kept.len(), rows.len() - 2 * long.len());
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_written_anew() {
        let form = Form { compression: Compression::None, column: 0 };
        assert_eq!(count(b"a\nb", form, &sought(&["x"])).unwrap_err(), "it is cut off in row 2");
        assert_eq!(count(b"a\n\"b\n", form, &sought(&["x"])).unwrap_err(), "it is cut off in row 2");
        let long = vec![b'x'; MAX_ROW + 1];
        assert!(count(&long, form, &sought(&["x"])).unwrap_err().contains("is longer than"));
        for compression in [Compression::Zstd, Compression::Gzip] {
            let whole = compress::compress("a~b\n".repeat(10_000).as_bytes(), compression).unwrap();
            let form = Form { compression, column: 0 };
            assert!(count(&whole[..whole.len() - 1], form, &sought(&["x"])).is_err(), "{compression:?}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_and_what_stays_is_all_there_was(
            cells in prop::collection::vec(("[a~\"\n ]{0,6}", "[ab\"~]{0,3}"), 0..30),
        ) {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let row = |(a, b): &(String, String)| format!("{}~{}~z\n", quoted(a), quoted(b));
            let all: String = cells.iter().map(row).collect();
            let mine = |cell: &&(String, String)| cell.1 == "ab";
            let others: String = cells.iter().filter(|cell| !mine(cell)).map(row).collect();
            let (counted, kept) = filtered(&all, Compression::None, 1, &["ab"]);
            prop_assert_eq!(counted.found, cells.iter().filter(mine).count() as u64);
            prop_assert_eq!(kept, others);
        }
    }
}
