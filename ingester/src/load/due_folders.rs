//! What S3 and the ledger say of the folders of batches that are due. Changes nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, ObjectStoreErrorKind, SMALL};
use shared::seal::Seal;

use crate::facts::folder::{Folder, verify};
use crate::failure::{LoadFailure, Scope};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger_lookup::{self, InLedger};
use crate::redshift::transaction::LoadedBatch;
use crate::redshift::{Session, Target};

/// Batches that cannot be loaded as they stand in S3, each with the reason.
pub(super) type Unfit = Vec<(BatchId, LoadFailure)>;

/// Reads the seals of these batches and compares them with their folders, `at_once` of them at a time.
pub(super) async fn verify_all(
    store: &ObjectStore,
    target: &Target,
    at_once: usize,
    batches: &[BatchId],
    now: DateTime<Utc>,
) -> Result<(Vec<Seal>, Unfit), LoadFailure> {
    let verifying = batches.iter().copied().map(|batch| async move {
        (batch, verify(store, &target.to_ingest, batch, &target.fingerprint, now).await)
    });
    let folders: Vec<_> = stream::iter(verifying).buffered(at_once).collect().await;
    let (mut fit, mut unfit, mut refused) = (Vec::with_capacity(folders.len()), Vec::new(), Vec::new());
    for (batch, folder) in folders {
        match folder {
            Ok(Folder::Whole(seal)) => fit.push(*seal),
            Ok(Folder::Unfit(failure)) => unfit.push((batch, failure)),
            Err(failure) if failure.scope == Scope::Batch => unfit.push((batch, failure)),
            Err(failure) => refused.push((batch, failure)),
        }
    }
    // S3 answers for the others: what it refuses concerns these batches only.
    if fit.is_empty()
        && unfit.is_empty()
        && let Some((_, failure)) = refused.pop()
    {
        return Err(failure);
    }
    let own = |(batch, failure)| (batch, LoadFailure { scope: Scope::Batch, ..failure });
    unfit.extend(refused.into_iter().map(own));
    Ok((fit, unfit))
}

/// Which of these batches, whose folders are not whole, the ledger has. A seal that still stands tells whether it has
/// this very batch.
pub(super) async fn in_ledger(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    batches: &[BatchId],
) -> Result<Vec<LoadedBatch>, LoadFailure> {
    let rows = session.run(&target.select_known(batches)).await.doing(Doing::ReadLedger)?;
    let there: HashSet<BatchId> = rows.first_column().into_iter().collect();
    let mut before = Vec::with_capacity(there.len());
    for batch in batches.iter().filter(|batch| there.contains(*batch)) {
        let folder = layout::folder(&target.to_ingest, *batch);
        let seal = match store.get_at_most(&format!("{folder}{SEAL}"), SMALL).await {
            Ok(json) => Seal::read(*batch, &json).ok(),
            Err(error) if error.is_not_found() || error.is_too_large() => None,
            Err(error) if error.kind() == ObjectStoreErrorKind::Passing => return Err(error.into()),
            // Nobody can tell whether it is the one that the ledger has: what S3 refuses of it is told as its failure.
            Err(_) => continue,
        };
        let Some(seal) = seal else {
            before.push(LoadedBatch::before(*batch, *batch, 0));
            continue;
        };
        let entries =
            ledger_lookup::fetch_entries(session, target, &[&seal]).await.doing(Doing::ReadLedger)?;
        match ledger_lookup::find(&seal, &entries) {
            InLedger::Yes(row) => before.push(LoadedBatch::before(*batch, row.id, row.known)),
            InLedger::Other(_) => tracing::warn!(
                %batch,
                "the ledger has another batch under the id of this one, whose folder is not whole"
            ),
            InLedger::No => {}
        }
    }
    Ok(before)
}
