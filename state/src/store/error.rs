//! Why a database cannot be used, and what to do about it.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use shared::dirs::DirError;
use shared::exit::{Exit, Failure, io_exit};

use crate::store::paths;

/// Why a database cannot be used, or stopped being usable.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoreError {
    #[error("{dir} is in use{}: one process only may open it", owner.map_or(String::new(), |pid| format!(" by process {pid}")))]
    InUse { dir: PathBuf, owner: Option<u32> },
    #[error("there is no database in {0}")]
    Missing(PathBuf),
    #[error(transparent)]
    Directory(DirError),
    #[error("{path}: {error}{}", advice(error))]
    Io { path: PathBuf, error: io::Error },
    /// Bytes are not what was written.
    #[error(
        "{dir} is damaged: {what}; nothing was changed. Move the directory aside and restore it from a copy, or start with an empty one: batches in S3 are not affected"
    )]
    Damaged { dir: PathBuf, what: String },
    #[error("{dir} cannot be used: {what}; nothing was changed")]
    Foreign { dir: PathBuf, what: String },
}

impl StoreError {
    pub(crate) fn at(path: &(impl AsRef<Path> + ?Sized)) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Io { path: path.as_ref().to_owned(), error }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            ": the disk is full; free space and start again, nothing accepted is lost"
        }
        io::ErrorKind::PermissionDenied => ": run as the user that owns it, or change its owner",
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the file system is read-only, and opening a database writes; copy the directory and look at the copy"
        }
        _ => "",
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::InUse { .. } => Exit::Unavailable,
            StoreError::Missing(_) => Exit::Io,
            StoreError::Directory(error) => error.exit(),
            StoreError::Io { error, .. } => io_exit(error),
            StoreError::Damaged { .. } | StoreError::Foreign { .. } => Exit::Data,
        };
        Failure::new(exit, error)
    }
}

/// Calls sled. sled panics where it does not expect damage: that is an error like any other.
pub(super) fn guarded<T>(
    dir: &Path,
    doing: &str,
    work: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    silence();
    let outer = GUARDED.replace(true);
    let ended = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    let what = match ended {
        Ok(Err(sled::Error::Io(error))) => {
            return Err(StoreError::Io { path: dir.join(paths::DATABASE), error: plain(error) });
        }
        Ok(Err(error)) => format!("{doing}: {error}"),
        Ok(Ok(value)) => return Ok(value),
        // As Rust itself ends a process whose memory has run out. What sled was doing is half done.
        Err(panic) if panic.downcast_ref::<&str>().is_some_and(|why| why.contains("failed to allocate")) => {
            std::process::abort()
        }
        Err(_) => format!("{doing}: sled/db cannot be read"),
    };
    Err(StoreError::Damaged { dir: dir.to_owned(), what })
}

/// An error of the system in plain words: sled may have written it down as `Os { code: 28, … }`.
fn plain(error: io::Error) -> io::Error {
    let debug = error.raw_os_error().is_none() && error.to_string().starts_with("Os {");
    if debug { error.kind().into() } else { error }
}

thread_local! {
    /// Whether this thread is in a call of sled whose panics are caught.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Lets a panic that is caught print nothing on standard error: it becomes an error with words of its own.
fn silence() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                print(panic);
            }
        }));
    });
}
