//! What must hold of any bytes that come from S3, from a socket, from Redshift or from a person's file. `make fuzz` calls each
//! check with what a fuzzer makes up, the tests below with what is kept in `fuzz/corpus`. A fault is a panic.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use std::path::Path;

use bytes::Bytes;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use shared::config::{Config, Secrets};
use shared::ids::BatchId;
use shared::layout::Compression;
use shared::seal::Seal;
use state::status::feed::Question;

use crate::facts::folder::manifest_fault;
use crate::facts::rows::{self, Watched};
use crate::identity::{NotOurs, PipelineObject, compare};
use crate::quarantine::csv;
use crate::quarantine::set::Description;
use crate::redshift::{LedgerRange, Rows, load_errors, redact, stage_reasons};

/// A check, which takes any bytes.
pub type Check = fn(&[u8]);

/// All of them. Each has a folder of its name in `fuzz/corpus`.
pub const CHECKS: [(&str, Check); 7] = [
    ("seal", seal),
    ("objects", objects),
    ("question", question),
    ("config", config),
    ("load_errors", load_errors),
    ("csv", csv),
    ("file", file),
];

/// A seal, and the id of its batch.
const SEAL: &[u8] = include_bytes!("../../fuzz/corpus/seal/two-files");
const SEALED: &str = "019cae1f-5a80-7c3d-9a57-0123456789ab";
/// A value in the corpus of configurations.
const SECRET: &str = "hunter2";

/// `batch.json`: what is taken for a seal adds up, is written as it was read, and names files of its own folder only.
pub fn seal(json: &[u8]) {
    #[derive(Deserialize)]
    struct Named {
        batch: BatchId,
    }
    let batch = serde_json::from_slice::<Named>(json).map_or_else(|_| BatchId::new(), |named| named.batch);
    let seal = match Seal::read(batch, json) {
        Ok(seal) => seal,
        Err(error) => return assert_speakable(&error.to_string()),
    };
    let sum =
        |of: fn(&shared::seal::SealedFile) -> u64| seal.files.iter().map(of).map(u128::from).sum::<u128>();
    assert_eq!((sum(|file| file.rows), sum(|file| file.bytes)), (seal.rows.into(), seal.bytes.into()));
    for file in &seal.files {
        assert!(
            !file.name.is_empty()
                && file.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
        );
    }
    assert!(seal.sealed_rows() >= seal.rows);
    assert_eq!(Seal::read(batch, &serde_json::to_vec(&seal).unwrap()).unwrap(), seal);
    // Any time, run and number may be in it.
    stage_reasons(&[&seal, &seal], &LedgerRange::default());
}

/// The other objects of JSON: a manifest, the description of a quarantine, the mark of a pipeline.
pub fn objects(json: &[u8]) {
    if let Ok(description) = serde_json::from_slice::<Description>(json) {
        same_again(&description);
    }
    let ours = PipelineObject {
        format: 1,
        pipeline: SEALED.to_owned(),
        table: "public.livestream".to_owned(),
        ledger: "public.livestream_ledger".to_owned(),
        made: DateTime::UNIX_EPOCH,
    };
    if let Err(NotOurs::Foreign(why, _)) = compare("s3://bucket/.pipeline.json", json, &ours) {
        assert_speakable(&why);
    }
    let seal = Seal::read(SEALED.parse().unwrap(), SEAL).unwrap();
    if let Some(fault) = manifest_fault(&seal, "ToIngest/20260302/b/", "bucket", json) {
        assert_speakable(&fault);
    }
}

/// What a client asks on a socket.
pub fn question(line: &[u8]) {
    if let Ok(question) = serde_json::from_slice::<Question>(line) {
        same_again(&question);
    }
}

/// `pipeline.toml`: its faults are told, and nothing of a value that may be a secret.
pub fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Err(error) = Config::parse(text, Path::new("pipeline.toml"), std::iter::empty(), Secrets::Unused) {
        let told = error.to_string();
        assert!(told.starts_with("pipeline.toml") || told.contains("pipeline.toml"), "{told}");
        told.lines().for_each(assert_speakable);
        let is_value = text.matches(SECRET).count() == text.matches(&format!("= \"{SECRET}\"")).count();
        assert!(!is_value || !told.contains(SECRET), "{told}");
    }
}

/// The tables of load errors: lines of cells, which a byte 31 separates; an empty cell is NULL.
pub fn load_errors(answer: &[u8]) {
    let cell = |cell: &[u8]| (!cell.is_empty()).then(|| String::from_utf8_lossy(cell).into_owned());
    let row = |line: &[u8]| line.split(|byte| *byte == 31).map(cell).collect();
    let rows = Rows(answer.split(|byte| *byte == b'\n').map(row).collect());
    for report in rows.read(load_errors::report) {
        let shown = redact::reason(&report.reason);
        assert!(!shown.contains(['"', '\'']), "{shown}");
        redact::message(&report.reason);
    }
    rows.read(|row| load_errors::describe("s3://bucket/ToIngest/", row));
    load_errors::lines(&rows);
}

/// A file of rows as COPY splits it: its rows are all of it, and a value is what was quoted.
pub fn csv(content: &[u8]) {
    let rows = csv::rows(content, usize::MAX);
    let mut at = 0;
    for (row, wanted) in rows.iter().zip(split(content, b'\n')) {
        assert_eq!((row.start, row.end), (at, at + wanted.len()));
        at = row.end;
        let lines = wanted.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(row.lines, if wanted.ends_with(b"\n") && is_closed(wanted) { lines } else { lines + 1 });
        let line = wanted.strip_suffix(b"\n").unwrap_or(wanted);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for (column, cell) in split(line, b'~').enumerate() {
            let cell = cell.strip_suffix(b"~").filter(|_| is_closed(cell)).unwrap_or(cell);
            assert_eq!(csv::cell(wanted, column).as_deref(), Some(&unquoted(cell)[..]), "column {column}");
        }
    }
    assert_eq!(at, content.len());
    assert!(csv::rows(content, 3).len() <= 4);
}

/// An object of rows: the first byte says how it is compressed. What cannot be read is told, and memory stays small.
pub fn file(object: &[u8]) {
    let Some((how, object)) = object.split_first() else { return };
    let compression = [Compression::None, Compression::Gzip, Compression::Zstd][usize::from(how % 3)];
    let watched = Watched { received: Some(0), instance: Some(1), batch: Some(2) };
    match rows::read(&Bytes::copy_from_slice(object), compression, watched) {
        Ok(contents) => assert_eq!(contents.bytes, object.len() as u64),
        Err(fault) => assert_speakable(&fault),
    }
}

/// Whether what begins outside quotes ends there.
fn is_closed(piece: &[u8]) -> bool {
    piece.iter().filter(|byte| **byte == b'"').count() % 2 == 0
}

/// Pieces that end with `separator` outside quotes, byte by byte.
fn split(content: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    content.split_inclusive(move |byte| {
        quoted ^= *byte == b'"';
        !quoted && *byte == separator
    })
}

fn unquoted(cell: &[u8]) -> Vec<u8> {
    let Some(inner) = cell.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return cell.to_vec();
    };
    let (mut text, mut bytes) = (Vec::new(), inner.iter().peekable());
    while let Some(byte) = bytes.next() {
        text.push(*byte);
        if *byte == b'"' {
            bytes.next_if(|next| **next == b'"');
        }
    }
    text
}

fn same_again<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(&serde_json::from_slice::<T>(&serde_json::to_vec(value).unwrap()).unwrap(), value);
}

/// A reason goes into a log, a terminal and a page: it is short, and has nothing that would steer them.
fn assert_speakable(told: &str) {
    assert!(told.len() < 4_096, "{} bytes", told.len());
    assert!(!told.chars().any(char::is_control), "{told:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of each file.
    const MUTATIONS: usize = 200;
    const SEED: u64 = 1;

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut paths: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no corpus");
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn what_is_in_the_corpus_and_what_a_few_mutations_make_of_it_holds() {
        let mut random = fastrand::Rng::with_seed(SEED);
        for (name, check) in CHECKS {
            let corpus = corpus(name);
            for input in &corpus {
                let mut input = input.clone();
                for _ in 0..MUTATIONS {
                    let passed = std::panic::catch_unwind(|| check(&input)).is_ok();
                    assert!(passed, "{name}: {}", input.escape_ascii());
                    let at = random.usize(..=input.len());
                    let other = &corpus[random.usize(..corpus.len())];
                    let from = random.usize(..=other.len());
                    let piece = &other[from..other.len().min(from + random.usize(..24))];
                    let cut = input.len().min(at + random.usize(..8));
                    input.splice(at..cut, piece.iter().copied());
                    if let Some(byte) = input.get_mut(at) {
                        *byte = byte.wrapping_add(random.u8(..));
                    }
                }
            }
        }
    }

    #[test]
    fn a_seal_of_the_corpus_is_taken_and_names_the_batch() {
        let seal = Seal::read(SEALED.parse().unwrap(), SEAL).unwrap();
        assert_eq!((seal.files.len(), seal.rows), (2, 20));
    }
}
