//! Takes away what is left over of a quarantine, once the ledger says what counts.

use futures_util::{StreamExt, TryStreamExt, stream};
use shared::ids::BatchId;
use shared::object_store::{ObjectStore, StoreError};

use super::{Quarantine, set};
use crate::trouble::Trouble;
use crate::warehouse::release::{Entry, look};
use crate::warehouse::{Session, Target, lock};

/// Objects deleted at once.
const AT_ONCE: usize = 8;

/// Deletes everything in the quarantine of a batch, by its id in the ledger, but the set that its ledger row names;
/// nothing if it has none. What the ledger says of it then.
///
/// Sets are deleted under the lock of loads. One that is to be named later is either that of a batch without ledger
/// row, of which nothing is deleted, or is written under the lock too (see [`crate::warehouse::release`]). What a search
/// wrote is deleted after the lock is given back: there may be thousands of objects, and a search that misses them is
/// repeated.
///
/// # Errors
/// When Redshift or S3 fail. Repeating it is harmless.
pub async fn tidy(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    batch: BatchId,
) -> Result<Option<Entry>, Trouble> {
    let entry = sets(session, target, store, quarantine, batch).await;
    session.roll_back().await;
    let entry = entry?;
    if entry.is_some() {
        delete_all(store, &quarantine.scratch(batch)).await?;
    }
    Ok(entry)
}

async fn sets(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    batch: BatchId,
) -> Result<Option<Entry>, Trouble> {
    lock::begin(session, target).await?;
    let Some(entry) = look(session, target, &[batch]).await?.pop() else { return Ok(None) };
    let folder = |name: &str| set::folder(&quarantine.prefix, batch, name);
    let kept = match &entry.set {
        Some(name) if entry.rows > 0 => Some(folder(name)),
        // Rows are in quarantine and nobody says which: a person has to look.
        None if entry.rows > 0 => return Ok(Some(entry)),
        _ => None,
    };
    let scratch = quarantine.scratch(batch);
    for set in store.folders(&set::batch_folder(&quarantine.prefix, batch)).await? {
        // Without a connection the lock may be somebody else's by now.
        if set != scratch && Some(&set) != kept.as_ref() && session.usable() {
            delete_all(store, &set).await?;
        }
    }
    Ok(Some(entry))
}

async fn delete_all(store: &ObjectStore, folder: &str) -> Result<(), StoreError> {
    let objects = store.list(folder, None).await?;
    let deletes = objects.into_iter().map(|object| async move { store.delete(&object.key).await });
    stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect().await
}

/// Deletes what was written for a search that came to nothing, as far as that is possible: the next one writes what it
/// needs again.
pub(super) async fn drop_scratch(store: &ObjectStore, folder: &str) {
    if let Err(error) = delete_all(store, folder).await {
        tracing::debug!(%error, folder, "left-overs of a search stay for now");
    }
}
