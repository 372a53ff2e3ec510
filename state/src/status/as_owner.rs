//! Root opens the database of a service as the user who owns its directory. Opening a database writes: otherwise its
//! files would belong to root alone, and the service could not start any more.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use crate::store::StoreError;

/// Until it is dropped, this thread, and those it starts such as sled's, work as another user.
#[derive(Debug)]
pub(crate) struct AsOwner {
    group: Gid,
    /// Keeps it from being sent to another thread, which it would not change back.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

/// Makes this thread work as the owner of `dir` if it works as root; None when there is nothing to change.
pub(crate) fn as_owner(dir: &Path) -> Result<Option<AsOwner>, StoreError> {
    become_owner(dir).map_err(|error| StoreError::Io { path: dir.to_owned(), error })
}

fn become_owner(dir: &Path) -> io::Result<Option<AsOwner>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let meta = match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let (user, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    if user.is_root() {
        return Ok(None);
    }
    let before = getegid();
    // The group first: a user other than root may not change it. Root stays the saved user, to return to.
    set_thread_res_gid(None, group, None)?;
    let owner = AsOwner { group: before, _of_this_thread: std::marker::PhantomData };
    set_thread_res_uid(None, user, None)?;
    tracing::debug!(dir = %dir.display(), user = meta.uid(), "working as the owner of the directory");
    Ok(Some(owner))
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let back = set_thread_res_uid(None, Uid::ROOT, None)
            .and_then(|()| set_thread_res_gid(None, self.group, None));
        if let Err(error) = back {
            tracing::error!(%error, "cannot work as root again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_its_own_and_one_that_is_not_there_change_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(as_owner(dir.path()).unwrap().is_none());
        assert!(as_owner(&dir.path().join("nothing")).unwrap().is_none());
    }
}
