//! The one thread that writes the log. It takes blocks of decoded records, drops the hits that are known, and makes
//! the rest durable in group commits. When the log is full it takes no more blocks, and the pressure reaches the
//! socket; what the shipping side has to say is always heard, since that is what makes room.

use std::io;

use chrono::{DateTime, Utc};
use shared::clock::Moment;
use shared::shutdown::Shutdown;
use state::log::{Chosen, Committed, HitId, Log, LogError, Upload};
use tokio::sync::{mpsc, oneshot};

/// Blocks that may wait for the thread.
const BLOCKS_WAITING: usize = 4;

/// What a connection sends, in the order it happened there. First the connection's number, from 0.
#[derive(Debug)]
pub enum FromStream {
    /// The connection of this number is about to be read.
    Started(u8),
    /// Records of it, decoded.
    Block(u8, Block),
    /// It is no longer read, and why.
    Ended(u8, String),
    /// Nothing more will come: what is open is closed and sealed.
    Complete,
}

/// Decoded records, in the order they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The CSV lines of all rows.
    pub rows: Vec<u8>,
    /// What each record became.
    pub records: Vec<Decoded>,
}

/// What a record became.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A row: the bytes of `Block::rows` from where the last one ended.
    Row {
        /// Where it ends.
        end: usize,
        /// Its identity.
        hit: Option<HitId>,
        /// Its `receivedTimeGMT`.
        received: Option<DateTime<Utc>>,
    },
    /// Its hit is in the log already: nothing else of it was looked at.
    Known {
        /// Its identity.
        hit: HitId,
        /// Its `receivedTimeGMT`.
        received: Option<DateTime<Utc>>,
    },
    /// A filter dropped it.
    Filtered {
        /// The filter's position in the list.
        rule: usize,
        /// Its `receivedTimeGMT`: the stream was read so far.
        received: Option<DateTime<Utc>>,
    },
    /// It cannot become a row.
    Rejected {
        /// As received.
        record: Vec<u8>,
        /// Why.
        reason: String,
    },
}

/// What the shipping side reports, each answered when it is noted.
#[derive(Debug)]
pub enum Shipped {
    /// S3 confirmed a file.
    File(u64, Upload, oneshot::Sender<()>),
    /// S3 confirmed a seal.
    Batch(u64, oneshot::Sender<()>),
    /// These rejects go up next.
    ToReject(Chosen, oneshot::Sender<()>),
    /// S3 confirmed these rejects.
    Rejects(Chosen, oneshot::Sender<()>),
}

/// The writing end of the thread.
#[derive(Debug)]
pub(crate) struct Appender {
    /// Records and sessions go in here.
    pub stream: mpsc::Sender<FromStream>,
    /// Reports of the shipping side go in here.
    pub shipped: mpsc::Sender<Shipped>,
    /// Batches that were sealed come out here, to be shipped.
    pub to_ship: mpsc::UnboundedReceiver<u64>,
    /// Comes when both senders are dropped and everything staged is durable; or at once, with the error, when the
    /// log fails: nothing may be believed after that.
    pub ended: oneshot::Receiver<Result<(), LogError>>,
}

/// Starts the thread.
///
/// # Errors
/// When there can be no more threads.
pub(crate) fn start(log: Log, shutdown: Shutdown) -> io::Result<Appender> {
    start_by(Moment::now, log, shutdown)
}

/// As [`start`], by this clock.
fn start_by(clock: fn() -> Moment, log: Log, shutdown: Shutdown) -> io::Result<Appender> {
    let (stream, from_stream) = mpsc::channel(BLOCKS_WAITING);
    let (shipped, from_shipping) = mpsc::channel(64);
    // Unbounded, but never more than there are sealed batches in the log, whose size is bounded.
    let (to_ship, shipping) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("append".to_owned()).spawn(move || {
        let writer = Writer { log, clock, to_ship, full: false, stopping: false, dropping: false };
        // Nobody listens any more when the time for an orderly stop has run out.
        let _ = end.send(runtime.block_on(writer.run(from_stream, from_shipping, &shutdown)));
    })?;
    Ok(Appender { stream, shipped, to_ship: shipping, ended })
}

struct Writer {
    log: Log,
    clock: fn() -> Moment,
    to_ship: mpsc::UnboundedSender<u64>,
    full: bool,
    stopping: bool,
    /// Whether a block was dropped: only when the process stops.
    dropping: bool,
}

impl Writer {
    fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Disk calls block this thread, which does nothing else.
    async fn run(
        mut self,
        mut stream: mpsc::Receiver<FromStream>,
        mut shipped: mpsc::Receiver<Shipped>,
        shutdown: &Shutdown,
    ) -> Result<(), LogError> {
        let (mut streaming, mut shipping) = (true, true);
        while streaming || shipping {
            self.notice_full()?;
            let due = self.log.next_commit().map(|at| self.now().steady.until(at));
            tokio::select! {
                biased;
                report = shipped.recv(), if shipping => match report {
                    Some(report) => self.note(report)?,
                    None => shipping = false,
                },
                done = self.log.settled() => self.hand_on(&done?),
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => self.log.submit((self.clock)())?,
                () = shutdown.stopping(), if !self.stopping => self.stopping = true,
                // A full log hears the stream again when the process stops, or the stream side could not end.
                event = stream.recv(), if streaming && (!self.full || self.stopping) => match event {
                    Some(event) => self.take(event)?,
                    // The last of the stream is durable before anything else is waited for.
                    None => {
                        streaming = false;
                        let done = self.log.commit((self.clock)())?;
                        self.hand_on(&done);
                    }
                },
            }
        }
        self.log.close((self.clock)()).map(|_| ())
    }

    fn take(&mut self, event: FromStream) -> Result<(), LogError> {
        match event {
            FromStream::Started(connection) => {
                let done = self.log.session_started(connection, (self.clock)())?;
                self.hand_on(&done);
                Ok(())
            }
            // No room, and nobody waits for it: not accepted, so Adobe sends it again. Nor is what comes behind it, if
            // there is room again: the log would take everything before that for read.
            FromStream::Block(..) if self.full || self.dropping => {
                self.dropping = true;
                Ok(())
            }
            FromStream::Block(connection, block) => self.append(connection, &block),
            FromStream::Ended(connection, why) => {
                let done = self.log.session_ended(connection, &why, (self.clock)())?;
                self.hand_on(&done);
                Ok(())
            }
            FromStream::Complete => {
                let done = self.log.seal_all((self.clock)())?;
                self.hand_on(&done);
                Ok(())
            }
        }
    }

    fn append(&mut self, connection: u8, block: &Block) -> Result<(), LogError> {
        let now = self.now();
        let mut start = 0;
        for record in &block.records {
            match record {
                Decoded::Row { end, hit, received } => {
                    let row = block.rows.get(start..*end);
                    let row = row.ok_or_else(|| LogError::Missing("row that a block names".to_owned()))?;
                    self.log.stage_row(connection, *hit, *received, row, now);
                    start = *end;
                }
                Decoded::Known { hit, received } => self.log.stage_known(connection, *hit, *received, now),
                Decoded::Filtered { received, .. } => self.log.stage_filtered(connection, *received, now),
                Decoded::Rejected { record, reason } => {
                    self.log.stage_reject(connection, record, reason, now);
                }
            }
            if self.log.commit_is_due() {
                self.log.submit((self.clock)())?;
            }
        }
        Ok(())
    }

    fn hand_on(&self, done: &Committed) {
        // The shipping side may have gone already, when the process ends: the next start finds what is left.
        for batch in &done.sealed {
            let _ = self.to_ship.send(*batch);
        }
    }

    fn note(&mut self, report: Shipped) -> Result<(), LogError> {
        // Nobody waits for the answer any more when the process ends.
        match report {
            Shipped::File(file, upload, noted) => {
                self.log.uploaded(file, upload)?;
                let _ = noted.send(());
            }
            Shipped::Batch(batch, noted) => {
                self.log.published(batch, (self.clock)())?;
                let _ = noted.send(());
            }
            Shipped::ToReject(chosen, noted) => {
                self.log.rejects_chosen(chosen)?;
                let _ = noted.send(());
            }
            Shipped::Rejects(chosen, noted) => {
                self.log.rejects_shipped(chosen)?;
                let _ = noted.send(());
            }
        }
        Ok(())
    }

    fn notice_full(&mut self) -> Result<(), LogError> {
        let full = self.log.is_full();
        if full != self.full {
            self.full = full;
            let bytes = self.log.waiting_bytes();
            if full {
                tracing::error!(
                    bytes,
                    "the log is full (log.max_bytes): the stream is not read until S3 has taken some"
                );
                // What is filling is sealed, or it would wait here for its age.
                self.log.submit((self.clock)())?;
            } else {
                tracing::info!(bytes, "the log has room again: reading on");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
