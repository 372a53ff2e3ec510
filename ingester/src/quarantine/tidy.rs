//! Takes away what is left over of a quarantine, once the ledger says what counts.

use shared::ids::BatchId;
use shared::object_store::{ObjectStore, StoreError};

use super::{Quarantine, set};
use crate::trouble::Trouble;
use crate::warehouse::release::{Entry, look};
use crate::warehouse::{Session, Target, errors};

/// Deletes everything in the quarantine of a batch but the set that its ledger row names; nothing if it has none. What
/// the ledger says of it then.
///
/// It holds the lock of the ledger meanwhile: a set is written before the COMMIT that names it, by somebody who holds
/// the lock from before it is named, so that none which is to be named is deleted.
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
    let tidied = locked(session, target, store, quarantine, batch).await;
    session.roll_back().await;
    tidied
}

async fn locked(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    batch: BatchId,
) -> Result<Option<Entry>, Trouble> {
    for sql in ["BEGIN".to_owned(), target.lock_ledger()] {
        session.run(&sql).await.map_err(|failure| errors::trouble(&failure, "LOCK"))?;
    }
    let Some(entry) = look(session, target, &[batch]).await?.pop() else { return Ok(None) };
    let folder = set::batch_folder(&quarantine.prefix, batch);
    let kept = entry.set.as_ref().filter(|_| entry.rows > 0);
    let kept = kept.map(|name| set::folder(&quarantine.prefix, batch, name));
    for object in store.list(&folder, None).await? {
        if kept.as_ref().is_none_or(|kept| !object.key.starts_with(kept)) {
            store.delete(&object.key).await?;
        }
    }
    Ok(Some(entry))
}

/// Deletes what was written for a search that came to nothing, as far as that is possible: the next one writes what it
/// needs again.
pub(super) async fn drop_scratch(store: &ObjectStore, folder: &str) {
    let dropped = async {
        for object in store.list(folder, None).await? {
            store.delete(&object.key).await?;
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = dropped.await {
        tracing::debug!(%error, folder, "left-overs of a search stay for now");
    }
}
