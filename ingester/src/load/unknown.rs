//! Asks the ledger about unknown folders: folders in S3 of which the load store knows nothing.

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::config::Archive;
use shared::ids::Instance;
use state::loads::Load;
use tokio::sync::mpsc;

use crate::facts::unknown_folders::{Hint, UnknownFolders};
use crate::failure::StepError;
use crate::load_store::LoadStore;
use crate::redshift::Rows;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::services::Services;

use super::connection::Connection;
use super::quarantine_check::ASKED_AT_ONCE;

pub(super) struct UnknownCheck {
    pub(super) folders: UnknownFolders,
    hints: mpsc::Sender<Hint>,
    load_store: LoadStore,
    /// Loaded batches stay where they are (`ingester.archive = "keep"`).
    keep: bool,
    clock: Clock,
}

impl UnknownCheck {
    pub(super) fn new(services: &Services, folders: UnknownFolders, hints: mpsc::Sender<Hint>) -> Self {
        let Services { config, load_store, clock, .. } = services.clone();
        Self { folders, hints, load_store, keep: config.ingester.archive == Archive::Keep, clock }
    }

    /// Asks about the oldest folders with one statement.
    pub(super) async fn resolve(&self, connection: &Connection) -> Result<(), StepError> {
        let (session, target) = connection.get()?;
        let asked = self.folders.oldest(ASKED_AT_ONCE);
        // A listing may have closed them since.
        if asked.is_empty() {
            return Ok(());
        }
        let rows = session.run(&target.select_entries(&asked)).await.doing(Doing::ReadLedger)?;
        let loaded = ledger_rows(&rows, self.clock.wall());
        for batch in asked {
            match loaded.iter().find(|load| load.batch == batch) {
                Some(_) if self.keep => self.folders.mark_loaded(batch),
                // Archiving was cut short: the rest of the folder goes the way of every batch, and ends archived.
                Some(load) => {
                    self.folders.forget(batch);
                    self.load_store.discovered(load.clone()).await?;
                }
                // Not loaded. With a seal, discovery reads it; without one, its producer goes on with it.
                None => {
                    if self.keep {
                        // Fails only when discovery has ended, and the process with it.
                        let _ = self.hints.send(Hint::Folder(batch)).await;
                    }
                    self.folders.forget(batch);
                }
            }
        }
        Ok(())
    }
}

fn ledger_rows(rows: &Rows, now: DateTime<Utc>) -> Vec<Load> {
    rows.read(|row| {
        let instance = Instance::try_from(row.text(1)?.to_owned()).ok()?;
        let number = |column| row.get::<u64>(column).unwrap_or(0);
        let files = u32::try_from(number(2)).unwrap_or(u32::MAX);
        Some(Load::new(row.get(0)?, instance, files, number(3), number(4), now))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::BatchId;

    #[test]
    fn a_ledger_row_becomes_an_entry_of_the_load_store() {
        let batch = BatchId::new().to_string();
        let row = |id: &str| [id, "web-1", "2", "20", "200"].map(|value| Some(value.to_owned())).to_vec();
        let loads = ledger_rows(&Rows(vec![row(&batch), row("not an id")]), DateTime::UNIX_EPOCH);
        assert_eq!(loads.len(), 1);
        assert_eq!(
            (loads[0].batch.to_string(), loads[0].files, loads[0].rows, loads[0].bytes),
            (batch, 2, 20, 200)
        );
    }
}
