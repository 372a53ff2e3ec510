//! What single values of a seal may be. Whatever is not refused here goes on: into statements and the ledger, which holds up all
//! loading when it does not take a value; into sums, which must not overflow; into messages, which people read in a terminal.

use std::collections::HashSet;
use std::ops::Range;

use chrono::{DateTime, Utc};

use crate::human::shown;
use crate::layout::{Compression, parse_file_name};
use crate::schema::{MAX_COLUMNS, valid_name};

/// Files of a batch at most, which is the most that `batch.files_per_batch` may be.
const MAX_FILES: usize = 1_000;
/// Rows of a file at most, which is the most that `batch.records_per_file` may be.
pub const MAX_FILE_ROWS: u64 = 1_000_000;
/// Bytes of rows at which a file is ended at the latest, which is the most that `batch.max_file_bytes` may be.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Bytes of a file's object at most: the last row may add 8 MiB of doubled quotes, compression one byte in 256.
pub const MAX_OBJECT_BYTES: u64 = MAX_FILE_BYTES + (16 << 20);
/// No number of a seal is larger: neither the ledger's `bigint` nor the sum of thousands of batches overflows.
const MAX_COUNT: u64 = 1_000_000_000_000_000;
/// Runs that a seal names at most; a log remembers 32.
const MAX_RUNS: usize = 1_000;
/// Characters of an `ETag` at most; S3's has some 40.
const MAX_ETAG: usize = 256;
/// Characters of the id of a key of pseudonyms at most.
const MAX_KEY_ID: usize = 64;
/// Digits of a fingerprint, and the width of the ledger's column.
const FINGERPRINT: usize = 16;
/// Characters of a CRC-32 in base64, and how they end.
const CRC32: (usize, &str) = (8, "==");
/// Seconds since 1970 of times whose year has four digits: no timestamp of SQL is written otherwise.
const TIMES: Range<i64> = -62_135_596_800..253_402_300_800;

/// What is wrong with the number of files.
pub(super) fn files_fault(files: usize) -> Option<String> {
    (files > MAX_FILES).then(|| format!("it names {files} files, and no batch has more than {MAX_FILES}"))
}

/// What is wrong with the name of a file: one of any other name would be loaded, and neither archived nor deleted.
pub(super) fn name_fault(name: &str, compression: Compression) -> Option<String> {
    match parse_file_name(name) {
        None => Some(format!("has the name \"{}\", which no file of rows has", shown(name))),
        Some((_, by_name)) if by_name != compression => {
            Some(format!("({name}) is not compressed as the seal says"))
        }
        Some(_) => None,
    }
}

/// What is wrong with the size of a file.
pub(super) fn size_fault(rows: u64, bytes: u64) -> Option<String> {
    if rows > MAX_FILE_ROWS {
        return Some(format!("has {rows} rows, and no file has more than {MAX_FILE_ROWS}"));
    }
    (bytes > MAX_OBJECT_BYTES)
        .then(|| format!("has {bytes} bytes, and no file has more than {MAX_OBJECT_BYTES}"))
}

/// What is wrong with what S3 is said to have answered about a file.
pub(super) fn answer_fault(crc32: &str, etag: &str) -> Option<String> {
    if !is_crc32(crc32) {
        return Some(format!("has the CRC-32 \"{}\", which none is", shown(crc32)));
    }
    (!is_plain(etag, MAX_ETAG)).then(|| format!("has the ETag \"{}\", which none is", shown(etag)))
}

/// As S3 spells it.
fn is_crc32(text: &str) -> bool {
    let (length, end) = CRC32;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len() == length && text.strip_suffix(end).is_some_and(|digits| digits.bytes().all(is_digit))
}

/// One short line of characters that a terminal shows as they are.
fn is_plain(text: &str, most: usize) -> bool {
    text.len() <= most && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// What is wrong with the columns that an object names for its rows.
pub fn column_fault(columns: &[String]) -> Option<String> {
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        return Some(format!("it names {} columns, a table has 1 to {MAX_COLUMNS}", columns.len()));
    }
    let mut names = HashSet::with_capacity(columns.len());
    columns.iter().enumerate().find_map(|(number, name)| {
        // A valid name has no capitals, so that no two of them differ by those alone.
        let what = match valid_name(name) {
            Err(rule) => format!("\"{}\": {rule}", shown(name)),
            Ok(()) if !names.insert(name) => "has the name of another one".to_owned(),
            Ok(()) => return None,
        };
        Some(format!("its column {} {what}", number + 1))
    })
}

/// What is wrong with the fingerprint of a schema that an object names.
pub fn schema_fault(schema: &str) -> Option<String> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (schema.len() != FINGERPRINT || !schema.bytes().all(digit)).then(|| {
        format!(
            "its schema \"{}\" is no fingerprint: that has {FINGERPRINT} hexadecimal digits",
            shown(schema)
        )
    })
}

/// What is wrong with the id of a key of pseudonyms.
pub(super) fn key_id_fault(key: &str) -> Option<String> {
    (!is_plain(key, MAX_KEY_ID))
        .then(|| format!("it names the key of pseudonyms \"{}\", and no id is like that", shown(key)))
}

/// What is wrong with the names that a seal gave up.
pub(super) fn replaced_fault(names: &[String]) -> Option<String> {
    if names.len() > MAX_FILES {
        return Some(format!(
            "it gave up {} names, and no batch has more than {MAX_FILES} files",
            names.len()
        ));
    }
    let odd = names.iter().find(|name| parse_file_name(name).is_none())?;
    Some(format!("it gave up the name \"{}\", which no file of rows has", shown(odd)))
}

/// What is wrong with times: a statement takes those of four digits, and a clock can be compared with them.
pub(super) fn time_fault(times: impl IntoIterator<Item = Option<DateTime<Utc>>>) -> Option<String> {
    let odd = times.into_iter().flatten().find(|at| !TIMES.contains(&at.timestamp()))?;
    Some(format!("it names the time {odd}, which is not between the years 1 and 9999"))
}

/// What is wrong with the first and the last time of rows.
pub(super) fn order_fault(first: Option<DateTime<Utc>>, last: Option<DateTime<Utc>>) -> Option<String> {
    let (first, last) = first.zip(last)?;
    (first > last).then(|| format!("its first row was received at {first}, and its last before, at {last}"))
}

/// What is wrong with numbers of any kind.
pub(super) fn count_fault(numbers: impl IntoIterator<Item = u64>) -> Option<String> {
    let odd = numbers.into_iter().find(|number| *number > MAX_COUNT)?;
    Some(format!("it counts {odd} of something, and no batch has more than {MAX_COUNT}"))
}

/// What is wrong with the number of runs that a seal names.
pub(super) fn runs_fault(runs: usize) -> Option<String> {
    (runs > MAX_RUNS).then(|| format!("it names {runs} runs, and no log knows more than {MAX_RUNS}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;
    use crate::seal::tests::seal;
    use crate::seal::{BadSeal, Forgotten, KnownRun, Seal};

    fn fault(seal: &Seal) -> Option<String> {
        seal.check().err().map(|error| error.to_string())
    }

    fn said(alter: impl FnOnce(&mut Seal)) -> String {
        let mut seal = seal();
        alter(&mut seal);
        match Seal::read(seal.batch, &serde_json::to_vec(&seal).unwrap()) {
            Err(BadSeal::Contradiction(said)) => said,
            other => panic!("{other:?} is not refused"),
        }
    }

    #[test]
    fn a_schema_is_sixteen_digits_since_the_ledger_has_no_room_for_more() {
        for schema in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "'); DROP TABLE x;"] {
            let said = said(|seal| schema.clone_into(&mut seal.schema));
            assert!(said.contains("is no fingerprint"), "{said}");
        }
        let said = said(|seal| seal.schema = "\x1b[2J\n".repeat(100_000));
        assert!(said.len() < 800 && !said.contains(char::is_control), "{said}");
    }

    #[test]
    fn no_number_is_larger_than_what_the_ledger_and_sums_hold() {
        let forgotten = |rows, sealed_bytes| Forgotten { rows, sealed_bytes, replaced: vec![], highest: 9 };
        let odd: [fn(&mut Seal, u64); 9] = [
            |seal, odd| seal.counts.received = odd,
            |seal, odd| seal.counts.rows = odd,
            |seal, odd| seal.counts.duplicates = odd,
            |seal, odd| seal.counts.filtered = odd,
            |seal, odd| seal.counts.rejected = odd,
            |seal, odd| seal.counts.without_id = odd,
            |seal, odd| seal.compared.as_mut().unwrap().number = odd,
            |seal, odd| seal.compared.as_mut().unwrap().uncompared = odd,
            |seal, odd| {
                seal.compared.as_mut().unwrap().known = vec![KnownRun { run: RunId::new(), until: odd }];
            },
        ];
        for (n, alter) in odd.into_iter().enumerate() {
            for number in [MAX_COUNT + 1, i64::MAX as u64 + 1, u64::MAX] {
                let said = said(|seal| alter(seal, number));
                assert!(said.contains(&format!("it counts {number} of something")), "{n}: {said}");
            }
            let mut largest = seal();
            alter(&mut largest, MAX_COUNT);
            assert_eq!(fault(&largest), None, "{n}");
        }
        for forgotten in [forgotten(u64::MAX, 0), forgotten(0, u64::MAX)] {
            assert!(said(|seal| seal.forgotten = Some(forgotten)).contains("of something"));
        }
        let mut files = Vec::from_iter(seal().files.iter().cycle().take(MAX_FILES + 1).cloned());
        files.iter_mut().enumerate().for_each(|(n, file)| file.name = format!("{n}.csv.zst"));
        assert!(said(|seal| seal.files = files.clone()).contains("it names 1001 files"));
        let many = Forgotten { replaced: vec!["0.csv.zst".to_owned(); MAX_FILES + 1], ..forgotten(0, 200) };
        assert!(said(|seal| seal.forgotten = Some(many.clone())).contains("it gave up 1001 names"));
        let known = vec![KnownRun { run: RunId::new(), until: 1 }; MAX_RUNS + 1];
        assert!(said(|seal| seal.compared.as_mut().unwrap().known = known).contains("it names 1001 runs"));
    }

    #[test]
    fn a_time_is_one_that_sql_and_clocks_know() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at(TIMES.end), at(TIMES.start - 1)] {
            for alter in [
                |seal: &mut Seal, at| seal.created = at,
                |seal: &mut Seal, at| seal.sealed = at,
                |seal: &mut Seal, at| seal.first_received = Some(at),
                |seal: &mut Seal, at| seal.last_received = Some(at),
            ] {
                let mut odd = seal();
                alter(&mut odd, at);
                assert!(fault(&odd).is_some_and(|said| said.contains("is not between the years")));
            }
        }
        assert_eq!(at(TIMES.end).to_rfc3339(), "+10000-01-01T00:00:00+00:00");
        assert_eq!(at(TIMES.start).to_rfc3339(), "0001-01-01T00:00:00+00:00");
        let (first, last) = (DateTime::from_timestamp(9, 0), DateTime::from_timestamp(8, 0));
        let said = said(|seal| (seal.first_received, seal.last_received) = (first, last));
        assert!(said.contains("its last before"), "{said}");
    }

    #[test]
    fn texts_that_come_into_messages_are_short_and_show_themselves() {
        for odd in ["\x1b]0;owned\x07", "a\nb", "ü", &"x".repeat(MAX_ETAG + 1)] {
            assert!(said(|seal| odd.clone_into(&mut seal.files[0].etag)).contains("has the ETag"), "{odd}");
            let said = said(|seal| seal.pseudonym_key = Some(odd.to_owned()));
            assert!(said.contains("the key of pseudonyms") && !said.contains(char::is_control), "{said}");
        }
        for odd in ["", "AAAAAA=", "AAAAAAAA", "AAAAA\n==", "AAAA==AA", "'--aaa=="] {
            assert!(
                said(|seal| odd.clone_into(&mut seal.files[0].crc32)).contains("has the CRC-32"),
                "{odd}"
            );
        }
        let replaced = vec!["../../Ingested/x".to_owned()];
        let forgotten = Forgotten { rows: 0, sealed_bytes: 200, replaced, highest: 1 };
        assert!(said(|seal| seal.forgotten = Some(forgotten)).contains("it gave up the name"));
        let mut good = seal();
        "\"9b2cf535f27731c974343645a3985328-12\"".clone_into(&mut good.files[0].etag);
        assert_eq!(fault(&good), None);
    }
}
