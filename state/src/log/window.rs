//! The hit ids remembered, exactly: no hit is ever taken for another. The set lives in memory; the log keeps the
//! same ids on disk, a chunk to a commit, and a chunk is forgotten in both at once.
//!
//! Ids are forgotten by the time of the stream, the oldest first: when the front is further than the window, or when
//! there are too many. What is forgotten moves the horizon: every hit that was ever accepted and is later than that is
//! remembered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::log::coverage::StreamTime;
use crate::log::hit_set::HitSet;
use crate::log::known::KnownHits;
use crate::log::record::HitId;
use crate::log::{chunk_key, seq_of};
use crate::store::chunked;
use crate::store::{Change, Store, StoreError, Table};

/// Bytes before the ids of a chunk: the lowest and the highest time of its hits.
const TIMES: usize = 16;
/// Bytes before the ids of a chunk that an earlier version wrote: the time of its commit.
const OLD_TIME: usize = 8;

/// Ids forgotten by a commit, about: more than any commit adds (log.commit_rows is at most 10,000), so that the set
/// comes down to its limits, and few enough that no commit waits long.
const FORGOTTEN_AT_ONCE: usize = 20_000;

#[derive(Debug)]
pub(super) struct Window {
    ids: KnownHits,
    /// Chunks, the oldest on top.
    chunks: BinaryHeap<Reverse<Remembered>>,
    /// The chunk of the commit that is being cut: it is not stored yet.
    cut: Option<Remembered>,
    /// Milliseconds of the stream's time.
    keep: i64,
    max: usize,
}

/// A chunk of ids; chunks are ordered by `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Remembered {
    last: StreamTime,
    file: u64,
    chunk: u32,
}

/// The times of a chunk's hits, and how many bytes stand before its ids; None when it is no chunk.
fn times(content: &[u8]) -> Option<(StreamTime, StreamTime, usize)> {
    let (first, rest) = content.split_first_chunk()?;
    let first = i64::from_be_bytes(*first);
    match content.len() % 16 {
        0 => Some((first, i64::from_be_bytes(*rest.first_chunk()?), TIMES)),
        OLD_TIME => Some((first, first, OLD_TIME)),
        _ => None,
    }
}

/// How many ids stand in a chunk.
///
/// # Errors
/// With what is wrong with it.
pub(super) fn count_ids(content: &[u8]) -> Result<u64, String> {
    let header = times(content).filter(|(first, last, _)| first <= last);
    header
        .map(|(.., header)| ((content.len() - header) / 16) as u64)
        .ok_or_else(|| format!("{} bytes are no times and hit ids", content.len()))
}

fn ids(content: &[u8], header: usize) -> impl Iterator<Item = u128> {
    content.get(header..).unwrap_or_default().as_chunks().0.iter().map(|id| u128::from_be_bytes(*id))
}

impl Window {
    /// Reads the remembered ids back; about so many of them are expected.
    pub(super) fn rebuild(store: &Store, keep: i64, max: usize, expected: u64) -> Result<Self, StoreError> {
        let room = usize::try_from(expected).unwrap_or(max).min(max);
        let (mut known, mut chunks) = (HitSet::with_capacity(room), BinaryHeap::new());
        let mut content = Vec::new();
        for item in store.scan(Table::Hits, &[]) {
            let (key, _) = item?;
            let Some((&[f0, f1, f2, f3, f4, f5, f6, f7, c0, c1, c2, c3], piece)) = key.split_first_chunk()
            else {
                return Err(store.damaged(Table::Hits, &key, "no such key is ever written"));
            };
            if piece != [0, 0] {
                continue;
            }
            let file = seq_of(&[f0, f1, f2, f3, f4, f5, f6, f7]);
            let chunk = u32::from_be_bytes([c0, c1, c2, c3]);
            let key = chunk_key(file, chunk);
            chunked::get(store, Table::Hits, &key, &mut content)?;
            let damaged = |how: String| store.damaged(Table::Hits, &key, &how);
            count_ids(&content).map_err(damaged)?;
            let Some((_, last, header)) = times(&content) else { continue };
            chunks.push(Reverse(Remembered { last, file, chunk }));
            ids(&content, header).for_each(|id| _ = known.insert(id));
        }
        Ok(Self { ids: KnownHits::new(known), chunks, cut: None, keep, max })
    }

    /// Remembers a hit; false when it is known.
    pub(super) fn insert(&mut self, hit: HitId) -> bool {
        self.ids.insert(hit)
    }

    /// The ids, to be asked from any thread.
    pub(super) fn known(&self) -> KnownHits {
        self.ids.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Stores the ids of a chunk, received from `first` to `last`, with the commit that stores its rows.
    pub(super) fn store(
        &mut self,
        change: &mut Change,
        (file, chunk): (u64, u32),
        hits: &[HitId],
        (first, last): (StreamTime, StreamTime),
    ) {
        if hits.is_empty() {
            return;
        }
        let mut content = Vec::with_capacity(TIMES + 16 * hits.len());
        content.extend_from_slice(&first.to_be_bytes());
        content.extend_from_slice(&last.to_be_bytes());
        hits.iter().for_each(|hit| content.extend_from_slice(&hit.to_bytes()));
        // At most 10,000 rows a commit: far below the limit of pieces.
        let _fits = chunked::put(change, Table::Hits, &chunk_key(file, chunk), &content);
        self.cut = Some(Remembered { last, file, chunk });
    }

    /// Forgets chunks that are too old, or the oldest of too many; `horizon` becomes the highest time of any hit ever
    /// forgotten.
    pub(super) fn forget(
        &mut self,
        store: &Store,
        change: &mut Change,
        front: Option<StreamTime>,
        horizon: &mut Option<StreamTime>,
    ) -> Result<(), StoreError> {
        let done = self.forget_old(store, change, front, horizon);
        self.chunks.extend(self.cut.take().map(Reverse));
        done
    }

    fn forget_old(
        &mut self,
        store: &Store,
        change: &mut Change,
        front: Option<StreamTime>,
        horizon: &mut Option<StreamTime>,
    ) -> Result<(), StoreError> {
        let old = front.map(|front| front.saturating_sub(self.keep));
        let (mut content, mut forgotten) = (Vec::new(), 0);
        let mut len = self.len();
        while forgotten < FORGOTTEN_AT_ONCE {
            let Some(Reverse(oldest)) = self.chunks.peek().copied() else { break };
            if len <= self.max && old.is_none_or(|old| oldest.last >= old) {
                break;
            }
            let key = chunk_key(oldest.file, oldest.chunk);
            // Absent only when its commit has not been applied yet.
            if !chunked::get(store, Table::Hits, &key, &mut content)? {
                break;
            }
            self.chunks.pop();
            let header = times(&content).map_or(TIMES, |(.., header)| header);
            let mut known = self.ids.write();
            for id in ids(&content, header) {
                known.remove(id);
                forgotten += 1;
                len -= 1;
            }
            drop(known);
            chunked::remove(store, change, Table::Hits, &key)?;
            *horizon = (*horizon).max(Some(oldest.last));
        }
        Ok(())
    }
}
