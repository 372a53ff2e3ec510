//! What waits below `s3.to_ingest`: batches that are not loaded, or not archived yet. If one holds rows of the person,
//! nothing is changed: its rows would be in the table a moment later, and its files are about to move.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use shared::config::Archive;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout;
use shared::seal::Seal;

use crate::commands::connect::store_failed;
use crate::commands::terminal::bar;
use crate::facts::folder::{SealRead, read_seal};
use crate::facts::listing::{Listed, list_folders};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger_lookup::{InLedger, fetch_entries, find};

use super::folder::Folder;
use super::report::InTheWay;
use super::task::{AT_ONCE, Task, unreadable};

/// Folders whose seals are read, and whose ledger rows are asked for, at once.
const ASKED_AT_ONCE: usize = 100;

/// What became of a folder.
enum Waiting {
    /// It is loaded, and stays here.
    Kept(BatchId),
    Clean,
    InTheWay(InTheWay),
}

/// The seal of a folder, or why it is not known.
type Sealed = (BatchId, Result<Option<Box<Seal>>, String>);

impl Task<'_> {
    /// The batches that are in the way, and the loaded ones that stay where they are.
    pub(super) async fn waiting(&self) -> Result<(Vec<InTheWay>, Vec<BatchId>), Failure> {
        let prefix = &self.config.s3.to_ingest;
        let (folders, _) = list_folders(self.store, prefix, prefix, None).await.map_err(store_failed)?;
        let progress = bar(folders.len() as u64, "folders that wait");
        let (mut in_the_way, mut kept) = (Vec::new(), Vec::new());
        for some in folders.chunks(ASKED_AT_ONCE) {
            let reads = some.iter().map(|folder| self.seal_of(folder));
            let sealed: Vec<Sealed> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
            let loaded = self.loaded(&sealed).await?;
            let searched = sealed.into_iter().map(|sealed| self.look(sealed, &loaded));
            let mut searched = stream::iter(searched).buffered(AT_ONCE);
            while let Some(waiting) = searched.try_next().await? {
                progress.inc(1);
                match waiting {
                    Waiting::Clean => {}
                    Waiting::Kept(batch) => kept.push(batch),
                    Waiting::InTheWay(batch) => in_the_way.push(batch),
                }
            }
        }
        progress.finish_and_clear();
        Ok((in_the_way, kept))
    }

    async fn seal_of(&self, folder: &Listed) -> Result<Sealed, Failure> {
        let batch = folder.batch;
        if folder.seal.is_none() {
            return Ok((batch, Ok(None)));
        }
        let key = layout::folder(&self.config.s3.to_ingest, batch);
        let seal = match read_seal(self.store, &key, batch).await {
            Ok(SealRead::Usable(seal)) => Ok(Some(seal)),
            Ok(SealRead::Missing) => Ok(None),
            Ok(SealRead::Unusable(why)) => Err(why),
            Err(error) => Err(unreadable(error)?),
        };
        Ok((batch, seal))
    }

    /// Which of them the ledger has: by what they hold, and without a seal by their ids.
    async fn loaded(&self, sealed: &[Sealed]) -> Result<BTreeSet<BatchId>, Failure> {
        let seals: Vec<&Seal> =
            sealed.iter().filter_map(|(_, seal)| seal.as_ref().ok()?.as_deref()).collect();
        let entries = fetch_entries(self.session, self.target, &seals).await.doing(Doing::ReadLedger)?;
        let by_content = seals.iter().filter(|seal| matches!(find(seal, &entries), InLedger::Yes(_)));
        let mut loaded: BTreeSet<BatchId> = by_content.map(|seal| seal.batch).collect();
        let unsealed: Vec<BatchId> =
            sealed.iter().filter(|(_, seal)| matches!(seal, Ok(None))).map(|(batch, _)| *batch).collect();
        if !unsealed.is_empty() {
            let rows = self.session.run(&self.target.select_known(&unsealed)).await;
            loaded.extend(rows.doing(Doing::ReadLedger)?.first_column::<BatchId>());
        }
        Ok(loaded)
    }

    async fn look(&self, (batch, seal): Sealed, loaded: &BTreeSet<BatchId>) -> Result<Waiting, Failure> {
        let is_loaded = loaded.contains(&batch);
        let in_the_way = |rows, why: String| Waiting::InTheWay(InTheWay { batch, rows, why });
        if let Err(why) = seal {
            return Ok(in_the_way(0, format!("its seal cannot be read, so nobody can tell its rows: {why}")));
        }
        if is_loaded && self.config.ingester.archive == Archive::Keep {
            return Ok(Waiting::Kept(batch));
        }
        let folder = Folder::new(&self.config.s3.to_ingest, batch);
        // As the folder of a loaded one, without changing it.
        let found = self.searching().folder(&folder).await?;
        Ok(match (found.rows_found, found.left.first()) {
            (0, None) => Waiting::Clean,
            (rows, Some(left)) => in_the_way(rows, format!("{} cannot be searched: {}", left.what, left.why)),
            (rows, None) if is_loaded => {
                in_the_way(rows, "it is loaded, and its folder is not archived yet".to_owned())
            }
            (rows, None) => in_the_way(rows, "it is not loaded yet".to_owned()),
        })
    }
}
