//! Files against their chunks.

use std::collections::BTreeMap;

use crate::log::reader::decode_chunk;
use crate::log::record::FileRecord;
use crate::log::status::FileStatus;
use crate::log::verify::{Check, of_file, only_seq, record};
use crate::log::{chunk_key, seq_key, seq_of};
use crate::store::chunked::{self, PIECE};
use crate::store::{Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

/// Pieces in the order of their keys, put together key by key.
pub(super) struct Groups {
    table: Table,
    key_len: usize,
    key: Vec<u8>,
    pieces: Vec<(u16, Vec<u8>)>,
    content: Vec<u8>,
}

impl Groups {
    /// Groups of the pieces of `table`, whose keys without the number of the piece have `key_len` bytes.
    pub(super) fn new(table: Table, key_len: usize) -> Self {
        Self { table, key_len, key: Vec::new(), pieces: Vec::new(), content: Vec::new() }
    }

    /// Takes the next piece; shows the group it ends to `see`.
    pub(super) fn take(
        &mut self,
        checked: &mut Checked,
        key: &[u8],
        value: &[u8],
        see: &mut impl FnMut(&mut Checked, &[u8], Result<&[u8], &'static str>),
    ) {
        if key.len() != self.key_len + PIECE {
            checked.faults.push(Fault::new(self.table, key, NO_SUCH_KEY));
            return;
        }
        let group = &key[..self.key_len];
        if self.key != group {
            self.end(checked, see);
            self.key = group.to_vec();
        }
        self.pieces.push((chunked::number(key), value.to_vec()));
    }

    /// Shows the last group to `see`.
    pub(super) fn end(
        &mut self,
        checked: &mut Checked,
        see: &mut impl FnMut(&mut Checked, &[u8], Result<&[u8], &'static str>),
    ) {
        let pieces = std::mem::take(&mut self.pieces);
        if pieces.is_empty() {
            return;
        }
        let joined = chunked::join(pieces.iter().map(|(no, part)| (*no, &part[..])), &mut self.content);
        see(checked, &self.key, joined.map(|()| &self.content[..]));
    }
}

/// What the chunks of a file hold together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Held {
    chunks: u32,
    rows: u64,
    bytes: u64,
    log_bytes: u64,
    unsound: bool,
}

impl Held {
    fn add(&mut self, chunk: &Result<(u64, u64, u64), String>) {
        self.chunks += 1;
        match chunk {
            Ok((rows, bytes, log_bytes)) => {
                self.rows += rows;
                self.bytes += bytes;
                self.log_bytes += log_bytes;
            }
            Err(_) => self.unsound = true,
        }
    }
}

/// Rows of a chunk, their bytes, and the bytes the chunk takes.
fn measured(content: &[u8]) -> Result<(u64, u64, u64), String> {
    let (rows, lines) = decode_chunk(content)?;
    Ok((rows, lines.len() as u64, content.len() as u64))
}

fn waits(file: &FileRecord) -> bool {
    matches!(file.status, FileStatus::Open | FileStatus::Closed)
}

/// What the chunks of a file must hold together.
fn wanted(file: &FileRecord) -> Held {
    if !waits(file) {
        return Held::default();
    }
    let FileRecord { chunks, rows, bytes, log_bytes, .. } = *file;
    Held { chunks, rows, bytes, log_bytes, unsound: false }
}

impl Check<'_> {
    /// Reads every chunk once, holds the sums against the files' records, and looks closer where they differ.
    pub(super) fn check_files(&mut self) -> Result<(), StoreError> {
        let mut held = BTreeMap::<u64, Held>::new();
        let store = self.store;
        let checked = self.table(Table::Chunks);
        let mut groups = Groups::new(Table::Chunks, 12);
        let mut see = |checked: &mut Checked, key: &[u8], content: Result<&[u8], &'static str>| {
            let chunk = content.map_err(str::to_owned).and_then(measured);
            checked.count("chunks", 1);
            if let Ok((rows, _, bytes)) = chunk {
                checked.count("rows", rows);
                checked.count("bytes", bytes);
            }
            held.entry(seq_of(key)).or_default().add(&chunk);
        };
        checked
            .each(store, Table::Chunks, |checked, key, value| groups.take(checked, key, value, &mut see))?;
        groups.end(checked, &mut see);

        let mut files = BTreeMap::new();
        self.table(Table::Files).each_json::<FileRecord>(store, Table::Files, |checked, key, file| {
            checked.count("files", 1);
            checked.count("rows", file.rows);
            if let Some(seq) = only_seq(checked, Table::Files, key) {
                files.insert(seq, file);
            }
        })?;
        let mut suspects: Vec<u64> = files
            .iter()
            .filter(|(seq, file)| held.get(seq).copied().unwrap_or_default() != wanted(file))
            .map(|(seq, _)| *seq)
            .collect();
        suspects.extend(held.keys().filter(|seq| !files.contains_key(seq)));
        self.highest_file = held.keys().next_back().copied();
        self.files = files;
        self.settle(suspects, |store, seq| check_file(store, *seq))
    }
}

/// What is wrong with one file and its chunks. Its record is read before and after its chunks: rows may be added
/// between, and one that moves on between is looked at by its new state.
fn check_file(store: &Store, seq: u64) -> Result<Vec<(Table, Fault)>, StoreError> {
    loop {
        let before = record::<FileRecord>(store, Table::Files, seq)?;
        let chunks = chunks_of(store, seq)?;
        let after = record::<FileRecord>(store, Table::Files, seq)?;
        match (&before, &after) {
            (None, None) => {
                let lost = chunks
                    .keys()
                    .map(|chunk| of_chunk(seq, *chunk, "its file has no record that can be read"));
                return Ok(lost.collect());
            }
            (Some(before), Some(after)) if waits(before) && waits(after) => {
                return Ok(compare(seq, before, after, &chunks));
            }
            (Some(before), Some(after)) if !waits(before) && !waits(after) => {
                let left = chunks.keys().map(|chunk| {
                    of_chunk(seq, *chunk, "its file stands in S3 already: it should have been dropped")
                });
                return Ok(left.collect());
            }
            _ => {}
        }
    }
}

type Chunks = BTreeMap<u32, Result<(u64, u64, u64), String>>;

fn chunks_of(store: &Store, seq: u64) -> Result<Chunks, StoreError> {
    let mut chunks = Chunks::new();
    let mut groups = Groups::new(Table::Chunks, 12);
    // Keys that are none were named by the first look.
    let mut checked = Checked::new(Table::Chunks);
    let mut see = |_: &mut Checked, key: &[u8], content: Result<&[u8], &'static str>| {
        let number = key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        chunks.insert(number, content.map_err(str::to_owned).and_then(measured));
    };
    for item in store.scan(Table::Chunks, &seq_key(seq)) {
        match item {
            Ok((key, value)) => groups.take(&mut checked, &key, &value, &mut see),
            Err(StoreError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    groups.end(&mut checked, &mut see);
    Ok(chunks)
}

fn of_chunk(seq: u64, chunk: u32, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Chunks, &chunk_key(seq, chunk), what);
    (Table::Chunks, Fault { file: Some(seq), ..fault })
}

/// A file that waits for its upload: `chunks` must be all that `before` counts, and no more than `after` counts.
fn compare(seq: u64, before: &FileRecord, after: &FileRecord, chunks: &Chunks) -> Vec<(Table, Fault)> {
    let mut faults = Vec::new();
    let mut held = Held::default();
    for number in 0..before.chunks {
        match chunks.get(&number) {
            None => faults.push(of_chunk(seq, number, "it is missing")),
            Some(chunk) => {
                held.add(chunk);
                if let Err(how) = chunk {
                    faults.push(of_chunk(seq, number, how.clone()));
                }
            }
        }
    }
    let beyond = chunks.range(after.chunks..).map(|(number, _)| *number);
    faults.extend(beyond.map(|number| of_chunk(seq, number, "it is beyond the last of its file")));
    // With a chunk that cannot be counted the sums tell nothing.
    if faults.is_empty() && held != wanted(before) {
        let what = format!(
            "its chunks hold {} rows of {} bytes in {} bytes, its record says {}, {} and {}",
            held.rows, held.bytes, held.log_bytes, before.rows, before.bytes, before.log_bytes
        );
        faults.push(of_file(seq, what));
    }
    faults
}
