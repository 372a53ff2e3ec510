//! The only file that opens sled. Four properties of sled 0.34.7 shape it:
//! one process at a time may open a database; `flush()` alone does not survive power loss on Linux, so every commit
//! also calls `fdatasync` on the database file; values above some KiB can leave files behind at a crash, so none is
//! larger than [`MAX_VALUE`]; and flushing on a timer is switched off, so nothing is durable that was not asked for.
//!
//! Everything stands in sled's one default tree, in tables told apart by the first byte of the key: a
//! [`sled::Batch`] is atomic within a tree, and writing it needs no read of the old values, which a transaction
//! over several trees does for every key.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::exit::{Exit, Failure};
use shared::ids::Instance;

use crate::lock;

/// Version of the stored form that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Bytes of a value at most (see the module).
pub const MAX_VALUE: usize = 6 * 1024;

/// A table: the first byte of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Format, kind, instance, sums and next numbers.
    Meta = b'm',
    /// Rows: (file, chunk, piece).
    Chunks = b'c',
    /// Files: (file).
    Files = b'f',
    /// Batches: (batch).
    Batches = b'b',
    /// Hit ids of accepted rows: (file, chunk, piece).
    Hits = b'h',
    /// Rejected records: (reject, piece).
    Rejects = b'r',
    /// Connections to the stream: (session).
    Sessions = b's',
    /// The ingester's loads: (batch id).
    Loads = b'l',
}

/// What a database is for; one is not mistaken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The producer's log.
    Producer,
    /// The ingester's bookkeeping.
    Ingester,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Label {
    format: u32,
    kind: Kind,
    instance: String,
}

/// Why a database cannot be used, or stopped being usable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{dir} is in use{}: one process only may open it", owner.map_or(String::new(), |pid| format!(" by process {pid}")))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, as far as it is known.
        owner: Option<u32>,
    },
    /// There is no database.
    #[error("there is no database in {0}")]
    Missing(PathBuf),
    /// The file system refused.
    #[error("{path}: {error}{}", advice(error))]
    Io {
        /// What was opened, written or synced.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Bytes are not what was written.
    #[error(
        "{dir} is damaged: {what}; nothing was changed. Move the directory aside and restore it from a copy, or start with an empty one: batches in S3 are not affected"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// Which table and key, and how.
        what: String,
    },
    /// The stored form is of another version, kind or instance.
    #[error("{dir} cannot be used: {what}; nothing was changed")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What it is, and what was expected.
        what: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            ": the disk is full; free space and start again, nothing accepted is lost"
        }
        io::ErrorKind::PermissionDenied => ": run as the user that owns it, or change its owner",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        _ => "",
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::InUse { .. } => Exit::Unavailable,
            StoreError::Missing(_) => Exit::Io,
            StoreError::Io { error, .. } => shared::exit::io_exit(error),
            StoreError::Damaged { .. } | StoreError::Foreign { .. } => Exit::Data,
        };
        Failure::new(exit, error)
    }
}

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    db: sled::Db,
    file: Arc<File>,
    /// Held after the database was opened to look at; dropped after it.
    _looking: Option<Arc<File>>,
    dir: PathBuf,
}

/// One atomic change.
#[derive(Debug, Default)]
pub struct Change {
    batch: sled::Batch,
    empty: bool,
}

impl Change {
    /// A change of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { batch: sled::Batch::default(), empty: true }
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Sets a value as it is.
    pub fn put_bytes(&mut self, table: Table, key: &[u8], value: &[u8]) {
        debug_assert!(value.len() <= MAX_VALUE, "{table:?}: a value of {} bytes", value.len());
        self.batch.insert(whole_key(table, key), value);
        self.empty = false;
    }

    /// Sets a value as JSON.
    pub fn put<T: Serialize>(&mut self, table: Table, key: &[u8], value: &T) {
        // Our own plain structs: their serialisation cannot fail.
        self.put_bytes(table, key, &serde_json::to_vec(value).unwrap_or_default());
    }

    /// Removes a key; one that is not there is no error.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.batch.remove(whole_key(table, key));
        self.empty = false;
    }
}

fn whole_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(table as u8);
    whole.extend_from_slice(key);
    whole
}

impl Store {
    /// Opens the database in `dir`, creating both if need be.
    ///
    /// # Errors
    /// When it is in use, damaged, of another version, kind or instance, or the file system refuses.
    pub fn open(dir: &Path, kind: Kind, instance: &str, cache: u64) -> Result<Self, StoreError> {
        // What is made here is for this user alone; a directory that stands already keeps the mode it was given, and
        // the database in it is closed to others all the same.
        let inner = dir.join("sled");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&inner);
        made.map_err(|error| StoreError::Io { path: inner, error })?;
        Self::open_existing(dir, kind, Some(instance), cache)
    }

    /// Opens the database in `dir` to look at it, when no process owns it.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Missing`] when there is none.
    pub fn look(dir: &Path, kind: Kind) -> Result<Self, StoreError> {
        if !database(dir).try_exists().map_err(|error| StoreError::Io { path: dir.to_owned(), error })? {
            return Err(StoreError::Missing(dir.to_owned()));
        }
        Self::open_existing(dir, kind, None, 8 << 20)
    }

    fn open_existing(dir: &Path, kind: Kind, instance: Option<&str>, cache: u64) -> Result<Self, StoreError> {
        let fresh = !database(dir).exists();
        let (db, looking) = Self::open_sled(dir, cache, instance.is_none())?;
        let path = database(dir);
        let io = |error| StoreError::Io { path: path.clone(), error };
        let file = File::options().read(true).write(true).open(&path).map_err(io)?;
        let store = Self { db, file: Arc::new(file), _looking: looking.map(Arc::new), dir: dir.to_owned() };
        store.check_label(kind, instance)?;
        if instance.is_some() {
            let owner = dir.join("owner.pid");
            fs::write(&owner, std::process::id().to_string())
                .map_err(|error| StoreError::Io { path: owner, error })?;
        }
        if fresh {
            // A new file is only there after a power cut if its directories were synced too.
            for path in [path.parent(), Some(dir), dir.parent()].into_iter().flatten() {
                sync_dir(path).map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
            }
        }
        Ok(store)
    }

    fn open_sled(dir: &Path, cache: u64, only_look: bool) -> Result<(sled::Db, Option<File>), StoreError> {
        let inner = dir.join("sled");
        let config = sled::Config::new()
            .path(&inner)
            .cache_capacity(cache)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let begun = Instant::now();
        loop {
            // Not held while waiting: one that waits is not waited for.
            let looking = only_look.then(|| lock::look(&inner)).transpose();
            let looking = looking.map_err(|error| StoreError::Io { path: inner.clone(), error })?;
            match config.open() {
                Err(sled::Error::Io(error)) if error.to_string().contains("lock") => {}
                Err(error) => return Err(from_sled(dir, "opening it", error)),
                Ok(db) => return Ok((db, looking)),
            }
            drop(looking);
            if begun.elapsed() >= lock::patience(&inner) {
                let owner = lock::holder(&database(dir), &dir.join("owner.pid"));
                return Err(StoreError::InUse { dir: dir.to_owned(), owner });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn check_label(&self, kind: Kind, instance: Option<&str>) -> Result<(), StoreError> {
        let foreign = |what: String| Err(StoreError::Foreign { dir: self.dir.clone(), what });
        match self.get::<Label>(Table::Meta, b"label")? {
            None if self.db.is_empty() => {
                // Its first start was cut short before anything was stored.
                let Some(instance) = instance else { return Err(StoreError::Missing(self.dir.clone())) };
                let mut change = Change::new();
                change.put(
                    Table::Meta,
                    b"label",
                    &Label { format: FORMAT, kind, instance: instance.to_owned() },
                );
                self.apply(change)?;
                self.sync()
            }
            None => foreign("it is a sled database of some other program".to_owned()),
            Some(label) if label.format != FORMAT => {
                let found = label.format;
                foreign(format!("it has format {found}, this version works with format {FORMAT}"))
            }
            Some(label) if label.kind != kind => {
                foreign(format!("it belongs to the {:?}, not to the {kind:?}", label.kind).to_lowercase())
            }
            Some(label) => match instance {
                Some(instance) if label.instance != instance => {
                    let owner = label.instance;
                    foreign(format!("it belongs to instance {owner}, not to {instance} (instance.name)"))
                }
                _ => Ok(()),
            },
        }
    }

    /// Whose database it is.
    ///
    /// # Errors
    /// When its label cannot be read.
    pub fn instance(&self) -> Result<Instance, StoreError> {
        let label: Option<Label> = self.get(Table::Meta, b"label")?;
        let instance = label.and_then(|label| Instance::try_from(label.instance).ok());
        instance.ok_or_else(|| self.damaged(Table::Meta, b"label", "it names no instance"))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes the database takes on disk.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        // Blocks rather than length: sled leaves holes.
        fs::metadata(database(&self.dir)).map_or(0, |meta| meta.blocks() * 512)
    }

    /// Applies a change as a whole. It is durable only after [`Store::sync`].
    ///
    /// # Errors
    /// When sled fails; nothing of the change may be believed then.
    pub fn apply(&self, change: Change) -> Result<(), StoreError> {
        self.db.apply_batch(change.batch).map_err(|error| from_sled(&self.dir, "writing", error))
    }

    /// Makes everything applied so far durable, also against power loss. After an error nothing that was applied
    /// since the last success may be believed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| from_sled(&self.dir, "flushing", error))?;
        self.file.sync_data().map_err(|error| StoreError::Io { path: database(&self.dir), error })
    }

    /// A value as it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.db.get(whole_key(table, key)).map_err(|error| from_sled(&self.dir, "reading", error))
    }

    /// A value from JSON.
    ///
    /// # Errors
    /// When it cannot be read or is not what was expected.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get_bytes(table, key)?.map(|bytes| self.decode(table, key, &bytes)).transpose()
    }

    /// Keys and values of a table that begin with `prefix`, in order. Keys come without the table's byte.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<> {
        let dir = self.dir.clone();
        self.db.scan_prefix(whole_key(table, prefix)).map(move |item| {
            let (key, value) = item.map_err(|error| from_sled(&dir, "reading", error))?;
            Ok((key.subslice(1, key.len() - 1), value))
        })
    }

    /// Keys and JSON values of a table, in order.
    pub fn scan_json<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, T), StoreError>> {
        self.scan(table, &[]).map(move |item| {
            let (key, value) = item?;
            let value = self.decode(table, &key, &value)?;
            Ok((key, value))
        })
    }

    fn decode<T: DeserializeOwned>(&self, table: Table, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(table, key, &error.to_string()))
    }

    /// An error that names the table and key whose value is not what was written.
    #[must_use]
    pub fn damaged(&self, table: Table, key: &[u8], how: &str) -> StoreError {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        StoreError::Damaged { dir: self.dir.clone(), what: format!("{table:?} {key}: {how}").to_lowercase() }
    }
}

/// The file sled keeps its log in.
pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("sled").join("db")
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

fn from_sled(dir: &Path, doing: &str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::Io { path: database(dir), error },
        other => StoreError::Damaged { dir: dir.to_owned(), what: format!("{doing}: {other}") },
    }
}
