//! Reads everything in a log that may be damaged.

use super::LogError;
use super::reader::LogReader;
use super::status::{BatchStatus, FileStatus};
use crate::store::{Store, StoreError};

pub(super) fn check(store: &Store) -> Result<(), StoreError> {
    let reader = LogReader::new(store.clone());
    let mut rows = Vec::new();
    for (_, batch) in
        reader.batches()?.into_iter().filter(|(_, batch)| batch.status != BatchStatus::Published)
    {
        for file in batch.first_file..batch.first_file + u64::from(batch.files) {
            rows.clear();
            let read = reader.file(file).and_then(|record| match record.status {
                FileStatus::Uploaded(_) => Ok(record),
                FileStatus::Open | FileStatus::Closed => reader.rows(file, &mut rows),
            });
            match read {
                Ok(_) => {}
                Err(LogError::Store(error)) => return Err(error),
                Err(other) => {
                    return Err(StoreError::Damaged { dir: store.dir().to_owned(), what: other.to_string() });
                }
            }
        }
    }
    Ok(())
}
