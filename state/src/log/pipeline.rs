//! A commit's way to the disk. The thread that stages rows does not wait for it: one thread compresses, one applies
//! and syncs, and commits follow one another through both in the order they were cut.
//!
//! ```text
//! stage ──cut──► pack (compress) ──► apply, flush, fdatasync ──► settled: accepted
//! ```
//! Each commit is one atomic change with a sync of its own. After an error nothing later is applied.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

use super::commit::{Committed, Numbered};
use super::record::{FileRecord, HitId};
use super::{LogError, chunk_key, seq_key};
use crate::pieces;
use crate::store::{Change, Store, Table};

/// Commits that may wait before each of the two threads.
const WAITING: usize = 1;

/// A commit on its way.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Everything that changes, except the chunk and the file's record.
    pub(super) change: Change,
    /// The lines of the chunk.
    pub(super) rows: Vec<u8>,
    /// Their number; 0 when the commit has no chunk.
    pub(super) row_count: u64,
    /// The hit ids of the chunk; they are in `change` already.
    pub(super) hits: Vec<HitId>,
    /// The file as it is with this commit, if the commit changes it. Its last chunk is the one of this commit.
    pub(super) file: Option<Numbered<FileRecord>>,
    /// What to report once it is durable.
    pub(super) done: Committed,
}

/// Both threads, seen from the one that stages.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// None only while it ends.
    cuts: Option<mpsc::SyncSender<Cut>>,
    settled: mpsc::Receiver<Result<Cut, LogError>>,
    news: Arc<Notify>,
    under_way: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts both threads. `waiting_bytes` grows by what each chunk takes.
    pub(super) fn start(store: Store, waiting_bytes: Arc<AtomicU64>) -> Result<Self, LogError> {
        let (cuts, to_pack) = mpsc::sync_channel::<Cut>(WAITING);
        let (packed, to_store) = mpsc::sync_channel(WAITING);
        let (report, settled) = mpsc::channel();
        let news = Arc::new(Notify::new());
        let mut packer = Packer { compressor: compressor()?, buffer: Vec::new(), file: None, waiting_bytes };
        let pack = move || {
            for mut cut in to_pack {
                let result = packer.pack(&mut cut).map(|()| cut);
                let failed = result.is_err();
                // Nobody takes it when the other thread ended with an error, which says it all.
                if packed.send(result).is_err() || failed {
                    break;
                }
            }
        };
        let wake = news.clone();
        let keep = move || {
            for cut in to_store {
                let result = cut.and_then(|cut: Cut| keep(&store, cut));
                let failed = result.is_err();
                let gone = report.send(result).is_err();
                wake.notify_one();
                if gone || failed {
                    break;
                }
            }
        };
        let threads = vec![spawn("pack", pack)?, spawn("sync", keep)?];
        Ok(Self { cuts: Some(cuts), settled, news, under_way: 0, threads })
    }

    /// Sends a commit on its way; waits while as many as may be are under way.
    pub(super) fn send(&mut self, cut: Cut) -> Result<(), LogError> {
        let taken = self.cuts.as_ref().is_some_and(|cuts| cuts.send(cut).is_ok());
        if !taken {
            // A thread has ended: with an error that waits to be told.
            while self.wait()?.is_some() {}
            return Err(LogError::Ended);
        }
        self.under_way += 1;
        Ok(())
    }

    /// The next commit that is durable; None when none is under way.
    pub(super) fn wait(&mut self) -> Result<Option<Cut>, LogError> {
        if self.under_way == 0 {
            return Ok(None);
        }
        let cut = self.settled.recv().map_err(|_| LogError::Ended)?;
        self.under_way -= 1;
        cut.map(Some)
    }

    /// As [`Pipeline::wait`], without blocking the thread; None if none is settled yet.
    pub(super) fn poll(&mut self) -> Result<Option<Cut>, LogError> {
        match self.settled.try_recv() {
            Ok(cut) => {
                self.under_way -= 1;
                cut.map(Some)
            }
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(LogError::Ended),
        }
    }

    /// Returns when [`Pipeline::poll`] may have something to tell.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Pipeline {
    /// What is under way is still written: the database is closed when this returns.
    fn drop(&mut self) {
        drop(self.cuts.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(LogError::Thread)
}

fn keep(store: &Store, mut cut: Cut) -> Result<Cut, LogError> {
    store.commit(std::mem::take(&mut cut.change))?;
    Ok(cut)
}

/// Compresses chunks, and knows what the chunks of the open file take.
struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    /// As large as the largest chunk so far.
    buffer: Vec<u8>,
    /// The file of the last chunk and the bytes its chunks take.
    file: Option<(u64, u64)>,
    waiting_bytes: Arc<AtomicU64>,
}

impl Packer {
    fn pack(&mut self, cut: &mut Cut) -> Result<(), LogError> {
        let Some(Numbered { seq, record }) = &mut cut.file else { return Ok(()) };
        // A file that an earlier process left open comes with what its chunks took then.
        let known = self.file.filter(|(file, _)| file == seq).map_or(record.log_bytes, |(_, bytes)| bytes);
        record.log_bytes = known;
        if cut.row_count > 0 {
            let content = chunk(&mut self.compressor, &mut self.buffer, &cut.rows, cut.row_count)?;
            let key = chunk_key(*seq, record.chunks - 1);
            if !pieces::put(&mut cut.change, Table::Chunks, &key, content) {
                return Err(LogError::Missing(
                    "room for a commit of that size; lower log.commit_rows".to_owned(),
                ));
            }
            record.log_bytes += content.len() as u64;
            self.waiting_bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
        }
        self.file = Some((*seq, record.log_bytes));
        cut.change.put(Table::Files, &seq_key(*seq), record);
        Ok(())
    }
}

/// Level 1 keeps up with the disk; rows still shrink to a quarter or less.
const ZSTD_LEVEL: i32 = 1;

fn compressor() -> Result<zstd::bulk::Compressor<'static>, LogError> {
    zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(LogError::Compress)
}

/// A chunk as it is stored: rows, their bytes uncompressed, and their lines in one zstd frame.
fn chunk<'b>(
    compressor: &mut zstd::bulk::Compressor<'static>,
    buffer: &'b mut Vec<u8>,
    lines: &[u8],
    rows: u64,
) -> Result<&'b [u8], LogError> {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let header = [number(rows), number(lines.len() as u64)];
    let header = header.as_flattened();
    buffer.resize(buffer.len().max(header.len() + zstd::zstd_safe::compress_bound(lines.len())), 0);
    let (head, frame) = buffer.split_at_mut(header.len());
    head.copy_from_slice(header);
    let len = header.len() + compressor.compress_to_buffer(lines, frame).map_err(LogError::Compress)?;
    Ok(buffer.get(..len).unwrap_or_default())
}
