//! Deletes what is left over of a quarantine, once the ledger says what counts. Only objects that this program writes are
//! deleted, by their names: what others have put there stays.

use futures_util::{StreamExt, TryStreamExt, stream};
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::{ObjectStore, ObjectStoreError};

use crate::failure::LoadFailure;
use crate::redshift::lock::{self, Done};
use crate::redshift::quarantine_release::{Entry, fetch_entries};
use crate::redshift::{Session, Target};

use super::row_files::is_of_search;
use super::set::{self, Quarantine};

const AT_ONCE: usize = 8;
/// Sets that are deleted at once at most: the lock of loads is held meanwhile. Attempts leave few; the next tidying deletes
/// what is left.
const SETS: usize = 100;

/// What is logged when left-overs of a bad-row search cannot be deleted.
pub(crate) const LEFT_OVER: &str = "left-overs in quarantine stay until log, S3 and ledger are compared next";

/// Deletes everything in the quarantine of a batch, by its id in the ledger, but the set that its ledger row names;
/// nothing if it has none. Returns what the ledger says of it then. Repeating it is harmless.
///
/// Sets are listed before the lock of loads is taken, and those that the ledger row does not name then are deleted. So
/// nothing is deleted that may still come to count: a transaction writes the set that it will name under the same lock
/// (see [`crate::redshift::quarantine_release`]), so that it has ended when the row is read here, and no other names a set of it,
/// whose name is its own. Of a batch without ledger row nothing is deleted. It does not matter how long a DELETE takes,
/// nor whether the lock is lost meanwhile.
///
/// What a search wrote is deleted after the lock is given back: there may be thousands of objects, and a search that
/// misses them is repeated.
pub(crate) async fn tidy(
    session: &Session,
    target: &Target,
    store: &ObjectStore,
    quarantine: &Quarantine,
    batch: BatchId,
) -> Result<Option<Entry>, LoadFailure> {
    let own = layout::folder(&quarantine.prefix, batch);
    let folders = store.folders(&own, set::is_hash).await?;
    let tidied = async {
        let Some(entry) = fetch_entries(session, target, &[batch]).await?.pop() else {
            return Ok(Done::Nothing(None));
        };
        let counts = match &entry.set {
            Some(name) if entry.rows > 0 => Some(set::folder(&quarantine.prefix, batch, name)),
            // Rows are in quarantine and it is unknown which: needs an operator.
            None if entry.rows > 0 => return Ok(Done::Nothing(Some(entry))),
            _ => None,
        };
        let left_over = folders
            .into_iter()
            .filter(|folder| set::name_of(&own, folder).is_some() && Some(folder) != counts.as_ref());
        for folder in left_over.take(SETS) {
            delete_all(store, &folder, set::is_of_set).await?;
        }
        Ok::<_, LoadFailure>(Done::Nothing(Some(entry)))
    };
    let entry = lock::within(session, target, tidied).await?;
    if entry.is_some() {
        delete_all(store, &quarantine.scratch(batch), is_of_search).await?;
    }
    Ok(entry)
}

/// Deletes the objects of a folder that are ours by their names.
async fn delete_all(
    store: &ObjectStore,
    folder: &str,
    ours: fn(&str) -> bool,
) -> Result<(), ObjectStoreError> {
    let objects = store.list_folder(folder, ours).await?;
    let deletes = objects.into_iter().map(|object| async move { store.delete(&object.key).await });
    stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect().await
}

/// Deletes what a search wrote that came to nothing, as far as that is possible: the next one writes what it needs again.
pub(super) async fn drop_scratch(store: &ObjectStore, folder: &str) {
    if let Err(error) = delete_all(store, folder, is_of_search).await {
        tracing::debug!(%error, folder, "left-overs of a search stay for now");
    }
}
