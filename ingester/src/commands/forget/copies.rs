//! What the producer of this machine keeps: copies of uploaded files, which are dropped if their batches are loaded, and
//! the log, which cannot be searched.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use shared::clock::Clock;
use shared::dirs::UPLOAD_COPIES;
use shared::exit::Failure;
use shared::human::counted;
use shared::ids::BatchId;

use crate::producer_link::Producer;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;

use super::report::{Copies, Left, Log, Report};
use super::task::Task;

const UNANSWERED: &str = "the producer cannot be asked to drop them: start it and run this again, or first update it, if it does not \
     know the question";
/// Batches that the ledger is asked about at once.
const ASKED_AT_ONCE: usize = 500;

/// The batches whose copies a producer that does not answer has left; none where no producer has ever run. The error says
/// why nobody can tell.
fn kept_on_disk(dir: &Path) -> std::io::Result<Vec<BatchId>> {
    let folders = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        folders => folders?,
    };
    let mut kept = Vec::new();
    for folder in folders {
        kept.extend(folder?.file_name().to_str().and_then(|name| name.parse::<BatchId>().ok()));
    }
    Ok(kept)
}

impl Task<'_> {
    /// Asks what waits in the log.
    pub(super) async fn log(&self, clock: &Clock) -> Log {
        let asked = state::inspect::dump::ask_producer(self.config, clock).await;
        match asked.map(|part| part.snapshot) {
            Ok(Some(log)) => {
                Log { asked: true, rows_waiting: log.rows_to_upload, rejects_waiting: log.rejects_waiting }
            }
            Ok(None) | Err(_) => Log::default(),
        }
    }

    /// Has the producer drop its copies of loaded batches, whatever rows they have: nobody needs them.
    pub(super) async fn copies(&self, report: &mut Report) -> Result<(), Failure> {
        let producer = Producer::new(self.config.producer_socket());
        let (kept, silent) = match producer.copies().await {
            Ok(kept) => (kept, None),
            Err(why) => {
                let dir = self.config.log.dir.join(UPLOAD_COPIES);
                match kept_on_disk(&dir) {
                    Ok(kept) => (kept, Some(why)),
                    Err(error) => {
                        let why = format!("it cannot be read ({error}), and {UNANSWERED} ({why})");
                        report.left.push(Left { what: dir.display().to_string(), why });
                        return Ok(());
                    }
                }
            }
        };
        let loaded = self.loaded_of(&kept).await?;
        report.copies = Copies { batches: loaded.len() as u64, removed: 0 };
        if loaded.is_empty() {
            return Ok(());
        }
        if let Some(why) = silent {
            let what = self.config.log.dir.join(UPLOAD_COPIES).display().to_string();
            let copies = counted(loaded.len() as u64, "loaded batch", "loaded batches");
            let why = format!("copies of {copies}, and {UNANSWERED} ({why})");
            report.left.push(Left { what, why });
            return Ok(());
        }
        if !self.apply {
            return Ok(());
        }
        for batch in &loaded {
            if let Err(why) = producer.drop_copies(*batch).await {
                report.left.push(Left { what: format!("copies of {batch}"), why });
            }
        }
        let still: BTreeSet<BatchId> = match producer.copies().await {
            Ok(kept) => kept.into_iter().collect(),
            Err(why) => {
                report.left.push(Left { what: "copies".to_owned(), why });
                return Ok(());
            }
        };
        for batch in loaded {
            if still.contains(&batch) {
                let why = "the producer could not remove them: its log says why".to_owned();
                report.left.push(Left { what: format!("copies of {batch}"), why });
            } else {
                report.copies.removed += 1;
            }
        }
        Ok(())
    }

    /// Those that the ledger has. A batch that it has under another id waits below `to_ingest` or is none of these.
    async fn loaded_of(&self, batches: &[BatchId]) -> Result<Vec<BatchId>, Failure> {
        let mut loaded = Vec::new();
        for some in batches.chunks(ASKED_AT_ONCE) {
            let rows = self.session.run(&self.target.select_known(some)).await.doing(Doing::ReadLedger)?;
            loaded.extend(rows.first_column::<BatchId>());
        }
        loaded.sort();
        loaded.dedup();
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_is_not_there_means_that_there_are_no_copies() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept_on_disk(&dir.path().join("none")).unwrap(), []);
        let batch = BatchId::new();
        std::fs::create_dir(dir.path().join(batch.to_string())).unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        assert_eq!(kept_on_disk(dir.path()).unwrap(), [batch]);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(kept_on_disk(&file).is_err());
    }
}
