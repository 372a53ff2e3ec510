//! Reads the seal of a batch.

use bytes::Bytes;
use shared::ids::BatchId;
use shared::layout::SEAL;
use shared::object_store::{ObjectStore, SMALL, StoreError};
use shared::seal::Seal;

/// What stands where the seal of a batch belongs.
#[derive(Debug)]
pub(crate) enum SealRead {
    Usable(Box<Seal>),
    Unusable(String),
    Missing,
}

/// Reads the seal in `folder`, which is that of `batch`.
pub(crate) async fn read_seal(
    store: &ObjectStore,
    folder: &str,
    batch: BatchId,
) -> Result<SealRead, StoreError> {
    let json = get_if_there(store, &format!("{folder}{SEAL}")).await?;
    Ok(match json.map(|json| Seal::read(batch, &json)) {
        Some(Ok(seal)) => SealRead::Usable(Box::new(seal)),
        Some(Err(error)) => SealRead::Unusable(error.to_string()),
        None => SealRead::Missing,
    })
}

/// The content of a small object; None if it is not there.
pub(crate) async fn get_if_there(store: &ObjectStore, key: &str) -> Result<Option<Bytes>, StoreError> {
    match store.get_at_most(key, SMALL).await {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
