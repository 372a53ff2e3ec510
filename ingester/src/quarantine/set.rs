//! A set of rows in quarantine, as three objects in a folder of their own:
//!
//! ```text
//! Quarantine/<date>/<batch>/<set>/rows.csv.zst      the very bytes of the rows, compressed like the batch; COPY reads it
//!                                 reasons.ndjson    a line for each row, in the same order: why it was refused
//!                                 quarantine.json   what a later COPY must know: schema, columns, compression, rows
//! ```
//! The name of a set is eight digits of its content and eight that no other set has. So no set is ever written over: not
//! by an ingester that finds other rows refused because the table was altered meanwhile, and not by a request that was
//! held up for minutes. And what is deleted never stands there again: a DELETE that was held up as long hits nothing,
//! where the same rows under the same name may have been written anew, and be all that the ledger counts on.
//!
//! The ledger row of the batch says which set counts; every other is a left-over. An attempt that is repeated may have
//! another name for the same rows: the ledger row is entered once, under the lock, and names the set of the attempt that
//! entered it. While a batch has no ledger row nobody deletes its sets, so that an attempt uses the one that an earlier
//! attempt has written ([`Set::written_before`]); else each try of a load that is refused for days would leave another.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::compress::{compress, decompress};
use shared::config::Config;
use shared::ids::BatchId;
use shared::json_fault::json_fault;
use shared::layout::{self, Compression};
use shared::object_store::{ObjectStore, ObjectStoreError, SMALL};
use shared::seal::{column_fault, schema_fault};
use state::loads::ErrorClass;
use xxhash_rust::xxh3::Xxh3;

use crate::failure::LoadFailure;

/// Bytes of rows in one quarantine, and of one file that is searched, at most: they are held in memory.
pub(crate) const MAX_BYTES: u64 = 1 << 30;
/// Version of what is written, and the newest that is read. In format 1 the name is the checksum of the content.
const FORMAT: u32 = 2;
/// Sets of the same digits that are read at most, when one of them is looked for.
const ALIKE: usize = 10;
/// Digits of a name: the width of the ledger's column.
const NAME_DIGITS: usize = 16;
/// Those of them that are of the content.
const CONTENT_DIGITS: usize = 8;
const DESCRIPTION: &str = "quarantine.json";
pub(crate) const REASONS: &str = "reasons.ndjson";

/// The folder of what a bad-row search writes, beside those of the sets of its batch.
pub(crate) const SCRATCH: &str = "sift/";

/// Where rows in quarantine go, and how many may.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    pub prefix: String,
    pub max_share: f64,
}

impl Quarantine {
    pub(crate) fn new(config: &Config) -> Self {
        Self { prefix: config.s3.quarantine.clone(), max_share: config.quarantine.max_share }
    }

    pub(crate) fn scratch(&self, batch: BatchId) -> String {
        format!("{}{SCRATCH}", layout::folder(&self.prefix, batch))
    }
}

/// What a later COPY must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub format: u32,
    pub batch: BatchId,
    /// Fingerprint of the columns the rows were made for.
    pub schema: String,
    pub columns: Vec<String>,
    pub compression: Compression,
    pub rows: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    description: Description,
    /// Checksum of all that is in the set. None in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// Bytes of the object of rows, and of that of reasons. None in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<(u64, u64)>,
}

/// Why a row is in quarantine: a line of `reasons.ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub file: String,
    /// Number of the row in that file, from 1.
    pub row: u64,
    /// Line of that file on which the row begins, from 1.
    pub line: u64,
    /// The column, if Redshift named one.
    pub column: Option<String>,
    pub value: Option<String>,
    pub code: Option<u32>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub name: String,
    pub description: Description,
    /// The rows, not compressed.
    pub rows: Bytes,
    pub refusals: Vec<Refusal>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSet {
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    #[error("{0}: {1}")]
    Damaged(String, String),
}

impl Set {
    /// A set of these rows, with a name that no other has.
    pub(crate) fn new(
        batch: BatchId,
        schema: String,
        columns: Vec<String>,
        compression: Compression,
        (rows, refusals): (Vec<u8>, Vec<Refusal>),
    ) -> Self {
        let count = refusals.len() as u64;
        let description = Description { format: FORMAT, batch, schema, columns, compression, rows: count };
        let mut set = Self { name: String::new(), description, rows: rows.into(), refusals };
        let content = set.fingerprint();
        // The last bytes of a new id are by chance.
        let [.., a, b, c, d] = *BatchId::new().as_bytes();
        let digits = content.get(..CONTENT_DIGITS).unwrap_or_default();
        set.name = format!("{digits}{a:02x}{b:02x}{c:02x}{d:02x}");
        set
    }

    /// The name under which an earlier attempt has written the same, if it is there whole. Only for a batch without ledger
    /// row: of any other, a set that the row does not name may be about to be deleted.
    pub(crate) async fn written_before(
        &self,
        store: &ObjectStore,
        prefix: &str,
    ) -> Result<Option<String>, BadSet> {
        let batch = self.description.batch;
        let own = layout::folder(prefix, batch);
        let content = self.name.get(..CONTENT_DIGITS).unwrap_or_default();
        let folders = store.folders(&own, is_hash).await?;
        let alike = folders.iter().filter_map(|folder| name_of(&own, folder));
        for name in alike.filter(|name| name.starts_with(content)).take(ALIKE) {
            match Self::get(store, prefix, batch, name, self.description.rows).await {
                Ok(there) if there.holds_the_same(self) => return Ok(Some(name.to_owned())),
                Ok(_) | Err(BadSet::Damaged(..)) => {}
                Err(BadSet::Store(error)) if error.is_not_found() || error.is_too_large() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn holds_the_same(&self, other: &Self) -> bool {
        (&self.description, &self.rows, &self.refusals) == (&other.description, &other.rows, &other.refusals)
    }

    fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        hash.update(&json(&self.description));
        hash.update(&self.reasons());
        hash.update(&self.rows);
        format!("{:016x}", hash.digest())
    }

    fn reasons(&self) -> Vec<u8> {
        self.refusals.iter().flat_map(|refusal| [json(refusal), b"\n".to_vec()].concat()).collect()
    }

    pub(crate) fn rows_key(&self, prefix: &str) -> String {
        let suffix = self.description.compression.suffix();
        format!("{}rows.csv{suffix}", folder(prefix, self.description.batch, &self.name))
    }

    /// Writes the objects. Repeating it writes the same.
    pub(crate) async fn put(&self, store: &ObjectStore, prefix: &str) -> Result<(), BadSet> {
        let (key, reasons) = (self.rows_key(prefix), self.reasons());
        let rows = compress(&self.rows, self.description.compression)
            .map_err(|error| BadSet::Damaged(key.clone(), error.to_string()))?;
        let written = Written {
            description: self.description.clone(),
            content: Some(self.fingerprint()),
            bytes: Some((rows.len() as u64, reasons.len() as u64)),
        };
        let folder = folder(prefix, self.description.batch, &self.name);
        store.put(&key, rows).await?;
        store.put(&format!("{folder}{REASONS}"), reasons.into()).await?;
        store.put(&format!("{folder}{DESCRIPTION}"), json(&written).into()).await?;
        Ok(())
    }

    /// Reads a set of `most` rows at most. Whoever writes to the bucket can write one, so nothing in it is believed that no
    /// set can say: the rows would be those of another batch, and memory is taken for each reason.
    pub(crate) async fn get(
        store: &ObjectStore,
        prefix: &str,
        batch: BatchId,
        name: &str,
        most: u64,
    ) -> Result<Self, BadSet> {
        let folder = folder(prefix, batch, name);
        let damaged = |what: &str, why: String| BadSet::Damaged(format!("{folder}{what}"), why);
        let object = store.get_at_most(&format!("{folder}{DESCRIPTION}"), SMALL).await?;
        let Written { description, content, bytes } =
            serde_json::from_slice(&object).map_err(|error| damaged(DESCRIPTION, json_fault(&error)))?;
        if description.format > FORMAT {
            let why = format!("it has format {}; this version reads up to {FORMAT}", description.format);
            return Err(damaged(DESCRIPTION, why));
        }
        if let Some(why) = description.fault(batch) {
            return Err(damaged(DESCRIPTION, why));
        }
        let (rows_bytes, reasons_bytes) = bytes.unwrap_or((MAX_BYTES, MAX_BYTES));
        let (rows_bytes, reasons_bytes) = (rows_bytes.min(MAX_BYTES), reasons_bytes.min(MAX_BYTES));
        let reasons = store.get_at_most(&format!("{folder}{REASONS}"), reasons_bytes).await?;
        let refusals = read_reasons(&reasons, most).map_err(|why| damaged(REASONS, why))?;
        drop(reasons);
        let compression = description.compression;
        let mut set = Self { name: name.to_owned(), description, rows: Bytes::new(), refusals };
        let key = set.rows_key(prefix);
        let rows = decompress(&store.get_at_most(&key, rows_bytes).await?, compression, MAX_BYTES);
        set.rows = rows.map_err(|error| BadSet::Damaged(key, error.to_string()))?;
        let found = set.fingerprint();
        let as_written = match content {
            Some(content) => content == found && content.get(..CONTENT_DIGITS) == name.get(..CONTENT_DIGITS),
            None => found == name,
        };
        if as_written {
            Ok(set)
        } else {
            Err(damaged("", "its objects are not as they were written".to_owned()))
        }
    }
}

impl Description {
    /// What no set of this batch can say.
    fn fault(&self, batch: BatchId) -> Option<String> {
        if self.batch != batch {
            return Some(format!("it belongs to batch {}, not to this folder", self.batch));
        }
        column_fault(&self.columns).or_else(|| schema_fault(&self.schema))
    }
}

/// The reasons of `most` rows at most.
fn read_reasons(lines: &[u8], most: u64) -> Result<Vec<Refusal>, String> {
    let mut reasons = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if reasons.len() as u64 >= most {
            return Err(format!("it has reasons for more than {most} rows"));
        }
        reasons.push(serde_json::from_slice(line).map_err(|error| json_fault(&error))?);
    }
    Ok(reasons)
}

/// Our own plain structs: their serialisation cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

pub(crate) fn folder(prefix: &str, batch: BatchId, set: &str) -> String {
    format!("{}{set}/", layout::folder(prefix, batch))
}

/// The name of the set that stands in `set`, if that is the folder of one below the folder `of_batch`.
pub(crate) fn name_of<'f>(of_batch: &str, set: &'f str) -> Option<&'f str> {
    let name = set.strip_prefix(of_batch)?.strip_suffix('/')?;
    is_hash(name).then_some(name)
}

/// Whether a text is as long as a name and made of the same digits.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == NAME_DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether an object of this name within the folder of a set belongs to the set.
pub(crate) fn is_of_set(name: &str) -> bool {
    let rows = name.strip_prefix("rows.csv").and_then(Compression::of_suffix);
    rows.is_some() || name == REASONS || name == DESCRIPTION
}

impl From<BadSet> for LoadFailure {
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
        let content = (rows.as_bytes().to_vec(), vec![refusal]);
        Set::new(batch, "0123456789abcdef".to_owned(), columns, Compression::Zstd, content)
    }

    #[test]
    fn a_set_is_named_after_all_that_is_in_it_and_no_other_bears_its_name() {
        let batch = BatchId::new();
        let one = set(batch, "too long", "a\n");
        let content = |set: &Set| set.name[..CONTENT_DIGITS].to_owned();
        let again = set(batch, "too long", "a\n");
        assert!(again.holds_the_same(&one));
        assert_eq!(content(&again), content(&one));
        assert_ne!(again.name, one.name, "what was deleted must not stand there again");
        assert_eq!(one.name.len(), NAME_DIGITS, "the width of the ledger's column");
        for other in [
            set(batch, "too long", "b\n"),
            set(batch, "digit", "a\n"),
            set(BatchId::new(), "too long", "a\n"),
        ] {
            assert!(!other.holds_the_same(&one));
            assert_ne!(content(&one), content(&other));
        }
        let place = format!("{}{}/rows.csv.zst", layout::folder("Q/", batch), one.name);
        assert_eq!(one.rows_key("Q/"), place);
    }

    #[test]
    fn only_the_objects_of_a_set_are_its_own() {
        let (batch, one) = (BatchId::new(), set(BatchId::new(), "r", "a\n"));
        let own = layout::folder("Q/", batch);
        assert_eq!(name_of(&own, &folder("Q/", batch, &one.name)), Some(one.name.as_str()));
        for other in ["sift/", "notes/", "0123456789abcde/", "0123456789ABCDEF/", "0123456789abcdef"] {
            assert_eq!(name_of(&own, &format!("{own}{other}")), None, "{other}");
        }
        for name in ["rows.csv", "rows.csv.zst", "rows.csv.gz", REASONS, DESCRIPTION] {
            assert!(is_of_set(name), "{name}");
        }
        for name in
            ["rows.csv.bak", "rows.parquet", "notes.txt", "sub/rows.csv", "copy of quarantine.json", ""]
        {
            assert!(!is_of_set(name), "{name}");
        }
    }

    #[test]
    fn a_description_of_another_batch_or_of_what_no_table_has_is_refused() {
        let batch = BatchId::new();
        let good = set(batch, "r", "a\n").description;
        assert_eq!(good.fault(batch), None);
        let other = good.fault(BatchId::new()).unwrap();
        assert!(other.contains(&format!("it belongs to batch {batch}")), "{other}");
        let columns = vec!["evar1\" FROM x; --".to_owned()];
        assert!(Description { columns, ..good.clone() }.fault(batch).is_some());
        assert!(Description { columns: vec![], ..good.clone() }.fault(batch).is_some());
        assert!(Description { schema: "\x1b[2J".to_owned(), ..good }.fault(batch).is_some());
    }

    #[test]
    fn no_more_reasons_are_held_than_there_are_rows() {
        let line = json(&set(BatchId::new(), "r", "a\n").refusals[0]);
        let lines = [line.as_slice(), b"\n"].concat().repeat(3);
        assert_eq!(read_reasons(&lines, 3).unwrap().len(), 3);
        assert_eq!(read_reasons(&lines, 2).unwrap_err(), "it has reasons for more than 2 rows");
        assert!(read_reasons(b"{", 9).is_err());
    }

    #[test]
    fn a_description_reads_back_and_one_of_format_1_has_neither_content_nor_sizes() {
        let one = set(BatchId::new(), "r", "a\n");
        let written = Written {
            description: one.description.clone(),
            content: Some("c".to_owned()),
            bytes: Some((7, 9)),
        };
        let read: Written = serde_json::from_slice(&serde_json::to_vec(&written).unwrap()).unwrap();
        assert_eq!(
            (read.description, read.content, read.bytes),
            (one.description.clone(), written.content, Some((7, 9)))
        );
        // As it was written, and as its name was made.
        let old = Description { format: 1, ..one.description };
        let read: Written = serde_json::from_slice(&serde_json::to_vec(&old).unwrap()).unwrap();
        assert_eq!((read.description, read.content, read.bytes), (old, None, None));
    }
}
