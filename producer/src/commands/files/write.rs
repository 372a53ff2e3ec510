//! Creates files that only their user may read, since a configuration may hold secrets. Where root creates them in the
//! folder of another group, as `/etc/livestream` is, that group may read them too: the services run in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use shared::exit::{Failure, io_exit};

/// A file to be created.
#[derive(Debug)]
pub(crate) struct NewFile<'t> {
    pub(crate) path: PathBuf,
    pub(crate) text: &'t str,
    /// What it holds, for the note about it; empty if its name says so.
    pub(crate) what: &'t str,
}

/// Creates all of them, or none if one is there already: then `advice` says what to do. With `force` it replaces them.
pub(crate) fn create_all(
    files: &[NewFile<'_>],
    force: bool,
    advice: &str,
    notes: &mut impl Write,
) -> Result<(), Failure> {
    for NewFile { path, .. } in files {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(about(path, &error)),
            Ok(there) if force && there.is_file() => {}
            Ok(_) => {
                let error = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(Failure::new(io_exit(&error), anyhow!("{}: {error}; {advice}", path.display())));
            }
        }
    }
    for NewFile { path, text, what } in files {
        let mode = create(path, text.as_bytes()).map_err(|error| about(path, &error))?;
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        writeln!(notes, "wrote {}, mode {mode:04o}{what}", path.display())?;
    }
    Ok(())
}

/// Writes the file under another name first, so that what it replaces is there until it is whole. Returns its mode.
fn create(path: &Path, text: &[u8]) -> io::Result<u32> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let group = group_of_services(parent)?;
    if !parent.try_exists()? {
        DirBuilder::new().mode(0o700).create(parent)?;
        share(&File::open(parent)?, group, 0o750)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = parent.join(name);
    let written = (|| -> io::Result<u32> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        share(&file, group, 0o640)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(file.metadata()?.mode() & 0o777)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The group that is to read what root creates below this folder; None for the caller alone.
fn group_of_services(folder: &Path) -> io::Result<Option<u32>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let there = folder.ancestors().find(|path| path.try_exists().unwrap_or(false)).unwrap_or(folder);
    let folder = fs::metadata(there)?;
    // Everybody may look into other folders: what is in them is for root alone.
    Ok((folder.gid() != 0 && folder.mode() & 0o007 == 0).then_some(folder.gid()))
}

fn share(file: &File, group: Option<u32>, mode: u32) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    fchown(file, None, Some(group))?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn about(path: &Path, error: &io::Error) -> Failure {
    Failure::new(io_exit(error), anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<'t>(dir: &Path, names: &[&'t str]) -> Vec<NewFile<'t>> {
        names.iter().map(|name| NewFile { path: dir.join(name), text: name, what: "" }).collect()
    }

    #[test]
    fn all_files_are_created_or_none_and_only_force_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut notes, advice) = (Vec::new(), "move it away");
        fs::write(dir.path().join("b"), "before").unwrap();
        let refused = create_all(&all(dir.path(), &["a", "b"]), false, advice, &mut notes).unwrap_err();
        assert!(refused.to_string().ends_with("/b: entity already exists; move it away"), "{refused}");
        assert!(!dir.path().join("a").exists() && notes.is_empty());
        create_all(&all(dir.path(), &["a", "b", "deep/c"]), true, advice, &mut notes).unwrap();
        for name in ["a", "b", "deep/c"] {
            let path = dir.path().join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), name);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing half-written stays");
    }

    #[test]
    fn what_root_creates_in_the_folder_of_a_group_is_readable_by_the_group_and_by_nobody_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fchown(File::open(dir.path()).unwrap(), None, Some(12_345)).unwrap();
        for (of_dir, gid, of_file) in [(0o750, 12_345, 0o640), (0o755, 0, 0o600)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(of_dir)).unwrap();
            create_all(&all(dir.path(), &["a", "setup/b"]), true, "", &mut Vec::new()).unwrap();
            for name in ["a", "setup/b"] {
                let file = fs::metadata(dir.path().join(name)).unwrap();
                assert_eq!((file.gid(), file.mode() & 0o777), (gid, of_file), "{name}");
            }
            fs::remove_dir_all(dir.path().join("setup")).unwrap();
        }
    }
}
