//! Reads the seal of a batch.

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
    match store.get_at_most(&format!("{folder}{SEAL}"), SMALL).await {
        Ok(json) => Ok(match Seal::read(batch, &json) {
            Ok(seal) => SealRead::Usable(Box::new(seal)),
            Err(error) => SealRead::Unusable(error.to_string()),
        }),
        Err(error) if error.is_not_found() => Ok(SealRead::Missing),
        Err(error) => Err(error),
    }
}
