//! Opening a log: going on where the last process stopped, in order or not.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::clock::{Moment, age};
use shared::ids::BatchId;

use crate::failpoints::reached;
use crate::log::batch_mark::BatchMark;
use crate::log::commit::Numbered;
use crate::log::coverage::Coverage;
use crate::log::pipeline::Pipeline;
use crate::log::progress::Progress;
use crate::log::record::{BatchRecord, FileRecord, Session, Sums};
use crate::log::runs::Runs;
use crate::log::session::Connection;
use crate::log::stage::Stage;
use crate::log::status::{BatchStatus, FileStatus};
use crate::log::window::Window;
use crate::log::{Log, LogError, Settings, columns, millis, seq_key, seq_of};
use crate::store::chunked;
use crate::store::{Change, Kind, Store, StoreError, Table};

/// Why a session ended whose process was killed.
pub const ENDED_WITHOUT_A_WORD: &str = "the producer ended without a word";

/// Key of what format 1 kept, and is not read any more: times at which not everything was read.
pub(super) const HOLES: &[u8] = b"holes";

/// What the last process left to do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Files that wait for their upload, or for their batch to be sealed, oldest first.
    pub closed: Vec<u64>,
    /// Batches that wait to be uploaded and published, oldest first.
    pub sealed: Vec<u64>,
    /// Rows in the log that are not yet in S3.
    pub rows: u64,
    /// Hit ids remembered.
    pub hits: usize,
}

impl Log {
    /// Opens the log, creating it if there is none, and begins a new run. A file and batch left open are gone on with,
    /// unless the schema or the compression has changed since, or format 1 wrote them: then they are ended as they are.
    ///
    /// The batch gets a new id. Nothing of it went to S3, and this may be a copy of a log that goes on too: what either
    /// of them seals has a name of its own, so that no object is written over by other content.
    ///
    /// # Errors
    /// When it is in use, damaged, of another version or instance, or the disk fails.
    pub fn open(settings: Settings, now: impl Into<Moment>) -> Result<(Self, Resumed), LogError> {
        let now = now.into();
        let instance = settings.instance.to_string();
        let store = Store::open(&settings.dir, Kind::Producer, &instance, settings.cache, crate::log::check)?;
        reached("resume.begun");
        let sums: Sums = store.get(Table::Meta, b"sums")?.unwrap_or_default();
        let window = Window::rebuild(&store, millis(settings.dedup_window), settings.dedup_hits, sums.hits)?;
        let waiting_bytes = Arc::new(AtomicU64::new(0));
        let mut begun = Change::new();
        let batch_mark = BatchMark::ensure(&store, &mut begun)?;
        let runs = Runs::begin(&store, last_sealed(&store, &sums)?, &mut begun)?;
        let mut log = Self {
            pipeline: Pipeline::start(store.clone(), waiting_bytes.clone())?,
            stage: Stage::default(),
            open_file: None,
            filling: None,
            file_since: now.steady,
            batch_since: now.steady,
            connections: (0..settings.connections).map(|_| Connection::default()).collect(),
            settled_any: false,
            batch_mark,
            runs,
            published: VecDeque::new(),
            progress: Progress::default(),
            waiting_bytes,
            warned_too_short: false,
            settings,
            store,
            sums,
            window,
        };
        if log.window.len() as u64 != log.sums.hits {
            let (there, sums) = (log.window.len(), log.sums.hits);
            let what = format!("hits: {there} hit ids are there, {sums} were remembered");
            return Err(StoreError::Damaged { dir: log.settings.dir, what }.into());
        }
        let mut resumed = Resumed { hits: log.window.len(), ..Resumed::default() };
        log.find_files(&mut resumed)?;
        log.find_batches(&mut resumed)?;
        log.keep_columns(&resumed, &mut begun)?;
        log.go_on_aging(now);
        reached("resume.found");
        for item in log.store.scan(Table::Rejects, &[]) {
            let (key, piece) = item?;
            log.waits(chunked::content_len(&key, &piece));
        }
        log.end_lost_sessions(&mut begun)?;
        if let Some(batch) = &mut log.filling
            && batch.record.uncompared.is_some()
        {
            batch.record.id = BatchId::new();
            begun.put(Table::Batches, &seq_key(batch.seq), &batch.record);
        }
        begun.remove(Table::Meta, HOLES);
        log.store.apply(begun)?;
        reached("resume.ended");
        if log.filling.as_ref().is_some_and(|batch| !log.fits(&batch.record)) {
            let done = log.seal_all(now)?;
            resumed.closed.extend(done.closed);
            resumed.sealed.extend(done.sealed);
        }
        // What was found may have been applied and not synced by a process that was killed: nothing leaves for S3
        // before it is durable.
        log.store.sync()?;
        Ok((log, resumed))
    }

    fn fits(&self, batch: &BatchRecord) -> bool {
        let Settings { schema, compression, .. } = &self.settings;
        batch.schema == *schema && batch.compression == *compression && batch.uncompared.is_some()
    }

    /// Keeps the names of the columns that rows are made for from now on, and those of what is not yet published.
    fn keep_columns(&self, resumed: &Resumed, change: &mut Change) -> Result<(), LogError> {
        let Settings { schema, columns, .. } = &self.settings;
        let mut wanted = HashSet::from([schema.clone()]);
        wanted.extend(self.filling.iter().map(|batch| batch.record.schema.clone()));
        for batch in &resumed.sealed {
            wanted.insert(self.reader().batch(*batch)?.schema);
        }
        columns::forget_but(&self.store, &wanted, change)?;
        Ok(columns::keep(&self.store, schema, columns, change)?)
    }

    fn waits(&self, bytes: u64) {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn find_files(&mut self, resumed: &mut Resumed) -> Result<(), LogError> {
        for item in self.store.scan_json::<FileRecord>(Table::Files) {
            let (key, record) = item?;
            let seq = seq_of(&key);
            match record.status {
                FileStatus::Uploaded(_) => {
                    self.progress.uploaded(&record);
                    continue;
                }
                FileStatus::Closed => resumed.closed.push(seq),
                FileStatus::Open => self.open_file = Some(Numbered { seq, record: record.clone() }),
            }
            resumed.rows += record.rows;
            self.waits(record.log_bytes);
        }
        Ok(())
    }

    fn find_batches(&mut self, resumed: &mut Resumed) -> Result<(), LogError> {
        let mut change = Change::new();
        for item in self.store.scan_json::<BatchRecord>(Table::Batches) {
            let (key, mut record) = item?;
            let seq = seq_of(&key);
            if record.status != BatchStatus::Published && record.place != self.settings.place {
                self.check_unshipped(&record)?;
                record.place.clone_from(&self.settings.place);
                change.put(Table::Batches, &key, &record);
            }
            match record.status {
                BatchStatus::Published => self.published.push_back(seq),
                BatchStatus::Sealed => resumed.sealed.push(seq),
                BatchStatus::Filling => self.filling = Some(Numbered { seq, record }),
            }
        }
        Ok(self.store.apply(change)?)
    }

    /// What was left open goes on at the age that the wall clock tells. One that was opened in the future, by a clock
    /// that was set back since, is new: it waits its whole age once more and no longer.
    fn go_on_aging(&mut self, now: Moment) {
        if let Some(file) = &self.open_file {
            self.file_since = now.steady - age(file.record.opened, now.wall);
        }
        if let Some(batch) = &self.filling {
            self.batch_since = now.steady - age(batch.record.opened, now.wall);
        }
    }

    /// A batch may go somewhere else only while none of its files stands where it was to go: those rows are dropped
    /// here already.
    fn check_unshipped(&self, batch: &BatchRecord) -> Result<(), LogError> {
        let files = self.reader().files_of(batch)?;
        if files.iter().all(|file| !matches!(file.status, FileStatus::Uploaded(_))) {
            return Ok(());
        }
        let (id, old, new) = (batch.id, &batch.place, &self.settings.place);
        let what = format!(
            "batch {id} stands half in {old}: start with that s3.bucket and s3.to_ingest until `state \
                            dump` shows it published, then change to {new}"
        );
        Err(StoreError::Foreign { dir: self.settings.dir.clone(), what }.into())
    }

    /// Sessions of a process that was killed: they ended when they last said anything. What each connection has
    /// received is what was committed.
    fn end_lost_sessions(&mut self, change: &mut Change) -> Result<(), LogError> {
        if self.sums.coverage.connections() == 0
            && let Some(last) = self.sums.last_received
        {
            self.sums.coverage = Coverage::up_to(last.timestamp_millis());
        }
        let store = self.store.clone();
        for item in store.scan_json::<Session>(Table::Sessions) {
            let (_, mut session) = item?;
            let number = session.connection;
            if session.ended.is_none() {
                session.ended = Some(session.alive);
                session.why = Some(ENDED_WITHOUT_A_WORD.to_owned());
                if self.sums.coverage.is_due(number, None) {
                    let missed = self.sums.coverage.settle(number, self.settings.gap());
                    session.gap = missed.map(|missed| self.note_gap(&session, missed));
                }
                change.put(Table::Sessions, &seq_key(session.session), &session);
            }
            if let Some(connection) = self.connections.get_mut(usize::from(number)) {
                connection.ended(&session);
            }
        }
        self.sums.coverage.resize(self.connections.len());
        change.put(Table::Meta, b"sums", &self.sums);
        Ok(())
    }
}

/// Number of the last batch that is sealed, or more; a filling one is the last of all.
fn last_sealed(store: &Store, sums: &Sums) -> Result<Option<u64>, StoreError> {
    let Some(last) = sums.next_batch.checked_sub(1) else { return Ok(None) };
    let record: Option<BatchRecord> = store.get(Table::Batches, &seq_key(last))?;
    let filling = record.is_some_and(|record| record.status == BatchStatus::Filling);
    Ok(if filling { last.checked_sub(1) } else { Some(last) })
}
