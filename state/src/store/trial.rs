//! A copy of a database of which its file gives reason to doubt that it is whole. sled opens the copy and everything is
//! read; the database itself stays as it is.

use crate::store::label::Form;
use crate::store::opening::Opening;
use crate::store::survey::Segment;
use crate::store::{Kind, Store, StoreError, copy};
use crate::{loads, log};

impl Opening<'_> {
    /// A torn segment where a crash does not usually reach: it may be free space, or sled may be about to pass over
    /// what was accepted. A copy beside the database tells, while the database stays as it is.
    pub(super) fn try_a_copy(&self, torn: &Segment, durable: u64) -> Result<(), StoreError> {
        let at = torn.broken_at.unwrap_or(torn.offset);
        let what = format!("sled/db is not what was written at byte {at}");
        // A crash leaves this now and then, and nothing is wrong then.
        tracing::info!(dir = %self.dir.display(), byte = at, "sled/db breaks off: reading a copy of everything first");
        let place = copy::path(self.dir);
        let copied = copy::make(&self.sled(), &place.join("sled"));
        let checked = copied.map_err(|error| StoreError::Io { path: place.clone(), error }).and_then(|()| {
            let trial = Opening { dir: &place, ..*self };
            let db = trial.open_sled()?.ok_or_else(|| self.damaged("its copy is in use".to_owned()))?;
            let store = trial.store(db, None)?;
            store.check_end(durable)?;
            if store.check_label(self.kind, self.instance)? == Form::New {
                return Err(self.damaged("nothing else is in it".to_owned()));
            }
            self.read_everything(&store)
        });
        let removed = copy::remove(self.dir);
        match checked {
            Ok(()) => {
                if let Err(error) = removed {
                    tracing::warn!(%error, "cannot remove the copy; the next opening removes it");
                }
                Ok(())
            }
            Err(error @ StoreError::Io { .. }) => Err(error),
            Err(error) => Err(self.damaged(format!("{what}; {}", reason(error)))),
        }
    }

    /// Says what is missing or wrong in a database of which sled's file gives reason to doubt that it is whole.
    fn read_everything(&self, store: &Store) -> Result<(), StoreError> {
        match self.kind {
            Kind::Producer => log::check(store),
            Kind::Ingester => loads::check(store),
        }
    }
}

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => what,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;
    use crate::store::survey::{SEGMENT, survey};
    use crate::store::{database, spare};

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
            (0, |dir| Store::open(dir, Kind::Producer, "test", 8 << 20)),
            (0, |dir| Store::look(dir, Kind::Producer)),
            (0x5a, |dir| Store::open(dir, Kind::Producer, "test", 8 << 20)),
            (0x5a, |dir| Store::look(dir, Kind::Producer)),
        ];
        for (byte, open) in ways {
            let dir = tempfile::tempdir().unwrap();
            of_format_1(dir.path());
            let file = fs::File::options().read(true).write(true).open(database(dir.path())).unwrap();
            // Something stands behind it, so that a blank one is an inner one too.
            let segments = survey(&file).unwrap();
            let end = segments.iter().map(|segment| segment.offset + SEGMENT as u64).max().unwrap();
            file.write_all_at(&[byte; SEGMENT], end).unwrap();
            file.write_all_at(&[0x5a; SEGMENT], end + SEGMENT as u64).unwrap();
            let spare = spare::read(dir.path()).unwrap();
            assert!(crate::store::survey::broken(&survey(&file).unwrap(), spare).count() > 0);
            let store = open(dir.path()).unwrap();
            log::check(&store).unwrap();
            let form = if store.mark.is_some() { Form::Current } else { Form::Older };
            assert_eq!(store.check_label(Kind::Producer, Some("test")).unwrap(), form);
            assert!(!dir.path().join("copy-to-check").exists());
        }
    }
}
