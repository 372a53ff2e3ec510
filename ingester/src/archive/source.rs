//! The folder that is put away.

use bytes::Bytes;
use shared::ids::BatchId;
use shared::layout::SEAL;
use shared::object_store::{Object, ObjectStore, SMALL, StoreError};
use shared::seal::Seal;

#[derive(Debug)]
pub(super) struct Source {
    pub folder: String,
    pub batch: BatchId,
}

impl Source {
    pub(super) async fn seal(
        &self,
        store: &ObjectStore,
        objects: &[Object],
    ) -> Result<Option<Seal>, StoreError> {
        let json = self.json(store, objects).await?;
        Ok(json.and_then(|json| Seal::read(self.batch, &json).ok()))
    }

    /// Its seal as it stands there, if it has one.
    pub(super) async fn json(
        &self,
        store: &ObjectStore,
        objects: &[Object],
    ) -> Result<Option<Bytes>, StoreError> {
        let key = format!("{}{SEAL}", self.folder);
        if !objects.iter().any(|object| object.key == key) {
            return Ok(None);
        }
        match store.get_at_most(&key, SMALL).await {
            Ok(json) => Ok(Some(json)),
            // Another ingester archives the same folder and was faster.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
