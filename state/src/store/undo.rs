//! Keeps what sled may overwrite as it opens a database: the end of the log and the small files. When the database is then
//! refused, all of it is put back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::lock;
use crate::store::survey::{SEGMENT, Segment};

/// Segments at the end of the log that are kept: sled looks for a torn end in the last few.
const LAST: usize = 8;

#[derive(Debug)]
pub(super) struct Undo {
    dir: PathBuf,
    len: u64,
    segments: Vec<(u64, Vec<u8>)>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Undo {
    /// An error names the file that cannot be read.
    pub(super) fn keep(
        dir: &Path,
        database: &File,
        segments: &[Segment],
    ) -> Result<Self, (PathBuf, io::Error)> {
        let of_database = |error| (dir.join("db"), error);
        let mut last: Vec<_> = segments.iter().collect();
        last.sort_by_key(|segment| std::cmp::Reverse(segment.lsn));
        let offsets = last.into_iter().take(LAST).map(|segment| segment.offset);
        let len = database.metadata().map_err(of_database)?.len();
        let mut kept = Vec::new();
        for offset in offsets {
            let mut bytes = vec![0; SEGMENT.min(usize::try_from(len - offset).unwrap_or(SEGMENT))];
            database.read_exact_at(&mut bytes, offset).map_err(of_database)?;
            kept.push((offset, bytes));
        }
        let mut files = Vec::new();
        for path in small_files(dir).map_err(|error| (dir.to_owned(), error))? {
            let bytes = fs::read(&path).map_err(|error| (path.clone(), error))?;
            files.push((path, bytes));
        }
        Ok(Self { dir: dir.to_owned(), len, segments: kept, files })
    }

    /// Puts everything back, under sled's own lock; false when some process has the database open.
    pub(super) fn put_back(&self) -> Result<bool, (PathBuf, io::Error)> {
        if !self.put_back_database().map_err(|error| (self.dir.join("db"), error))? {
            return Ok(false);
        }
        // A kill or a full disk leaves each of them whole, and sled's older snapshot at least as long as the newer one.
        for (path, bytes) in &self.files {
            put_back_file(path, bytes).map_err(|error| (path.clone(), error))?;
        }
        for path in small_files(&self.dir).map_err(|error| (self.dir.clone(), error))? {
            if !self.files.iter().any(|(kept, _)| *kept == path) {
                fs::remove_file(&path).map_err(|error| (path, error))?;
            }
        }
        Ok(true)
    }

    fn put_back_database(&self) -> io::Result<bool> {
        let database = File::options().write(true).open(self.dir.join("db"))?;
        if !lock::hold(&database)? {
            return Ok(false);
        }
        database.set_len(self.len)?;
        for (offset, bytes) in &self.segments {
            database.write_all_at(bytes, *offset)?;
        }
        database.sync_all()?;
        Ok(true)
    }
}

fn put_back_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|now| now == bytes) {
        return Ok(());
    }
    // The next opening removes one that a kill leaves.
    let whole = path.with_added_extension("generating");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&whole)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&whole, path)
}

/// sled's files beside the database: its configuration and snapshots of its page table.
fn small_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != "db" {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}
