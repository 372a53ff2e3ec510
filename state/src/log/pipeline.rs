//! A commit's way to the disk. The thread that stages rows does not wait for it: two threads compress, by turns, and
//! one applies and syncs, in the order of the cuts.
//!
//! ```text
//!               ┌──► pack ──┐
//! stage ──cut──►┤ (by turns)├──► apply, flush, fdatasync ──► durable: accepted
//!               └──► pack ──┘
//! ```
//! Each commit is one atomic change and a sync. Commits that wait when the disk is ready become one. After an error nothing
//! later is applied.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use shared::seal::Counts;
use tokio::sync::Notify;

use crate::log::chunk::Encoder;
use crate::log::record::{FileRecord, HitId, Numbered, chunk_key, seq_key};
use crate::log::status::LogError;
use crate::store::{Change, Store, Table, chunked};

/// Threads that compress: for a large commit one of them takes longer than the disk.
const PACKERS: usize = 2;
/// Commits that may wait before and behind each of them.
const WAITING: usize = 1;

/// What commits made durable.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Committed {
    pub counts: Counts,
    pub closed: Vec<u64>,
    pub sealed: Vec<u64>,
}

impl Committed {
    pub(super) fn and(&mut self, later: Self) {
        self.counts.add(later.counts);
        self.closed.extend(later.closed);
        self.sealed.extend(later.sealed);
    }
}

#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Everything that changes, except the chunk and the file's record.
    pub(super) change: Change,
    pub(super) rows: Vec<u8>,
    /// Their number; 0 when the commit has no chunk.
    pub(super) row_count: u64,
    chunk_bytes: u64,
    /// The hit ids of the chunk; they are in `change` already.
    pub(super) hits: Vec<HitId>,
    /// The file as it is with this commit, if the commit changes it. Its last chunk is the one of this commit.
    pub(super) file: Option<Numbered<FileRecord>>,
    pub(super) done: Committed,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    /// The packers, by turns; empty only while it ends.
    packers: Vec<mpsc::SyncSender<Cut>>,
    turn: usize,
    durable: mpsc::Receiver<Result<Cut, LogError>>,
    /// Notified when [`Pipeline::poll`] may have something new.
    pub(super) wake: Arc<Notify>,
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
            let encoder = Encoder::new()?;
            threads.push(spawn("pack", move || pack_all(encoder, &to_pack, &done))?);
            packers.push(cuts);
            packed.push(from_packer);
        }
        let (report, durable) = mpsc::channel();
        let wake = Arc::new(Notify::new());
        let committer = Committer { store, file: None, waiting_bytes, report, wake: wake.clone() };
        let last = Wake(wake.clone());
        let commit = move || {
            // Dropped after everything the committer held, even when the committer panics.
            let _last = last;
            committer.run(&packed);
        };
        threads.push(spawn("sync", commit)?);
        Ok(Self { packers, turn: 0, durable, wake, under_way: 0, threads })
    }

    /// Sends a commit on its way; waits while as many as may be are under way.
    pub(super) fn send(&mut self, cut: Cut) -> Result<(), LogError> {
        let packer = self.packers.get(self.turn % PACKERS);
        self.turn += 1;
        if packer.is_none_or(|packer| packer.send(cut).is_err()) {
            // A thread has ended; its error waits in the channel.
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
        let cut = self.durable.recv().map_err(|_| LogError::Ended)?;
        self.under_way -= 1;
        cut.map(Some)
    }

    /// As [`Pipeline::wait`], without blocking the thread; None if none is durable yet.
    pub(super) fn poll(&mut self) -> Result<Option<Cut>, LogError> {
        match self.durable.try_recv() {
            Ok(cut) => {
                self.under_way -= 1;
                cut.map(Some)
            }
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(LogError::Ended),
        }
    }
}

impl Drop for Pipeline {
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

fn pack_all(
    mut encoder: Encoder,
    cuts: &mpsc::Receiver<Cut>,
    packed: &mpsc::SyncSender<Result<Cut, LogError>>,
) {
    for mut cut in cuts {
        let result = pack(&mut encoder, &mut cut).map(|()| cut);
        let failed = result.is_err();
        // The last thread may have ended with an error, which was reported.
        if packed.send(result).is_err() || failed {
            break;
        }
    }
}

fn pack(encoder: &mut Encoder, cut: &mut Cut) -> Result<(), LogError> {
    let Some(Numbered { seq, record }) = cut.file.as_ref().filter(|_| cut.row_count > 0) else {
        return Ok(());
    };
    let content = encoder.encode(&cut.rows, cut.row_count)?;
    if !chunked::put(&mut cut.change, Table::Chunks, &chunk_key(*seq, record.chunks - 1), content) {
        let what = "room for a commit of that size; lower log.commit_rows";
        return Err(LogError::Missing(what.to_owned()));
    }
    cut.chunk_bytes = content.len() as u64;
    Ok(())
}

struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Writes commits in order, and knows what the chunks of the open file take.
struct Committer {
    store: Store,
    file: Option<(u64, u64)>,
    waiting_bytes: Arc<AtomicU64>,
    report: mpsc::Sender<Result<Cut, LogError>>,
    wake: Arc<Notify>,
}

impl Committer {
    /// Ends, and with it the others, when there are no more cuts or something failed.
    fn run(mut self, packed: &[mpsc::Receiver<Result<Cut, LogError>>]) {
        let mut packers = packed.iter().cycle().peekable();
        while let Some(Ok(first)) = packers.next().map(mpsc::Receiver::recv) {
            let mut together = vec![first];
            while let Some(Ok(cut)) = packers.peek().map(|packer| packer.try_recv()) {
                together.push(cut);
                packers.next();
            }
            let committed =
                together.into_iter().collect::<Result<Vec<_>, _>>().and_then(|cuts| self.commit(cuts));
            let failed = committed.is_err();
            let results = match committed {
                Ok(cuts) => cuts.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            let gone = results.into_iter().any(|result| self.report.send(result).is_err());
            self.wake.notify_one();
            if gone || failed {
                break;
            }
        }
    }

    fn commit(&mut self, mut cuts: Vec<Cut>) -> Result<Vec<Cut>, LogError> {
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
