//! Files against their chunks.

use std::collections::BTreeMap;

use crate::log::chunk;
use crate::log::record::{FileRecord, chunk_key, chunk_of, seq_key, seq_of};
use crate::log::status::FileStatus;
use crate::log::verify::context::{Context, Faults, each_chunked, of_file, record};
use crate::store::chunked::{self, PIECE};
use crate::store::{Store, StoreError, Table};
use crate::verdict::Fault;

/// Rows of a chunk, their bytes, and the bytes the chunk takes; or what is wrong with it.
type Measured = Result<(u64, u64, u64), String>;

fn measure(content: Result<&[u8], &str>) -> Measured {
    let content = content.map_err(str::to_owned)?;
    let mut lines = Vec::new();
    let rows = chunk::Decoder::default().decode(content, &mut lines)?;
    Ok((rows, lines.len() as u64, content.len() as u64))
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Held {
    chunks: u32,
    rows: u64,
    bytes: u64,
    log_bytes: u64,
    unsound: bool,
}

impl Held {
    fn add(&mut self, chunk: &Measured) {
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

    fn wanted(file: &FileRecord) -> Self {
        let FileRecord { chunks, rows, bytes, log_bytes, .. } = *file;
        Self { chunks, rows, bytes, log_bytes, unsound: false }
    }
}

fn waits(file: &FileRecord) -> bool {
    matches!(file.status, FileStatus::Open | FileStatus::Closed)
}

/// Reads every chunk once, compares the sums with the files' records, and reads again where they differ.
pub(super) fn check(context: &mut Context<'_>) -> Result<(), StoreError> {
    let mut held = BTreeMap::<u64, Held>::new();
    let store = context.store;
    each_chunked(context.table(Table::Chunks), store, Table::Chunks, 12, |checked, key, content| {
        let chunk = measure(content);
        checked.count("chunks", 1);
        if let Ok((rows, _, bytes)) = chunk {
            checked.count("rows", rows);
            checked.count("bytes", bytes);
        }
        held.entry(seq_of(key)).or_default().add(&chunk);
    })?;
    let mut files = BTreeMap::new();
    context.each_record::<FileRecord>(Table::Files, |checked, seq, file| {
        checked.count("files", 1);
        checked.count("rows", file.rows);
        files.extend(seq.map(|seq| (seq, file)));
    })?;
    // What is left of the rows of a file in S3 is dropped by the next start.
    let differs = |(seq, file): &(&u64, &FileRecord)| {
        waits(file) && held.get(seq).copied().unwrap_or_default() != Held::wanted(file)
    };
    let mut suspects: Vec<u64> = files.iter().filter(differs).map(|(seq, _)| *seq).collect();
    suspects.extend(held.keys().filter(|seq| !files.contains_key(seq)));
    let highest = [held.keys().next_back(), files.keys().next_back()];
    context.highest.file = highest.into_iter().flatten().max().copied();
    context.files = files;
    context.recheck(suspects, |store, seq| check_file(store, *seq))
}

/// What is wrong with one file and its chunks. A file that changes its state while its chunks are read is read anew.
fn check_file(store: &Store, seq: u64) -> Result<Faults, StoreError> {
    loop {
        let before = record::<FileRecord>(store, Table::Files, seq)?;
        let chunks = chunks_of(store, seq)?;
        let after = record::<FileRecord>(store, Table::Files, seq)?;
        let all = |what| Ok(chunks.keys().map(|chunk| of_chunk(seq, *chunk, what)).collect());
        match (&before, &after) {
            (None, None) => return all("its file has no record that can be read"),
            (Some(before), Some(after)) if waits(before) && waits(after) => {
                return Ok(compare(seq, before, after, &chunks));
            }
            (Some(before), _) if !waits(before) => return Ok(Faults::new()),
            _ => {}
        }
    }
}

type Chunks = BTreeMap<u32, Measured>;

fn chunks_of(store: &Store, seq: u64) -> Result<Chunks, StoreError> {
    let mut pieces = BTreeMap::<u32, Vec<(u16, sled::IVec)>>::new();
    for item in store.scan(Table::Chunks, &seq_key(seq)) {
        match item {
            // The first pass reported keys of another length.
            Ok((key, piece)) if key.len() == 12 + PIECE => {
                pieces.entry(chunk_of(&key[..12])).or_default().push((chunked::number(&key), piece));
            }
            Ok(_) => {}
            Err(StoreError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    let mut content = Vec::new();
    let measured = pieces.into_iter().map(|(chunk, pieces)| {
        let joined = chunked::join(pieces.iter().map(|(no, part)| (*no, &part[..])), &mut content);
        (chunk, measure(joined.map(|()| &content[..])))
    });
    Ok(measured.collect())
}

fn of_chunk(seq: u64, chunk: u32, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Chunks, &chunk_key(seq, chunk), what);
    (Table::Chunks, Fault { file: Some(seq), ..fault })
}

/// A file that waits for its upload: `chunks` must be all that `before` counts, and no more than `after` counts.
fn compare(seq: u64, before: &FileRecord, after: &FileRecord, chunks: &Chunks) -> Faults {
    let mut faults = Vec::new();
    let mut held = Held::default();
    for number in 0..before.chunks {
        let Some(chunk) = chunks.get(&number) else {
            faults.push(of_chunk(seq, number, "it is missing"));
            continue;
        };
        held.add(chunk);
        faults.extend(chunk.as_ref().err().map(|how| of_chunk(seq, number, how.clone())));
    }
    let beyond = chunks.range(after.chunks..).map(|(number, _)| *number);
    faults.extend(beyond.map(|number| of_chunk(seq, number, "it is beyond the last of its file")));
    // With a chunk that cannot be counted the sums prove nothing.
    if faults.is_empty() && held != Held::wanted(before) {
        let what = format!(
            "its chunks hold {} rows of {} bytes in {} bytes, its record says {}, {} and {}",
            held.rows, held.bytes, held.log_bytes, before.rows, before.bytes, before.log_bytes
        );
        faults.push(of_file(seq, what));
    }
    faults
}
