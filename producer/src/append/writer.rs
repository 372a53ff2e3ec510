//! The thread, and the channels that lead to it and from it.

use std::io;
use std::sync::Arc;

use shared::clock::{Clock, Steady};
use shared::human;
use shared::shutdown::Shutdown;
use shared::systemd::Loop;
use state::log::{Committed, Form, Log, LogError, Staged};
use state::status::activity::Reporter;
use tokio::sync::{mpsc, oneshot};

use crate::append::decoded::Decoded;
use crate::append::event::{Block, ConnectionEvent, UploadReport};

const BLOCKS_WAITING: usize = 4;
const REPORTS_WAITING: usize = 64;

pub(crate) struct Appender {
    pub(crate) stream: mpsc::Sender<ConnectionEvent>,
    pub(crate) upload_reports: mpsc::Sender<UploadReport>,
    /// Gives the batches that were sealed, to be uploaded.
    pub(crate) sealed_batches: mpsc::UnboundedReceiver<u64>,
    /// Comes when both senders are dropped and everything staged is durable; or at once, with the error, when the log
    /// fails.
    pub(crate) ended: oneshot::Receiver<Result<(), LogError>>,
}

pub(crate) fn start(
    log: Log,
    reporter: Reporter,
    watched: Loop,
    clock: Clock,
    shutdown: Shutdown,
) -> io::Result<Appender> {
    let (stream, from_stream) = mpsc::channel(BLOCKS_WAITING);
    let (upload_reports, reports) = mpsc::channel(REPORTS_WAITING);
    // Unbounded, but never more than there are sealed batches in the log, whose size is bounded.
    let (sealed, sealed_batches) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("append".to_owned()).spawn(move || {
        let (full, stopping, dropping) = (false, false, false);
        let writer = Writer { log, form: None, reporter, clock, sealed, full, stopping, dropping };
        // Nobody waits for the end any more when the time for an orderly stop has run out.
        let _ = end.send(runtime.block_on(watched.run(writer.run(from_stream, reports, &shutdown))));
    })?;
    Ok(Appender { stream, upload_reports, sealed_batches, ended })
}

struct Writer {
    log: Log,
    /// That of the latest rows; None before the first.
    form: Option<Arc<Form>>,
    reporter: Reporter,
    clock: Clock,
    sealed: mpsc::UnboundedSender<u64>,
    full: bool,
    stopping: bool,
    /// A block was dropped: only when the process stops.
    dropping: bool,
}

impl Writer {
    /// Disk calls block this thread, which does nothing else.
    async fn run(
        mut self,
        mut stream: mpsc::Receiver<ConnectionEvent>,
        mut upload_reports: mpsc::Receiver<UploadReport>,
        shutdown: &Shutdown,
    ) -> Result<(), LogError> {
        let (mut streaming, mut uploading) = (true, true);
        while streaming || uploading {
            self.check_full()?;
            let due = self.log.next_commit();
            tokio::select! {
                biased;
                report = upload_reports.recv(), if uploading => match report {
                    Some(report) => self.note(report)?,
                    None => uploading = false,
                },
                done = self.log.next_durable() => self.send_sealed(&done?),
                () = self.clock.sleep_until(due.unwrap_or(Steady::from_millis(0))), if due.is_some() => {
                    self.log.submit(self.clock.now())?;
                }
                () = shutdown.stopping(), if !self.stopping => self.stopping = true,
                // A full log reads the stream again when the process stops, or the stream side could not end.
                event = stream.recv(), if streaming && (!self.full || self.stopping) => match event {
                    Some(event) => self.handle(event)?,
                    // The last of the stream is durable before anything else is waited for.
                    None => {
                        streaming = false;
                        let done = self.log.commit(self.clock.now())?;
                        self.send_sealed(&done);
                    }
                },
            }
        }
        self.log.close(self.clock.now()).map(drop)
    }

    fn handle(&mut self, event: ConnectionEvent) -> Result<(), LogError> {
        let done = match event {
            ConnectionEvent::Started(connection) => self.log.session_started(connection, self.clock.now())?,
            // The log has no room, and the process does not wait for it: the block is not accepted, so Adobe sends it
            // again. Later blocks are not accepted either, or the log would take everything before this one for read.
            ConnectionEvent::Block(..) if self.full || self.dropping => {
                self.dropping = true;
                return Ok(());
            }
            ConnectionEvent::Block(connection, block) => return self.append(connection, &block),
            ConnectionEvent::Ended(connection, why) => {
                self.log.session_ended(connection, &why, self.clock.now())?
            }
            ConnectionEvent::Complete => self.log.seal_all(self.clock.now())?,
        };
        self.send_sealed(&done);
        Ok(())
    }

    fn append(&mut self, connection: u8, block: &Block) -> Result<(), LogError> {
        let now = self.clock.now();
        if !block.rows.is_empty() {
            self.begin_form(&block.form)?;
        }
        let mut start = 0;
        let mut staged: Option<Vec<Staged>> = block.tapped.as_ref().map(|_| Vec::new());
        for record in &block.records {
            match record {
                Decoded::Row { end, hit, received } => {
                    let row = block.rows.get(start..*end);
                    let row = row.ok_or_else(|| LogError::Missing("row that a block names".to_owned()))?;
                    let became = self.log.stage_row(connection, *hit, *received, row, now);
                    start = *end;
                    if let Some(staged) = &mut staged {
                        staged.push(became);
                    }
                }
                Decoded::Known { hit, received } => self.log.stage_known(connection, *hit, *received, now),
                Decoded::Filtered { received, .. } => self.log.stage_filtered(connection, *received, now),
                Decoded::Rejected { record, code, reason } => {
                    self.log.stage_kept_reject(connection, record.clone(), (code, reason), now);
                }
            }
            if self.log.commit_is_due() {
                self.log.submit(self.clock.now())?;
            }
        }
        if let Some((tapped, staged)) = block.tapped.as_ref().zip(staged) {
            tapped.show(connection, now.wall, &block.records, &staged);
        }
        Ok(())
    }

    /// A connection that took another transform sends rows of another form, while others may still send the old one.
    fn begin_form(&mut self, form: &Arc<Form>) -> Result<(), LogError> {
        if self.form.as_ref().is_some_and(|known| Arc::ptr_eq(known, form)) {
            return Ok(());
        }
        self.form = Some(form.clone());
        self.log.begin_form(form, self.clock.now())
    }

    fn send_sealed(&self, done: &Committed) {
        // Nobody uploads any more when the process ends: the next start finds what is left.
        for batch in &done.sealed {
            let _ = self.sealed.send(*batch);
        }
    }

    fn note(&mut self, report: UploadReport) -> Result<(), LogError> {
        let noted = match report {
            UploadReport::FileUploaded(file, upload, noted) => self.log.uploaded(file, upload).map(|_| noted),
            UploadReport::BatchPublished(batch, noted) => {
                self.log.published(batch, self.clock.now()).map(|_| noted)
            }
            UploadReport::RejectsChosen(chosen, noted) => self.log.rejects_chosen(chosen).map(|_| noted),
            UploadReport::RejectsUploaded(chosen, noted) => self.log.rejects_uploaded(chosen).map(|_| noted),
        }?;
        // Nobody waits for the answer any more when the process ends.
        let _ = noted.send(());
        Ok(())
    }

    fn check_full(&mut self) -> Result<(), LogError> {
        let was_full = self.full;
        self.full = if was_full { !self.log.has_room() } else { self.log.is_full() };
        if !self.full && !was_full {
            return Ok(());
        }
        let bytes = self.log.waiting_bytes();
        if self.full {
            let [waiting, max] = [bytes, self.log.max_bytes()].map(human::bytes);
            let why = format!(
                "{waiting} of {max} (log.max_bytes) wait for S3; the stream is not read. Nothing is lost while Adobe \
                 holds the hits: let the producer reach S3"
            );
            self.reporter.held("full", &why);
        }
        if self.full && !was_full {
            tracing::error!(
                bytes,
                "the log is full (log.max_bytes): the stream is not read until S3 has taken some"
            );
            // The open batch is sealed now, or it would wait here for its age.
            self.log.submit(self.clock.now())?;
        } else if !self.full {
            self.reporter.succeeded();
            tracing::info!(bytes, "the log has room again: reading on");
        }
        Ok(())
    }
}
