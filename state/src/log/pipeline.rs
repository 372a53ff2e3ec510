//! A commit's way to the disk. The thread that stages rows does not wait for it: two threads compress, by turns, and
//! one applies and syncs, in the order the commits were cut.
//!
//! ```text
//!               ┌──► pack ──┐
//! stage ──cut──►┤ (by turns)├──► apply, flush, fdatasync ──► settled: accepted
//!               └──► pack ──┘
//! ```
//! Each commit is one atomic change and a sync; those that wait when the disk is ready are made one. After an error
//! nothing later is applied.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

use crate::log::commit::{Committed, Numbered};
use crate::log::record::{FileRecord, HitId};
use crate::log::{LogError, chunk_key, seq_key};
use crate::store::chunked;
use crate::store::{Change, Store, Table};

/// Threads that compress: at large commits it takes one of them longer than the disk.
const PACKERS: usize = 2;
/// Commits that may wait before and behind each of them.
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
    /// Bytes the chunk takes in the log, once it is packed.
    chunk_bytes: u64,
    /// The hit ids of the chunk; they are in `change` already.
    pub(super) hits: Vec<HitId>,
    /// The file as it is with this commit, if the commit changes it. Its last chunk is the one of this commit.
    pub(super) file: Option<Numbered<FileRecord>>,
    /// What to report once it is durable.
    pub(super) done: Committed,
}

/// The threads, seen from the one that stages.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// The packers, by turns; empty only while it ends.
    packers: Vec<mpsc::SyncSender<Cut>>,
    turn: usize,
    settled: mpsc::Receiver<Result<Cut, LogError>>,
    news: Arc<Notify>,
    under_way: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts the threads. `waiting_bytes` grows by what each chunk takes.
    pub(super) fn start(store: Store, waiting_bytes: Arc<AtomicU64>) -> Result<Self, LogError> {
        let (mut packers, mut packed, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PACKERS {
            let (cuts, to_pack) = mpsc::sync_channel(WAITING);
            let (done, from_packer) = mpsc::sync_channel(WAITING);
            let packer = Packer { compressor: compressor()?, buffer: Vec::new() };
            threads.push(spawn("pack", move || packer.run(&to_pack, &done))?);
            packers.push(cuts);
            packed.push(from_packer);
        }
        let (report, settled) = mpsc::channel();
        let news = Arc::new(Notify::new());
        let keeper = Keeper { store, file: None, waiting_bytes, report, news: news.clone() };
        let last = Wake(news.clone());
        let keep = move || {
            // Dropped after all that the keeper held, also when that panics.
            let _last = last;
            keeper.run(&packed);
        };
        threads.push(spawn("sync", keep)?);
        Ok(Self { packers, turn: 0, settled, news, under_way: 0, threads })
    }

    /// Sends a commit on its way; waits while as many as may be are under way.
    pub(super) fn send(&mut self, cut: Cut) -> Result<(), LogError> {
        let packer = self.packers.get(self.turn % PACKERS);
        self.turn += 1;
        if packer.is_none_or(|packer| packer.send(cut).is_err()) {
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
        self.packers.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(LogError::Thread)
}

/// Compresses chunks.
struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    /// As large as the largest chunk so far.
    buffer: Vec<u8>,
}

impl Packer {
    fn run(mut self, cuts: &mpsc::Receiver<Cut>, packed: &mpsc::SyncSender<Result<Cut, LogError>>) {
        for mut cut in cuts {
            let result = self.pack(&mut cut).map(|()| cut);
            let failed = result.is_err();
            // Nobody takes it when the last thread ended with an error, which says it all.
            if packed.send(result).is_err() || failed {
                break;
            }
        }
    }

    fn pack(&mut self, cut: &mut Cut) -> Result<(), LogError> {
        let Some(Numbered { seq, record }) = cut.file.as_ref().filter(|_| cut.row_count > 0) else {
            return Ok(());
        };
        let content = chunk(&mut self.compressor, &mut self.buffer, &cut.rows, cut.row_count)?;
        if !chunked::put(&mut cut.change, Table::Chunks, &chunk_key(*seq, record.chunks - 1), content) {
            let what = "room for a commit of that size; lower log.commit_rows";
            return Err(LogError::Missing(what.to_owned()));
        }
        cut.chunk_bytes = content.len() as u64;
        Ok(())
    }
}

/// Says, when it is dropped, that there will be no more news.
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Writes commits in order, and knows what the chunks of the open file take.
struct Keeper {
    store: Store,
    /// The file of the last chunk and the bytes its chunks take.
    file: Option<(u64, u64)>,
    waiting_bytes: Arc<AtomicU64>,
    report: mpsc::Sender<Result<Cut, LogError>>,
    news: Arc<Notify>,
}

impl Keeper {
    /// Ends, and with it the others, when there are no more cuts or something failed.
    fn run(mut self, packed: &[mpsc::Receiver<Result<Cut, LogError>>]) {
        let mut packers = packed.iter().cycle().peekable();
        while let Some(Ok(first)) = packers.next().map(mpsc::Receiver::recv) {
            let mut together = vec![first];
            while let Some(Ok(cut)) = packers.peek().map(|packer| packer.try_recv()) {
                together.push(cut);
                packers.next();
            }
            let kept = together.into_iter().collect::<Result<Vec<_>, _>>().and_then(|cuts| self.keep(cuts));
            let failed = kept.is_err();
            let results = match kept {
                Ok(cuts) => cuts.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            let gone = results.into_iter().any(|result| self.report.send(result).is_err());
            self.news.notify_one();
            if gone || failed {
                break;
            }
        }
    }

    fn keep(&mut self, mut cuts: Vec<Cut>) -> Result<Vec<Cut>, LogError> {
        let mut change = Change::new();
        for cut in &mut cuts {
            change.and(std::mem::take(&mut cut.change));
            let Some(Numbered { seq, record }) = &mut cut.file else { continue };
            // A file that an earlier process left open comes with what its chunks took then.
            let known =
                self.file.filter(|(file, _)| file == seq).map_or(record.log_bytes, |(_, bytes)| bytes);
            record.log_bytes = known + cut.chunk_bytes;
            self.file = Some((*seq, record.log_bytes));
            self.waiting_bytes.fetch_add(cut.chunk_bytes, Ordering::Relaxed);
            change.put(Table::Files, &seq_key(*seq), record);
        }
        self.store.commit(change)?;
        Ok(cuts)
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
