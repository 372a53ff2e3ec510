//! Tries a doubtful database as a copy. sled repairs as it opens, so sled opens a copy, and all of the copy is read. The
//! database itself stays as it is.

use crate::store::copy;
use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::label::Form;
use crate::store::opening::Opening;
use crate::store::paths;
use crate::store::survey::Segment;

/// A crash does not usually tear a segment before the last. This one may be free space, or sled may be about to skip what
/// was accepted. Only a copy that opens and reads well passes.
pub(super) fn try_a_copy(opening: &Opening<'_>, torn: &Segment, durable: u64) -> Result<(), StoreError> {
    let dir = opening.dir;
    let at = torn.broken_at.unwrap_or(torn.offset);
    // A crash leaves this now and then, and nothing is wrong then.
    tracing::info!(dir = %dir.display(), byte = at, "sled/db breaks off: reading a copy of everything first");
    let place = paths::copy(dir);
    let copied = copy::make(&paths::sled(dir), &paths::sled(&place)).map_err(StoreError::at(&place));
    let checked = copied.and_then(|()| check(&Opening { dir: &place, ..*opening }, opening, durable));
    let removed = copy::remove(dir);
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
            let file = fs::File::options().read(true).write(true).open(paths::database(dir.path())).unwrap();
            // Something stands behind it, so that a blank one is an inner one too.
            let segments = survey(&file).unwrap();
            let end = segments.iter().map(|segment| segment.offset + SEGMENT as u64).max().unwrap();
            file.write_all_at(&[byte; SEGMENT], end).unwrap();
            file.write_all_at(&[0x5a; SEGMENT], end + SEGMENT as u64).unwrap();
            let spare = spare::read(dir.path()).unwrap();
            assert!(crate::store::survey::broken(&survey(&file).unwrap(), spare).count() > 0);
            let store = open(dir.path()).unwrap();
            crate::log::check(&store).unwrap();
            let form = if store.mark.is_some() { Form::Current } else { Form::Older };
            let (kind, instance, check) = (Kind::Producer, Some("test"), crate::log::check);
            let opening = Opening { dir: dir.path(), kind, instance, cache: 8 << 20, check };
            assert_eq!(opening.check_label(&store).unwrap(), form);
            assert!(!dir.path().join("copy-to-check").exists());
        }
    }
}
