//! Where the files of a database are, in its directory.

use std::path::{Path, PathBuf};

pub(super) fn sled(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// The file that sled keeps its log in.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("sled").join("db")
}

/// The number of the last durable commit.
pub(super) fn mark(dir: &Path) -> PathBuf {
    dir.join("accepted")
}

/// Which empty segments were never used.
pub(super) fn spare(dir: &Path) -> PathBuf {
    dir.join("spare")
}

pub(super) fn disk_error(dir: &Path) -> PathBuf {
    dir.join("disk-error")
}

pub(super) fn copy(dir: &Path) -> PathBuf {
    dir.join("copy-to-check")
}

pub(super) fn owner(dir: &Path) -> PathBuf {
    dir.join("owner.pid")
}
