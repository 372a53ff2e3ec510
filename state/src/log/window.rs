//! The deduplication window: the hit ids remembered, exactly. No hit is ever taken for another. The set is in memory; the
//! log keeps the same ids on disk, a chunk to a commit, and forgets a chunk in both at once.
//!
//! The window forgets ids by the time of the stream, the oldest first: when the front is further than the window, or when
//! there are too many. That moves the horizon: every accepted hit that is later than the horizon is remembered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::log::coverage::StreamTime;
use crate::log::known::{HitSet, KnownHits};
use crate::log::record::{HitId, Sums, chunk_key, chunk_of, seq_of};
use crate::store::{Change, Store, StoreError, Table, chunked};

/// Bytes before the ids of a chunk: the lowest and the highest time of its hits.
const TIMES: usize = 16;
/// Bytes before the ids of a chunk that an earlier version wrote: the time of its commit.
const OLD_TIME: usize = 8;

/// Ids forgotten by a commit: more than a commit adds, and few enough that no commit waits long.
const FORGOTTEN_AT_ONCE: usize = 20_000;

#[derive(Debug)]
pub(super) struct Window {
    pub(super) ids: KnownHits,
    /// Chunks, the oldest on top.
    chunks: BinaryHeap<Reverse<Remembered>>,
    /// The chunk of the commit that is being cut: it is not stored yet.
    cut: Option<Remembered>,
    /// Milliseconds of the stream's time.
    keep: i64,
    max: usize,
    /// Whether it was reported that `max` is too low.
    warned: bool,
}

/// A chunk of ids; chunks are ordered by `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Remembered {
    last: StreamTime,
    file: u64,
    chunk: u32,
}

/// The times of a chunk's hits, and the bytes before its ids; None when it is no chunk.
fn times(content: &[u8]) -> Option<(StreamTime, StreamTime, usize)> {
    let (first, rest) = content.split_first_chunk()?;
    let first = i64::from_be_bytes(*first);
    match content.len() % 16 {
        0 => Some((first, i64::from_be_bytes(*rest.first_chunk()?), TIMES)),
        OLD_TIME => Some((first, first, OLD_TIME)),
        _ => None,
    }
}

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
    /// Reads the remembered ids back, of which there must be `expected`.
    pub(super) fn rebuild(store: &Store, keep: i64, max: usize, expected: u64) -> Result<Self, StoreError> {
        let room = usize::try_from(expected).unwrap_or(max).min(max);
        let (mut known, mut chunks) = (HitSet::with_capacity(room), BinaryHeap::new());
        let mut content = Vec::new();
        for item in store.scan(Table::Hits, &[]) {
            let (key, _) = item?;
            let Some((key, piece)) = key.split_first_chunk::<12>() else {
                return Err(store.damaged(Table::Hits, &key, "no such key is ever written"));
            };
            if piece != [0, 0] {
                continue;
            }
            chunked::get(store, Table::Hits, key, &mut content)?;
            count_ids(&content).map_err(|how| store.damaged(Table::Hits, key, &how))?;
            let Some((_, last, header)) = times(&content) else { continue };
            chunks.push(Reverse(Remembered { last, file: seq_of(key), chunk: chunk_of(key) }));
            ids(&content, header).for_each(|id| _ = known.insert(id));
        }
        let there = known.len() as u64;
        if there != expected {
            let what = format!("hits: {there} hit ids are there, {expected} were remembered");
            return Err(StoreError::Damaged { dir: store.dir().to_owned(), what });
        }
        Ok(Self { ids: KnownHits::new(known), chunks, cut: None, keep, max, warned: false })
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
        hits.iter().for_each(|hit| content.extend_from_slice(&hit.key().to_be_bytes()));
        // At most 10,000 rows a commit: far below the limit of pieces.
        let _fits = chunked::put(change, Table::Hits, &chunk_key(file, chunk), &content);
        self.cut = Some(Remembered { last, file, chunk });
    }

    /// Forgets chunks that are too old or too many. The horizon becomes the highest time of any hit forgotten.
    pub(super) fn forget(
        &mut self,
        store: &Store,
        change: &mut Change,
        sums: &mut Sums,
    ) -> Result<(), StoreError> {
        let old = sums.coverage.front().map(|front| front.saturating_sub(self.keep));
        let done = self.forget_older(old, store, change, &mut sums.horizon);
        self.chunks.extend(self.cut.take().map(Reverse));
        done?;
        sums.hits = self.len() as u64;
        sums.too_short = old.zip(sums.horizon).is_some_and(|(old, horizon)| horizon > old);
        if sums.too_short && !self.warned {
            self.warned = true;
            tracing::warn!(
                hits = sums.hits,
                "log.dedup_hits holds less than log.dedup_window of the stream: what comes later than that is compared \
                 with the table when it is loaded, which takes longer; raise log.dedup_hits"
            );
        }
        Ok(())
    }

    fn forget_older(
        &mut self,
        old: Option<StreamTime>,
        store: &Store,
        change: &mut Change,
        horizon: &mut Option<StreamTime>,
    ) -> Result<(), StoreError> {
        let (mut content, mut forgotten) = (Vec::new(), 0);
        while forgotten < FORGOTTEN_AT_ONCE {
            let Some(Reverse(oldest)) = self.chunks.peek().copied() else { break };
            if self.len() <= self.max && old.is_none_or(|old| oldest.last >= old) {
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
            }
            drop(known);
            chunked::remove(store, change, Table::Hits, &key)?;
            *horizon = (*horizon).max(Some(oldest.last));
        }
        Ok(())
    }
}
