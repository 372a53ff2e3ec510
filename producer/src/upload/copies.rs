//! Copies of what was uploaded, kept until the ingester has loaded it: an object that is lost or altered in S3 before
//! can be uploaded once more, with the same bytes.
//!
//! They are no part of the log's promises, but plain files, `kept/<batch>/<name>` in `log.dir`, written without a sync:
//! each is checked against its seal before it is used, and one that is lost or damaged can only not be republished. They
//! take at most `log.keep_uploaded`, and less when rows that wait for S3 need the room within `log.max_bytes`; the oldest
//! batches go first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use shared::clock::Clock;
use shared::dirs::UPLOAD_COPIES;
use shared::ids::BatchId;
use shared::layout::SEAL;
use shared::lock::locked;
use shared::object_store;
use shared::private;
use shared::seal::{Seal, SealedFile};
use shared::shutdown::Shutdown;

const ROOM_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The room that copies may take; by default none.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes at most; 0 keeps nothing.
    pub(crate) max: u64,
    /// Bytes that copies and `waiting` may take together.
    pub(crate) shared: u64,
    pub(crate) waiting: Arc<AtomicU64>,
}

impl Room {
    fn bytes(&self) -> u64 {
        self.max.min(self.shared.saturating_sub(self.waiting.load(Ordering::Relaxed)))
    }
}

/// The copies; by default none are kept. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct UploadCopies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dir: PathBuf,
    room: Room,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: BTreeMap<BatchId, u64>,
    total: u64,
    republishing: BTreeSet<BatchId>,
}

impl UploadCopies {
    /// The copies below `log_dir`, with those of an earlier process.
    pub(crate) fn open(log_dir: &Path, room: Room) -> io::Result<Self> {
        let dir = log_dir.join(UPLOAD_COPIES);
        let mut state = State::default();
        if room.max > 0 {
            make(&dir)?;
            private::close_all(&dir)?;
        }
        for folder in fs::read_dir(&dir).into_iter().flatten() {
            let path = folder?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(batch) = name.and_then(|name| name.parse().ok()) else { continue };
            let sizes = fs::read_dir(&path)?.map(|file| file.and_then(|file| Ok(file.metadata()?.len())));
            let bytes = sizes.sum::<io::Result<u64>>()?;
            state.total += bytes;
            state.batches.insert(batch, bytes);
        }
        let copies = Self(Arc::new(Inner { dir, room, state: Mutex::new(state) }));
        copies.make_room(0);
        Ok(copies)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }

    fn folder(&self, batch: BatchId) -> PathBuf {
        self.0.dir.join(batch.to_string())
    }

    /// Keeps an object of a batch. An error costs the copy only.
    pub(crate) fn keep(&self, batch: BatchId, name: &str, content: &[u8]) {
        let bytes = content.len() as u64;
        if bytes == 0 || bytes > self.0.room.bytes() {
            return;
        }
        self.make_room(bytes);
        let folder = self.folder(batch);
        let written = make(&folder).and_then(|()| write(&folder.join(name), content));
        if let Err(error) = written {
            tracing::warn!(%batch, %error, "no copy of {name} is kept; all copies are dropped to make room");
            let batches: Vec<_> = self.state().batches.keys().copied().collect();
            batches.into_iter().chain([batch]).for_each(|batch| self.forget(batch));
            return;
        }
        let mut state = self.state();
        // An object that is written again is counted twice until its batch is dropped: the sum may be too large, never too
        // small.
        *state.batches.entry(batch).or_default() += bytes;
        state.total += bytes;
    }

    pub(crate) fn forget(&self, batch: BatchId) {
        {
            let mut state = self.state();
            let bytes = state.batches.remove(&batch).unwrap_or_default();
            state.total = state.total.saturating_sub(bytes);
        }
        match fs::remove_dir_all(self.folder(batch)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%batch, %error, "cannot remove the copies of a batch");
            }
            _ => {}
        }
    }

    /// The batches of which there is anything on disk, also what could not be removed before.
    pub(crate) fn on_disk(&self) -> io::Result<Vec<BatchId>> {
        let folders = match fs::read_dir(&self.0.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folders => folders?,
        };
        let names = folders.map(|folder| Ok(folder?.file_name().to_str().and_then(|name| name.parse().ok())));
        names.filter_map(io::Result::transpose).collect()
    }

    /// Drops the oldest batches until `more` bytes fit.
    fn make_room(&self, more: u64) {
        loop {
            let state = self.state();
            let too_much = state.total > 0 && state.total.saturating_add(more) > self.0.room.bytes();
            let oldest = state.batches.keys().next().copied().filter(|_| too_much);
            drop(state);
            match oldest {
                Some(batch) => self.forget(batch),
                None => return,
            }
        }
    }

    /// Makes room while rows wait for S3, until shutdown.
    pub(crate) async fn make_room_until_stopped(self, clock: Clock, shutdown: Shutdown) {
        while shutdown.until(clock.sleep(ROOM_CHECK_INTERVAL)).await.is_some() {
            let copies = self.clone();
            let _ = tokio::task::spawn_blocking(move || copies.make_room(0)).await;
        }
    }

    /// The seal of a batch of which every file is kept.
    pub(crate) fn seal(&self, batch: BatchId) -> Result<Seal, String> {
        let folder = self.folder(batch);
        let json = fs::read(folder.join(SEAL)).map_err(|error| format!("no copy of its seal: {error}"))?;
        let seal = Seal::read(batch, &json).map_err(|error| format!("the copy of its seal: {error}"))?;
        for file in &seal.files {
            let size = fs::metadata(folder.join(&file.name)).map(|meta| meta.len());
            if size.as_ref().ok() != Some(&file.bytes) {
                return Err(format!("no whole copy of its {}", file.name));
            }
        }
        Ok(seal)
    }

    /// The content of a file, as it was sealed.
    pub(crate) fn file(&self, batch: BatchId, file: &SealedFile) -> Result<Bytes, String> {
        let content = fs::read(self.folder(batch).join(&file.name)).map_err(|error| error.to_string())?;
        if object_store::crc32(&content) == file.crc32 {
            return Ok(content.into());
        }
        Err(format!("the copy of {} is damaged", file.name))
    }

    /// Whether the caller shall republish the batch: not while another does.
    pub(crate) fn begin_republish(&self, batch: BatchId) -> bool {
        self.state().republishing.insert(batch)
    }

    pub(crate) fn end_republish(&self, batch: BatchId) {
        self.state().republishing.remove(&batch);
    }
}

fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn room(max: u64) -> Room {
        Room { max, shared: 1000, waiting: Arc::default() }
    }

    fn batches(copies: &UploadCopies) -> Vec<BatchId> {
        copies.state().batches.keys().copied().collect()
    }

    #[test]
    fn the_oldest_batches_make_room_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (BatchId::new(), BatchId::new(), BatchId::new());
        let copies = UploadCopies::open(dir.path(), room(250)).unwrap();
        assert_eq!(copies.on_disk().unwrap(), []);
        copies.keep(a, "0.csv", &[0; 100]);
        copies.keep(b, "0.csv", &[0; 100]);
        copies.keep(c, "0.csv", &[0; 100]);
        assert_eq!(batches(&copies), [b, c]);
        fs::create_dir(copies.0.dir.join("beside")).unwrap();
        let mut there = copies.on_disk().unwrap();
        there.sort();
        assert_eq!(there, [b, c]);
        assert!(!copies.folder(a).exists());
        copies.keep(a, "1.csv", &[0; 300]);
        assert_eq!(batches(&copies), [b, c], "what is too large for all the room drives nothing out");
        let copies = UploadCopies::open(dir.path(), room(100)).unwrap();
        assert_eq!(batches(&copies), [c]);
        let copies = UploadCopies::open(dir.path(), room(0)).unwrap();
        assert!(batches(&copies).is_empty() && !copies.folder(c).exists());
    }

    #[test]
    fn copies_are_for_nobody_else_those_of_an_earlier_process_included() {
        let dir = tempfile::tempdir().unwrap();
        let modes = |paths: &[&Path]| -> Vec<u32> {
            paths.iter().map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777).collect()
        };
        let copies = UploadCopies::open(dir.path(), room(1000)).unwrap();
        let batch = BatchId::new();
        copies.keep(batch, "0.csv", b"a~b\n");
        let (all, folder) = (dir.path().join("kept"), copies.folder(batch));
        let file = folder.join("0.csv");
        assert_eq!(modes(&[&all, &folder, &file]), [0o700, 0o700, 0o600]);
        for (path, mode) in [(&all, 0o755), (&folder, 0o755), (&file, 0o644)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        // Where a link leads to is nobody's business here.
        let beside = dir.path().join("beside");
        fs::write(&beside, "not ours").unwrap();
        fs::set_permissions(&beside, Permissions::from_mode(0o644)).unwrap();
        symlink(&beside, all.join("link")).unwrap();
        UploadCopies::open(dir.path(), room(1000)).unwrap();
        assert_eq!(modes(&[&all, &folder, &file, &beside]), [0o700, 0o700, 0o600, 0o644]);
    }

    #[test]
    fn rows_that_wait_for_s3_have_the_room_first() {
        let dir = tempfile::tempdir().unwrap();
        let room = room(1000);
        let waiting = room.waiting.clone();
        let copies = UploadCopies::open(dir.path(), room).unwrap();
        let (a, b) = (BatchId::new(), BatchId::new());
        copies.keep(a, "0.csv", &[0; 400]);
        copies.keep(b, "0.csv", &[0; 400]);
        waiting.store(500, Ordering::Relaxed);
        copies.make_room(0);
        assert_eq!(batches(&copies), [b]);
        waiting.store(2000, Ordering::Relaxed);
        copies.make_room(0);
        assert!(batches(&copies).is_empty());
    }

    #[test]
    fn a_copy_that_is_not_as_sealed_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let copies = UploadCopies::open(dir.path(), room(1000)).unwrap();
        let batch = BatchId::new();
        let file = SealedFile {
            name: "0.csv".to_owned(),
            rows: 1,
            bytes: 4,
            crc32: object_store::crc32(b"a~b\n"),
            etag: String::new(),
        };
        copies.keep(batch, "0.csv", b"a~b\n");
        assert_eq!(copies.file(batch, &file).unwrap(), "a~b\n");
        assert!(copies.seal(batch).unwrap_err().contains("seal"));
        copies.keep(batch, "0.csv", b"a~c\n");
        assert_eq!(copies.file(batch, &file).unwrap_err(), "the copy of 0.csv is damaged");
        copies.forget(batch);
        assert!(copies.file(batch, &file).is_err());
        assert!(copies.begin_republish(batch) && !copies.begin_republish(batch));
        copies.end_republish(batch);
        assert!(copies.begin_republish(batch));
    }
}
