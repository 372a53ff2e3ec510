//! Loads the rows of a batch that Redshift takes, and puts the others into quarantine.

use crate::redshift::said;
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::ObjectStore;
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::quarantine::pieces::Pieces;
use crate::quarantine::search::{How, Sift};
use crate::quarantine::set::Set;
use crate::quarantine::tidy::drop_scratch;
use crate::quarantine::{Quarantine, tidy};
use crate::redshift::look::{self, There};
use crate::redshift::transaction::{Loaded, Loading, Part, Settled, load};
use crate::redshift::{Session, Target, errors};

/// What is said when what is left of a search cannot be deleted.
pub(crate) const LEFT_OVER: &str = "left-overs in quarantine stay until log, S3 and ledger are compared next";

/// Loads the batch of `seal`, whose COPY met a load error, without the rows that are refused. Returns how the ledger has
/// it, and how many rows the ledger counts in quarantine.
///
/// A failure means that it is not loaded as far as is known: too much of it is refused, or Redshift or S3 fail. Trying
/// again is always right, and never loads twice.
pub(crate) async fn load_good_rows(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    seal: &Seal,
) -> Result<(Settled, u64), LoadFailure> {
    let target = &target.for_rows_of(seal);
    let id = ledger_id(session, target, seal).await?;
    match search_and_load(session, target, store, quarantine, (seal, id)).await {
        Ok((settled, refused)) => {
            let rows = match tidy(session, target, store, quarantine, settled.entered).await {
                Ok(entry) => entry.map_or(refused, |entry| entry.rows),
                // It is loaded all the same.
                Err(failure) => {
                    tracing::warn!(batch = %seal.batch, "{LEFT_OVER}: {failure}");
                    refused
                }
            };
            Ok((settled, rows))
        }
        Err(failure) => {
            if failure.class == ErrorClass::Data {
                drop_scratch(store, &quarantine.scratch(id)).await;
            }
            Err(failure)
        }
    }
}

/// The id under which the ledger has the batch, or will have it.
async fn ledger_id(session: &Session, target: &Target, seal: &Seal) -> Result<BatchId, LoadFailure> {
    let entries = look::entries(session, target, &[seal]).await;
    let entries = entries.map_err(|failure| errors::trouble(&failure, "reading the ledger"))?;
    Ok(match look::judge(seal, &entries) {
        There::No => seal.batch,
        There::Yes(row) => row.id,
        There::Other(_) => look::derived_id(seal),
    })
}

async fn search_and_load(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    (seal, id): (&Seal, BatchId),
) -> Result<(Settled, u64), LoadFailure> {
    let from = layout::folder(&target.to_ingest, seal.batch);
    let pieces = Pieces::of_batch(store, seal, &from, quarantine.scratch(id));
    let mut sift = Sift::new(session, target, pieces, Some(quarantine.max_share));
    let mut how = How::NoLoad;
    loop {
        sift.search(how).await?;
        let (rows, refusals) = sift.outcome().await?;
        let mut part = Part { id, ..Part::whole(seal.clone()) };
        if let Some(first) = refusals.first() {
            let (refused, file, row) = (refusals.len(), first.file.clone(), first.row);
            let (column, reason) = (first.column.clone(), said::reason(&first.reason));
            let columns = target.columns.clone();
            let set = Set::new(id, seal.schema.clone(), columns, seal.compression, (rows.into(), refusals));
            let mut set = set.map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))?;
            // If the batch has a ledger row by now, the transaction names no set.
            match set.written_before(store, &quarantine.prefix).await? {
                Some(name) => set.name = name,
                None => set.put(store, &quarantine.prefix).await?,
            }
            tracing::warn!(batch = %seal.batch, refused, rows = seal.rows, set = %set.name, file, row, column, reason,
                "Redshift refuses rows of the batch: they go into quarantine, the others are loaded");
            part = Part { quarantined: set.description.rows, set: Some(set.name), ..part };
        }
        let quarantined = part.quarantined;
        let loading =
            Loading { manifest: sift.rest().await?, compression: seal.compression, parts: vec![part] };
        match load(session, target, &loading).await {
            // NOLOAD does not see everything that a load refuses.
            Err(trouble) if trouble.class == ErrorClass::Data && how == How::NoLoad => how = How::RolledBack,
            Err(trouble) => return Err(trouble),
            Ok(Loaded::Settled(settled)) => {
                let before = || Settled::before(seal.batch, id, 0);
                return Ok((settled.into_iter().next().unwrap_or_else(before), quarantined));
            }
            // One batch is never told to go alone.
            Ok(Loaded::Isolated(_)) => {
                return Err(LoadFailure::of_batch(ErrorClass::Passing, "it was to be loaded with others"));
            }
        }
    }
}
