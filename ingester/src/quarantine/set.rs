//! A set of rows in quarantine, as three objects in a folder of their own:
//!
//! ```text
//! Quarantine/<date>/<batch>/<set>/rows.csv.zst      the very bytes of the rows, compressed like the batch; COPY reads it
//!                                 reasons.ndjson    a line for each row, in the same order: why it was refused
//!                                 quarantine.json   what a later COPY must know: schema, columns, compression, rows
//! ```
//! The name of a set is made of its content. So no set is ever written over with other rows: not by an ingester that
//! finds other rows refused because the table was altered meanwhile, and not by a request that was held up for
//! minutes. Which set counts is said by the ledger row of the batch; every other is a left-over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::compress::{compress, decompress};
use shared::ids::BatchId;
use shared::layout::{self, Compression};
use shared::object_store::{ObjectStore, StoreError};
use state::loads::ErrorClass;
use xxhash_rust::xxh3::xxh3_64;

use super::MAX_BYTES;
use crate::trouble::Trouble;

/// Version of the objects that this program writes, and the newest it reads.
const FORMAT: u32 = 1;
/// The object that describes the others.
const DESCRIPTION: &str = "quarantine.json";
/// The object of reasons.
pub const REASONS: &str = "reasons.ndjson";

/// What a later COPY must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Version of the form.
    pub format: u32,
    /// The batch the rows belong to.
    pub batch: BatchId,
    /// Fingerprint of the columns they were made for.
    pub schema: String,
    /// Those columns, in their order.
    pub columns: Vec<String>,
    /// How the file of rows is compressed.
    pub compression: Compression,
    /// Rows in it.
    pub rows: u64,
}

/// Why a row is in quarantine: a line of `reasons.ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// File of the batch.
    pub file: String,
    /// Number of the row in that file, from 1.
    pub row: u64,
    /// Line of that file on which the row begins, from 1.
    pub line: u64,
    /// The column, if Redshift named one.
    pub column: Option<String>,
    /// Its value in the row.
    pub value: Option<String>,
    /// Redshift's code, if it gave one.
    pub code: Option<u32>,
    /// Redshift's reason.
    pub reason: String,
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is called, in the ledger too.
    pub name: String,
    /// What a later COPY must know.
    pub description: Description,
    /// The rows, not compressed.
    pub rows: Bytes,
    /// Why each was refused.
    pub refusals: Vec<Refusal>,
}

/// Why a set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSet {
    /// S3 did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what was written.
    #[error("{0}: {1}")]
    Damaged(String, String),
}

impl Set {
    /// The set of these rows.
    ///
    /// # Errors
    /// When a reason cannot be written as JSON.
    pub fn new(
        batch: BatchId,
        schema: String,
        columns: Vec<String>,
        compression: Compression,
        (rows, refusals): (Bytes, Vec<Refusal>),
    ) -> Result<Self, serde_json::Error> {
        let count = refusals.len() as u64;
        let description = Description { format: FORMAT, batch, schema, columns, compression, rows: count };
        let mut set = Self { name: String::new(), description, rows, refusals };
        set.name = set.fingerprint()?;
        Ok(set)
    }

    fn fingerprint(&self) -> Result<String, serde_json::Error> {
        let mut all = serde_json::to_vec(&self.description)?;
        all.extend_from_slice(&self.reasons()?);
        all.extend_from_slice(&self.rows);
        Ok(format!("{:016x}", xxh3_64(&all)))
    }

    fn reasons(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut lines = Vec::new();
        for refusal in &self.refusals {
            serde_json::to_writer(&mut lines, refusal)?;
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Key of the file of rows.
    #[must_use]
    pub fn rows_key(&self, prefix: &str) -> String {
        let suffix = self.description.compression.suffix();
        format!("{}rows.csv{suffix}", folder(prefix, self.description.batch, &self.name))
    }

    /// Writes the objects. Repeating it writes the same.
    ///
    /// # Errors
    /// When S3 does not take them.
    pub async fn put(&self, store: &ObjectStore, prefix: &str) -> Result<(), BadSet> {
        let folder = folder(prefix, self.description.batch, &self.name);
        let bad = |what: &str| {
            let key = format!("{folder}{what}");
            move |error: &dyn std::fmt::Display| BadSet::Damaged(key, error.to_string())
        };
        let rows = compress(&self.rows, self.description.compression).map_err(|e| bad("rows")(&e))?;
        let reasons = self.reasons().map_err(|e| bad(REASONS)(&e))?;
        let description = serde_json::to_vec(&self.description).map_err(|e| bad(DESCRIPTION)(&e))?;
        store.put(&self.rows_key(prefix), rows).await?;
        store.put(&format!("{folder}{REASONS}"), reasons.into()).await?;
        store.put(&format!("{folder}{DESCRIPTION}"), description.into()).await?;
        Ok(())
    }

    /// Reads the set with this name, and checks that it is the one that was written.
    ///
    /// # Errors
    /// When it is not.
    pub async fn get(store: &ObjectStore, prefix: &str, batch: BatchId, name: &str) -> Result<Self, BadSet> {
        let folder = folder(prefix, batch, name);
        let damaged = |what: &str, why: String| BadSet::Damaged(format!("{folder}{what}"), why);
        let json = store.get(&format!("{folder}{DESCRIPTION}")).await?;
        let description: Description =
            serde_json::from_slice(&json).map_err(|error| damaged(DESCRIPTION, error.to_string()))?;
        if description.format > FORMAT {
            let why = format!("it has format {}; this version reads up to {FORMAT}", description.format);
            return Err(damaged(DESCRIPTION, why));
        }
        let reasons = store.get(&format!("{folder}{REASONS}")).await?;
        let lines = reasons.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let refusals = lines.map(serde_json::from_slice).collect::<Result<Vec<Refusal>, _>>();
        let refusals = refusals.map_err(|error| damaged(REASONS, error.to_string()))?;
        let compression = description.compression;
        let mut set = Self { name: name.to_owned(), description, rows: Bytes::new(), refusals };
        let key = set.rows_key(prefix);
        let rows = decompress(&store.get(&key).await?, compression, MAX_BYTES);
        set.rows = rows.map_err(|error| BadSet::Damaged(key, error.to_string()))?;
        match set.fingerprint() {
            Ok(found) if found == name => Ok(set),
            _ => Err(damaged("", "its objects are not as they were written".to_owned())),
        }
    }
}

/// The folder of all that is in quarantine of a batch.
#[must_use]
pub fn batch_folder(prefix: &str, batch: BatchId) -> String {
    layout::folder(prefix, batch)
}

/// The folder of a set.
#[must_use]
pub fn folder(prefix: &str, batch: BatchId, set: &str) -> String {
    format!("{}{set}/", batch_folder(prefix, batch))
}

impl From<BadSet> for Trouble {
    fn from(error: BadSet) -> Self {
        match error {
            BadSet::Store(error) => error.into(),
            damaged @ BadSet::Damaged(..) => Self::of_batch(ErrorClass::Data, damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(batch: BatchId, reason: &str, rows: &'static str) -> Set {
        let refusal = Refusal {
            file: "0.csv.zst".to_owned(),
            row: 2,
            line: 3,
            column: Some("evar1".to_owned()),
            value: None,
            code: Some(1204),
            reason: reason.to_owned(),
        };
        let columns = vec!["evar1".to_owned()];
        let content = (Bytes::from_static(rows.as_bytes()), vec![refusal]);
        Set::new(batch, "0123456789abcdef".to_owned(), columns, Compression::Zstd, content).unwrap()
    }

    #[test]
    fn a_set_is_named_after_all_that_is_in_it() {
        let batch = BatchId::new();
        let one = set(batch, "too long", "a\n");
        assert_eq!(one, set(batch, "too long", "a\n"));
        assert_eq!(one.name.len(), 16, "the width of the ledger's column");
        for other in [
            set(batch, "too long", "b\n"),
            set(batch, "digit", "a\n"),
            set(BatchId::new(), "too long", "a\n"),
        ] {
            assert_ne!(one.name, other.name);
        }
        let place = format!("{}{}/rows.csv.zst", layout::folder("Q/", batch), one.name);
        assert_eq!(one.rows_key("Q/"), place);
    }
}
