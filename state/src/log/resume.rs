//! Opens a log: goes on where the last process stopped, in order or not.

use std::collections::HashSet;

use shared::clock::{Moment, age};
use shared::ids::BatchId;

use crate::failpoints::reached;
use crate::log::batch_placeholder::BatchPlaceholder;
use crate::log::columns;
use crate::log::filling::{Filling, Stage};
use crate::log::pipeline::Pipeline;
use crate::log::record::{BatchRecord, FileRecord, HOLES, Numbered, Runs, SUMS, Sums, seq_key, seq_of};
use crate::log::sessions::Sessions;
use crate::log::settings::{Settings, millis};
use crate::log::status::{BatchStatus, FileStatus, LogError};
use crate::log::uploading::Uploading;
use crate::log::verify::check;
use crate::log::window::Window;
use crate::log::writer::Log;
use crate::store::{Change, Kind, Store, StoreError, Table, chunked};

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
    /// Opens the log, creating it if there is none, and begins a new run. An open file and a filling batch go on, unless
    /// the schema, the compression, or key or spelling of pseudonyms has changed since, or format 1 wrote them: then they are ended as
    /// they are. An earlier version did not say how it spelled them: its filling batch with pseudonyms ends too.
    ///
    /// The filling batch gets a new id. Nothing of it went to S3, and this may be a copy of a log that goes on too: what
    /// either of them seals has a name of its own, so that no object overwrites another one's content.
    ///
    /// With another place, what is new goes there, and batches of which nothing is in S3. Any other batch is finished in
    /// its own place: its rows that went there are dropped here already.
    pub fn open(settings: Settings, now: impl Into<Moment>) -> Result<(Self, Resumed), LogError> {
        let now = now.into();
        let instance = settings.instance.to_string();
        let store = Store::open(&settings.dir, Kind::Producer, &instance, settings.cache, check)?;
        reached("resume.begun");
        let mut sums: Sums = store.get(Table::Meta, SUMS)?.unwrap_or_default();
        let window = Window::rebuild(&store, millis(settings.dedup_window), settings.dedup_hits, sums.hits)?;
        let mut begun = Change::new();
        let batch_placeholder = BatchPlaceholder::ensure(&store, &mut begun)?;
        let runs = Runs::begin(&store, last_sealed(&store, &sums)?, &mut begun)?;
        let mut resumed = Resumed { hits: window.len(), ..Resumed::default() };
        let mut uploading = Uploading::new(store.clone());
        let (file_since, batch_since) = (now.steady, now.steady);
        let mut filling = Filling { file: None, batch: None, file_since, batch_since, waiting: 0, runs };
        find_files(&mut filling, &uploading, &mut resumed)?;
        find_batches(&mut filling, &mut uploading, &mut resumed, &settings)?;
        keep_columns(&store, &settings, &filling, &resumed, &mut begun)?;
        go_on_aging(&mut filling, now);
        reached("resume.found");
        for item in store.scan(Table::Rejects, &[]) {
            let (key, piece) = item?;
            uploading.add_waiting(chunked::content_len(&key, &piece));
        }
        let (connections, tolerated) = (settings.connections, millis(settings.gap_tolerance));
        let sessions = Sessions::resume(&store, connections, tolerated, &mut sums, &mut begun)?;
        begun.put(Table::Meta, SUMS, &sums);
        let fits = renew_batch(&mut filling, &settings, &mut begun);
        begun.remove(Table::Meta, HOLES);
        store.apply(begun)?;
        reached("resume.ended");
        let pipeline = Pipeline::start(store.clone(), uploading.waiting_bytes.clone())?;
        let stage = Stage::default();
        let mut log =
            Self { pipeline, settings, sums, stage, window, filling, sessions, uploading, batch_placeholder };
        if !fits {
            let done = log.seal_all(now)?;
            resumed.closed.extend(done.closed);
            resumed.sealed.extend(done.sealed);
        }
        // A process that was killed may have applied what was found, and not synced it: nothing leaves for S3 before it
        // is durable.
        store.sync()?;
        Ok((log, resumed))
    }
}

fn find_files(filling: &mut Filling, uploading: &Uploading, resumed: &mut Resumed) -> Result<(), LogError> {
    for item in uploading.store.scan_json::<FileRecord>(Table::Files) {
        let (key, record) = item?;
        let seq = seq_of(&key);
        match record.status {
            FileStatus::Uploaded(_) => {
                uploading.uploads.count(record.batch, record.rows);
                uploading.drop_rows(seq)?;
                continue;
            }
            FileStatus::Closed => resumed.closed.push(seq),
            FileStatus::Open => filling.file = Some(Numbered { seq, record: record.clone() }),
        }
        resumed.rows += record.rows;
        uploading.add_waiting(record.log_bytes);
    }
    Ok(())
}

fn find_batches(
    filling: &mut Filling,
    uploading: &mut Uploading,
    resumed: &mut Resumed,
    settings: &Settings,
) -> Result<(), LogError> {
    let mut change = Change::new();
    for item in uploading.store.scan_json::<BatchRecord>(Table::Batches) {
        let (key, mut record) = item?;
        let seq = seq_of(&key);
        if record.status != BatchStatus::Published
            && record.place != settings.place
            && !is_begun(&uploading.store, &record)?
        {
            record.place.clone_from(&settings.place);
            change.put(Table::Batches, &key, &record);
        }
        match record.status {
            BatchStatus::Published => uploading.published.push_back(seq),
            BatchStatus::Sealed => {
                resumed.sealed.push(seq);
                filling.waiting += 1;
            }
            BatchStatus::Filling => filling.batch = Some(Numbered { seq, record }),
        }
    }
    Ok(uploading.store.apply(change)?)
}

/// Whether a file of the batch stands in S3.
fn is_begun(store: &Store, batch: &BatchRecord) -> Result<bool, LogError> {
    let files = batch.read_files(store)?;
    Ok(files.iter().any(|file| matches!(file.status, FileStatus::Uploaded(_))))
}

fn renew_batch(filling: &mut Filling, settings: &Settings, change: &mut Change) -> bool {
    let Some(Numbered { seq, record }) = &mut filling.batch else { return true };
    // Format 1 put the id of the batch into its rows.
    if record.uncompared.is_none() {
        return false;
    }
    record.id = BatchId::new();
    change.put(Table::Batches, &seq_key(*seq), record);
    record.schema == settings.schema
        && record.compression == settings.compression
        && record.pseudonym_key == settings.pseudonym_key
        && record.pseudonym_spelling == settings.pseudonym_spelling
}

/// Keeps the names of the columns that rows are made for from now on, and those of what is not yet published.
fn keep_columns(
    store: &Store,
    settings: &Settings,
    filling: &Filling,
    resumed: &Resumed,
    change: &mut Change,
) -> Result<(), LogError> {
    let mut wanted = HashSet::from([settings.schema.clone()]);
    wanted.extend(filling.batch.iter().map(|batch| batch.record.schema.clone()));
    for batch in &resumed.sealed {
        wanted.insert(BatchRecord::read(store, *batch)?.schema);
    }
    columns::forget_but(store, &wanted, change)?;
    Ok(columns::keep(store, &settings.schema, &settings.columns, change)?)
}

/// Ages go on by the wall clock. What was opened in the future, before the clock was set back, is new.
fn go_on_aging(filling: &mut Filling, now: Moment) {
    if let Some(file) = &filling.file {
        filling.file_since = now.steady - age(file.record.opened, now.wall);
    }
    if let Some(batch) = &filling.batch {
        filling.batch_since = now.steady - age(batch.record.opened, now.wall);
    }
}

/// Number of the last batch that is sealed, or more; a filling one is the last of all.
fn last_sealed(store: &Store, sums: &Sums) -> Result<Option<u64>, StoreError> {
    let Some(last) = sums.next_batch.checked_sub(1) else { return Ok(None) };
    let record: Option<BatchRecord> = store.get(Table::Batches, &seq_key(last))?;
    let filling = record.is_some_and(|record| record.status == BatchStatus::Filling);
    Ok(if filling { last.checked_sub(1) } else { Some(last) })
}
