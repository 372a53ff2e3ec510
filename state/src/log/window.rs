//! The hit ids remembered, exactly: no hit is ever taken for another. The set lives in memory; the log keeps the
//! same ids on disk, a chunk to a commit, and the oldest chunk is forgotten in both at once.
//! A set entry takes 17 bytes, and the set is between 7/16 and 7/8 full: 19 to 39 bytes a hit. It is kept in many
//! small parts: a part that grows has its old and new table in memory at once, and that is one part, not all.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hashbrown::HashSet;

use super::record::HitId;
use super::{chunk_key, seq_of};
use crate::pieces;
use crate::store::{Change, Store, StoreError, Table};

/// Bytes before the ids of a chunk: the time of its commit, milliseconds since 1970.
const TIME: usize = 8;

/// Parts of the set; a power of two.
const PARTS: usize = 64;
/// Ids forgotten by a commit, about: more than any commit adds (log.commit_rows is at most 10,000), so that the set
/// comes down to its limits, and few enough that no commit waits long.
const FORGOTTEN_AT_ONCE: usize = 20_000;

#[derive(Debug)]
pub(super) struct Window {
    parts: Vec<HashSet<u128>>,
    chunks: VecDeque<Remembered>,
    keep: Duration,
    max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    file: u64,
    chunk: u32,
    at: DateTime<Utc>,
}

impl Window {
    /// Reads the remembered ids back.
    pub(super) fn rebuild(store: &Store, keep: Duration, max: usize) -> Result<Self, StoreError> {
        let parts = (0..PARTS).map(|_| HashSet::new()).collect();
        let mut window = Self { parts, chunks: VecDeque::new(), keep, max };
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
            pieces::get(store, Table::Hits, &chunk_key(file, chunk), &mut content)?;
            window.chunks.push_back(Remembered { file, chunk, at: time_of(&content) });
            for id in ids_of(&content) {
                window.part(id).insert(id);
            }
        }
        Ok(window)
    }

    /// Remembers a hit; false when it is known.
    pub(super) fn insert(&mut self, hit: HitId) -> bool {
        let id = hit.key();
        self.part(id).insert(id)
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashSet::len).sum()
    }

    /// Adobe's ids need not be spread evenly: they are mixed (by the golden ratio) before a part is chosen.
    fn part(&mut self, id: u128) -> &mut HashSet<u128> {
        let [high, low] = [(id >> 64) as u64, id as u64];
        let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let part = (mixed >> 58) as usize % PARTS;
        &mut self.parts[part]
    }

    /// Stores the ids of a chunk with the commit that stores its rows.
    pub(super) fn store(
        &mut self,
        change: &mut Change,
        file: u64,
        chunk: u32,
        hits: &[HitId],
        now: DateTime<Utc>,
    ) {
        if hits.is_empty() {
            return;
        }
        let mut content = Vec::with_capacity(TIME + 16 * hits.len());
        content.extend_from_slice(&now.timestamp_millis().to_be_bytes());
        hits.iter().for_each(|hit| content.extend_from_slice(&hit.to_bytes()));
        // At most 10,000 rows a commit: far below the limit of pieces.
        let _fits = pieces::put(change, Table::Hits, &chunk_key(file, chunk), &content);
        self.chunks.push_back(Remembered { file, chunk, at: now });
    }

    /// Forgets chunks that are too old, or the oldest of too many.
    pub(super) fn forget(
        &mut self,
        store: &Store,
        change: &mut Change,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (mut content, mut forgotten) = (Vec::new(), 0);
        let mut len = self.len();
        while forgotten < FORGOTTEN_AT_ONCE {
            let Some(oldest) = self.chunks.front().copied() else { break };
            let age = (now - oldest.at).to_std().unwrap_or_default();
            if age <= self.keep && len <= self.max {
                break;
            }
            let key = chunk_key(oldest.file, oldest.chunk);
            // Absent only when its own commit has not been applied yet: then it is not old.
            if !pieces::get(store, Table::Hits, &key, &mut content)? {
                break;
            }
            for id in ids_of(&content) {
                self.part(id).remove(&id);
                forgotten += 1;
                len -= 1;
            }
            pieces::remove(store, change, Table::Hits, &key)?;
            self.chunks.pop_front();
        }
        Ok(())
    }
}

fn time_of(content: &[u8]) -> DateTime<Utc> {
    let millis = content.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

fn ids_of(content: &[u8]) -> impl Iterator<Item = u128> {
    content.get(TIME..).unwrap_or_default().chunks_exact(16).filter_map(|id| {
        let id: [u8; 16] = id.try_into().ok()?;
        Some(u128::from_be_bytes(id))
    })
}
