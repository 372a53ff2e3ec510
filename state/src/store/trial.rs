//! Tries a doubtful database as a copy. sled repairs as it opens, so sled opens a copy, and all of the copy is read. The
//! database itself stays as it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{fstatvfs, ioctl_ficlone};

use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::label::Form;
use crate::store::opening::Opening;
use crate::store::paths;
use crate::store::survey::Segment;

/// A torn segment before the last may be free space, or hold what was accepted. Only a copy that reads well passes.
pub(super) fn try_a_copy(opening: &Opening<'_>, torn: &Segment, durable: u64) -> Result<(), StoreError> {
    let dir = opening.dir;
    let at = torn.broken_at.unwrap_or(torn.offset);
    // A crash leaves this now and then, and nothing is wrong then.
    tracing::info!(dir = %dir.display(), byte = at, "a crash left an unfinished write in the database; checking a copy of it first");
    let place = dir.join(paths::COPY);
    let copied = make_copy(&dir.join(paths::SLED), &place.join(paths::SLED)).map_err(StoreError::at(&place));
    let checked = copied.and_then(|()| check(&Opening { dir: &place, ..*opening }, opening, durable));
    let removed = remove_copy(dir);
    match checked {
        Ok(()) => {
            if let Err(error) = removed {
                tracing::warn!(%error, "cannot remove the copy; the next opening removes it");
            }
            Ok(())
        }
        Err(error @ StoreError::Io { .. }) => Err(error),
        Err(error) => {
            let reason = match error {
                StoreError::Damaged { what, .. } => what,
                other => other.to_string(),
            };
            Err(opening.damaged(format!("sled/db is not what was written at byte {at}; {reason}")))
        }
    }
}

fn check(trial: &Opening<'_>, opening: &Opening<'_>, durable: u64) -> Result<(), StoreError> {
    let db = trial.open_sled()?.ok_or_else(|| opening.damaged("its copy is in use".to_owned()))?;
    let store = Store::new(trial.dir, db, None)?;
    trial.check_end(&store, durable)?;
    if trial.check_label(&store)? == Form::New {
        return Err(opening.damaged("nothing else is in it".to_owned()));
    }
    (trial.check)(&store)
}

/// Bytes that must stay free beside the copy: what sled writes into it as it opens it, and room for other writers.
const MARGIN: u64 = 16 << 20;

/// Removes the copy in `dir`. A process that is killed while it reads one leaves it.
pub(super) fn remove_copy(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(paths::COPY);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("{error}; this copy of the database is left over: remove it");
            Err(StoreError::Io { path, error: io::Error::new(error.kind(), what) })
        }
        _ => Ok(()),
    }
}

/// Copies sled's files to the new directory `to`; nothing when the disk has no room for all of it.
fn make_copy(from: &Path, to: &Path) -> io::Result<()> {
    make_within(from, to, || {
        let disk = fstatvfs(File::open(to)?)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    })
}

fn make_within(from: &Path, to: &Path, free: impl Fn() -> io::Result<u64>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    let (mut rest, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let source = File::open(entry.path())?;
            let target = to.join(entry.file_name());
            let target = File::options().create_new(true).write(true).mode(0o600).open(target)?;
            // Shares the blocks where the file system can, and takes no room.
            if ioctl_ficlone(&target, &source).is_err() {
                // All of the length: sled fills holes with zeros as it opens the copy.
                bytes += source.metadata()?.len();
                rest.push((source, target));
            }
        }
    }
    check_room(bytes, free()?)?;
    for (mut source, mut target) in rest {
        io::copy(&mut source, &mut target)?;
    }
    Ok(())
}

fn check_room(bytes: u64, free: u64) -> io::Result<()> {
    let needed = bytes.saturating_add(MARGIN);
    if bytes == 0 || free >= needed {
        return Ok(());
    }
    let what = format!(
        "a copy of the database must be read first; it needs {needed} bytes here, and {free} bytes are free"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, what))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;
    use crate::store::survey::{SEGMENT, survey};
    use crate::store::{Kind, spare};

    /// The log of format 1 that version 0.1.0 wrote.
    fn of_format_1(dir: &Path) {
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1/producer"));
        fs::create_dir(dir.join("sled")).unwrap();
        fs::copy(from.join("accepted"), dir.join("accepted")).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "zst") {
                let content = zstd::stream::decode_all(&fs::read(&path).unwrap()[..]).unwrap();
                fs::write(dir.join("sled").join(path.file_stem().unwrap()), content).unwrap();
            }
        }
    }

    #[test]
    fn a_whole_log_of_an_older_format_is_opened_also_when_its_file_gives_reason_to_doubt_it() {
        type Opens = fn(&Path) -> Result<Store, StoreError>;
        let ways: [(u8, Opens); 4] = [
            (0, |dir| Store::open(dir, Kind::Producer, "test", 8 << 20, crate::log::check)),
            (0, |dir| Store::open_to_read(dir, Kind::Producer, crate::log::check)),
            (0x5a, |dir| Store::open(dir, Kind::Producer, "test", 8 << 20, crate::log::check)),
            (0x5a, |dir| Store::open_to_read(dir, Kind::Producer, crate::log::check)),
        ];
        for (byte, open) in ways {
            let dir = tempfile::tempdir().unwrap();
            of_format_1(dir.path());
            let file =
                fs::File::options().read(true).write(true).open(dir.path().join(paths::DATABASE)).unwrap();
            // Something stands behind it, so that a blank one is an inner one too.
            let segments = survey(&file).unwrap();
            let end = segments.iter().map(|segment| segment.offset + SEGMENT as u64).max().unwrap();
            file.write_all_at(&[byte; SEGMENT], end).unwrap();
            file.write_all_at(&[0x5a; SEGMENT], end + SEGMENT as u64).unwrap();
            let spare = spare::read(dir.path()).unwrap();
            assert!(crate::store::survey::broken(&survey(&file).unwrap(), spare).count() > 0);
            let store = open(dir.path()).unwrap();
            crate::log::check(&store).unwrap();
            let form = if store.accepted.is_some() { Form::Current } else { Form::Older };
            let (kind, instance, check) = (Kind::Producer, Some("test"), crate::log::check);
            let opening = Opening { dir: dir.path(), kind, instance, cache: 8 << 20, check };
            assert_eq!(opening.check_label(&store).unwrap(), form);
            assert!(!dir.path().join("copy-to-check").exists());
        }
    }
}

#[cfg(test)]
mod copy_tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::store::{Kind, Store};

    #[test]
    fn a_copy_that_a_killed_process_left_is_removed_and_a_new_one_holds_what_the_database_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("sled"), dir.path().join(paths::COPY).join("sled"));
        fs::create_dir_all(&to).unwrap();
        fs::create_dir(&from).unwrap();
        fs::write(to.join("db"), "old").unwrap();
        remove_copy(dir.path()).unwrap();
        remove_copy(dir.path()).unwrap();
        fs::write(from.join("db"), vec![7; 100_000]).unwrap();
        fs::write(from.join("conf"), "").unwrap();
        make_copy(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("db")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read(to.join("conf")).unwrap(), b"");
    }

    #[test]
    fn an_opening_removes_a_copy_that_was_left_and_one_that_cannot_be_removed_stops_only_who_needs_the_place()
    {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Kind::Producer, "a", 8 << 20, crate::log::check);
        drop(open().unwrap());
        fs::create_dir_all(dir.path().join(paths::COPY).join("sled")).unwrap();
        drop(open().unwrap());
        assert!(!dir.path().join(paths::COPY).exists());
        // Not a directory, which is refused to everybody, also to root.
        fs::write(dir.path().join(paths::COPY), "").unwrap();
        drop(open().unwrap());
        let database = File::options().write(true).open(dir.path().join(paths::DATABASE)).unwrap();
        database.write_all_at(&[0x5a; 100], 8 << 20).unwrap();
        let said = open().unwrap_err().to_string();
        assert!(said.contains("copy-to-check") && said.contains("remove it"), "{said}");
        fs::remove_file(dir.path().join(paths::COPY)).unwrap();
        drop(open().unwrap());
    }

    #[test]
    fn nothing_is_copied_to_a_disk_without_room_for_all_of_it_and_the_error_says_how_much_is_needed() {
        check_room(1_000, MARGIN + 1_000).unwrap();
        check_room(0, 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("sled"), dir.path().join(paths::COPY).join("sled"));
        fs::create_dir(&from).unwrap();
        let database = File::create(from.join("db")).unwrap();
        database.write_all_at(&[7; 100_000], 0).unwrap();
        if ioctl_ficlone(File::create(from.join("probe")).unwrap(), &database).is_ok() {
            // It would take no room here.
            return;
        }
        let needed = 100_000 + MARGIN;
        let error = make_within(&from, &to, || Ok(needed - 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let path = to.clone();
        let said = StoreError::Io { path, error }.to_string();
        assert!(
            said.contains(&format!("it needs {needed} bytes here, and {} bytes are free", needed - 1)),
            "{said}"
        );
        assert!(said.contains("the disk is full") && said.contains(to.to_str().unwrap()), "{said}");
        assert_eq!(fs::metadata(to.join("db")).unwrap().len(), 0);
        remove_copy(dir.path()).unwrap();
        make_within(&from, &to, || Ok(needed)).unwrap();
        assert_eq!(fs::metadata(to.join("db")).unwrap().len(), 100_000);
    }
}
