//! Only the user that the programs run as may read or write what they store: whatever their umask at the start, and also
//! where an earlier version, or somebody by hand, left something open to others.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;

const OTHERS: u32 = 0o077;

/// Makes all that this process creates its user's alone. For `main`, before there are threads: it sets the umask.
pub(crate) fn from_now_on() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Takes all permissions from others. A path that belongs to another user, or is not there, stays as it is.
pub fn restrict_to_owner(path: &Path) -> io::Result<()> {
    ignoring_what_is_not_ours(path, close_one(path))
}

/// As [`close`], with everything below a directory, but for what symbolic links lead to.
pub fn close_all(path: &Path) -> io::Result<()> {
    let below = || -> io::Result<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_symlink() {
            return Ok(());
        }
        close_one(path)?;
        if kind.is_dir() {
            for entry in fs::read_dir(path)? {
                close_all(&entry?.path())?;
            }
        }
        Ok(())
    };
    ignoring_what_is_not_ours(path, below())
}

/// Replaces a file, or makes it, mode 0600: writes another one, makes it durable, and renames it, so that a reader meets the old
/// or the new one, whole. One writer at a time.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn close_one(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))
    }
}

fn ignoring_what_is_not_ours(path: &Path, closed: io::Result<()>) -> io::Result<()> {
    match closed {
        // Snapshots of sled come and go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), "cannot close this to other users: it belongs to one of them");
            Ok(())
        }
        closed => closed,
    }
}
