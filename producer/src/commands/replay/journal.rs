//! Says how much of each file is taken in, should the run not end: a file beside the replay's log.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use shared::exit::{Exit, Failure, io_exit};

const FORMAT: u32 = 1;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    stored: Stored,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    files: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// Differs when the file has changed.
    stamp: String,
    taken: u64,
    /// How many records the log had received when the one after `taken` was sent; None when no run reads the file.
    from: Option<u64>,
}

impl Journal {
    /// Reads the journal beside a log that has durably received so many records: that shows how far the last run came.
    pub(super) fn open(dir: &Path, received: u64) -> Result<Self, Failure> {
        let path = dir.join("journal.json");
        let mut stored = match fs::read(&path) {
            Ok(text) => read(&text).map_err(|why| {
                let path = path.display();
                let advice = "Remove it to replay files from their start";
                let error = anyhow!("{path} is damaged or of another version: {why}. {advice}");
                Failure::new(Exit::Data, error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Stored { format: FORMAT, files: Vec::new() }
            }
            Err(error) => return Err(io_failure(&path, &error)),
        };
        resolve_taken(&mut stored.files, received);
        let journal = Self { path, stored };
        journal.write()?;
        Ok(journal)
    }

    /// Notes durably that a file is read from this count on. Returns how many of its records to skip: they are taken
    /// in.
    pub(super) fn begin(&mut self, name: &str, stamp: Option<String>, received: u64) -> Result<u64, Failure> {
        let Some(stamp) = stamp else { return Ok(0) };
        let files = &mut self.stored.files;
        let known = files.iter().position(|file| file.name == name).map(|at| files.remove(at));
        let taken = match known {
            Some(known) if known.stamp == stamp => known.taken,
            Some(known) if known.taken > 0 => {
                tracing::warn!(
                    file = name,
                    records = known.taken,
                    "the file has changed since a run that did not end took records of it in: it is read from its start"
                );
                0
            }
            _ => 0,
        };
        // In the order they are read.
        files.push(Entry { name: name.to_owned(), stamp, taken, from: Some(received) });
        self.write()?;
        Ok(taken)
    }

    /// Forgets files: the next run reads them from their start.
    pub(super) fn forget<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<(), Failure> {
        let names: Vec<&str> = names.collect();
        self.stored.files.retain(|file| !names.contains(&file.name.as_str()));
        self.write()
    }

    /// Whole or not at all, also when the machine stops.
    fn write(&self) -> Result<(), Failure> {
        let written = || {
            let new = self.path.with_extension("new");
            let mut file = File::create(&new)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&serde_json::to_vec_pretty(&self.stored)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        written().map_err(|error| io_failure(&self.path, &error))
    }
}

fn read(text: &[u8]) -> Result<Stored, String> {
    let stored: Stored = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match stored.format {
        FORMAT => Ok(stored),
        other => Err(format!("its format is {other}, not {FORMAT}")),
    }
}

/// Of all that was sent, the log has received a beginning: each file's share of it lies between where its reading
/// began and where that of the next did.
fn resolve_taken(files: &mut [Entry], received: u64) {
    let mut end = received;
    for file in files.iter_mut().rev() {
        if let Some(from) = file.from.take() {
            file.taken += end.saturating_sub(from);
            end = end.min(from);
        }
    }
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(io_exit(error), anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Option<String> {
        Some("1".to_owned())
    }

    #[test]
    fn a_run_goes_on_where_the_last_one_was_durable() {
        let dir = tempfile::tempdir().unwrap();
        // (what the log had received in the end, what of the two files is taken in): 100 and 40 records were sent.
        for (received, taken) in
            [(1000, [0, 0]), (1030, [30, 0]), (1100, [100, 0]), (1101, [100, 1]), (1140, [100, 40])]
        {
            let mut journal = Journal::open(dir.path(), 1000).unwrap();
            assert_eq!(journal.begin("a", stamp(), 1000).unwrap(), 0);
            assert_eq!(journal.begin("b", stamp(), 1100).unwrap(), 0);
            // The order of the next run is its own.
            let mut journal = Journal::open(dir.path(), received).unwrap();
            assert_eq!(journal.begin("b", stamp(), received).unwrap(), taken[1], "{received}");
            assert_eq!(journal.begin("a", stamp(), received + 3).unwrap(), taken[0], "{received}");
            // It took in three more of b, and five more of a, and opened the journal twice without reading.
            Journal::open(dir.path(), received + 8).unwrap();
            let mut journal = Journal::open(dir.path(), received + 8).unwrap();
            assert_eq!(journal.begin("a", stamp(), received + 8).unwrap(), taken[0] + 5, "{received}");
            assert_eq!(journal.begin("b", stamp(), received + 8).unwrap(), taken[1] + 3, "{received}");
            journal.forget(["a", "b"].into_iter()).unwrap();
            assert_eq!(journal.begin("a", stamp(), received + 8).unwrap(), 0);
            journal.forget(["a"].into_iter()).unwrap();
        }
    }

    #[test]
    fn a_changed_file_and_one_without_identity_are_read_from_their_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 0).unwrap();
        journal.begin("a", stamp(), 0).unwrap();
        assert_eq!(journal.begin("-", None, 5).unwrap(), 0);
        let mut journal = Journal::open(dir.path(), 9).unwrap();
        assert_eq!(journal.begin("-", None, 9).unwrap(), 0);
        assert_eq!(journal.begin("a", Some("2".to_owned()), 9).unwrap(), 0);
    }

    #[test]
    fn a_journal_of_another_version_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{\"format\":2,\"files\":[]}", "{", ""] {
            fs::write(dir.path().join("journal.json"), text).unwrap();
            let failure = Journal::open(dir.path(), 0).unwrap_err();
            assert_eq!(failure.exit(), Exit::Data, "{failure}");
            assert_eq!(fs::read_to_string(dir.path().join("journal.json")).unwrap(), text);
        }
    }
}
