//! Whether the folder of a batch is what its seal says. A COPY of less would be loaded, and settled, for ever.

use std::collections::HashMap;

use shared::ids::BatchId;
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{Object, ObjectStore};
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::trouble::Trouble;

/// What S3 holds of a batch.
#[derive(Debug)]
pub enum Folder {
    /// All that the seal names.
    Whole(Box<Seal>),
    /// Something is missing or not as it was, or the batch was made for other columns.
    Unfit(Trouble),
}

/// Reads the seal of `batch` and compares it with a listing of its folder.
///
/// # Errors
/// When S3 cannot be asked. What it answers, however wrong, is a [`Folder`].
pub async fn verify(
    store: &ObjectStore,
    prefix: &str,
    batch: BatchId,
    fingerprint: &str,
) -> Result<Folder, Trouble> {
    let folder = layout::folder(prefix, batch);
    let json = match store.get(&format!("{folder}{SEAL}")).await {
        Ok(json) => json,
        Err(error) if error.is_not_found() => {
            let why = format!("{folder}{SEAL} is gone");
            return Ok(Folder::Unfit(Trouble::of_batch(ErrorClass::Incomplete, why)));
        }
        Err(error) => return Err(error.into()),
    };
    let seal = match Seal::read(batch, &json) {
        Ok(seal) => seal,
        Err(error) => {
            let why = format!("{folder}{SEAL}: {error}");
            return Ok(Folder::Unfit(Trouble::of_batch(ErrorClass::Incomplete, why)));
        }
    };
    let objects = store.list(&folder, None).await?;
    Ok(match compare(&seal, &folder, &objects, fingerprint) {
        Ok(()) => Folder::Whole(Box::new(seal)),
        Err(trouble) => Folder::Unfit(trouble),
    })
}

fn compare(seal: &Seal, folder: &str, objects: &[Object], fingerprint: &str) -> Result<(), Trouble> {
    if seal.schema != fingerprint {
        let made = &seal.schema;
        let why = format!("its rows were made for schema {made}, this ingester loads schema {fingerprint}");
        return Err(Trouble {
            advice: "let [schema] be the same for both services, or load it with an ingester of its schema",
            ..Trouble::of_batch(ErrorClass::Configuration, why)
        });
    }
    let sizes: HashMap<&str, u64> =
        objects.iter().filter_map(|object| Some((object.key.strip_prefix(folder)?, object.size))).collect();
    let incomplete = |why: String| Err(Trouble::of_batch(ErrorClass::Incomplete, why));
    for file in &seal.files {
        match sizes.get(file.name.as_str()) {
            None => return incomplete(format!("{folder}{} is missing", file.name)),
            Some(size) if *size != file.bytes => {
                let (name, sealed) = (&file.name, file.bytes);
                return incomplete(format!("{folder}{name} has {size} bytes, the seal says {sealed}"));
            }
            Some(_) => {}
        }
    }
    if sizes.contains_key(MANIFEST) { Ok(()) } else { incomplete(format!("{folder}{MANIFEST} is missing")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chrono::Utc;
    use shared::ids::Instance;
    use shared::layout::Compression;
    use shared::seal::{Counts, SEAL_FORMAT, SealedFile};

    /// A seal of two files with ten rows each.
    pub(crate) fn seal() -> Seal {
        let file = |n: u32| SealedFile {
            name: layout::file_name(n, Compression::Zstd),
            rows: 10,
            bytes: 100,
            crc32: "AAAAAA==".to_owned(),
            etag: "e".to_owned(),
        };
        let moment = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        Seal {
            format: SEAL_FORMAT,
            batch: BatchId::new(),
            instance: Instance::try_from("web-1".to_owned()).unwrap(),
            created: Utc::now(),
            sealed: Utc::now(),
            schema: "0123456789abcdef".to_owned(),
            compression: Compression::Zstd,
            files: vec![file(0), file(1)],
            rows: 20,
            bytes: 200,
            first_received: None,
            last_received: Some(moment),
            counts: Counts { received: 23, rows: 20, duplicates: 2, filtered: 1, ..Counts::default() },
        }
    }

    fn whole() -> Vec<Object> {
        [("0.csv.zst", 100), ("1.csv.zst", 100), (SEAL, 500), (MANIFEST, 300)]
            .map(|(name, size)| Object { key: format!("f/{name}"), size })
            .to_vec()
    }

    fn why(objects: &[Object]) -> String {
        let trouble = compare(&seal(), "f/", objects, "0123456789abcdef").unwrap_err();
        assert_eq!(trouble.class, ErrorClass::Incomplete);
        trouble.why
    }

    #[test]
    fn a_whole_folder_is_fit_whatever_else_lies_in_it() {
        let mut objects = whole();
        objects.push(Object { key: "f/notes.txt".to_owned(), size: 1 });
        assert_eq!(compare(&seal(), "f/", &objects, "0123456789abcdef"), Ok(()));
    }

    #[test]
    fn what_is_missing_or_altered_is_named() {
        let without = |name: &str| whole().into_iter().filter(|o| !o.key.ends_with(name)).collect::<Vec<_>>();
        assert_eq!(why(&without("1.csv.zst")), "f/1.csv.zst is missing");
        assert_eq!(why(&without(MANIFEST)), "f/manifest.json is missing");
        let mut cut = whole();
        cut[0].size = 99;
        assert_eq!(why(&cut), "f/0.csv.zst has 99 bytes, the seal says 100");
    }

    #[test]
    fn a_batch_for_other_columns_names_both_schemas_and_holds_no_other_batch() {
        let trouble = compare(&seal(), "f/", &whole(), "ffffffffffffffff").unwrap_err();
        assert_eq!((trouble.class, trouble.scope), (ErrorClass::Configuration, crate::trouble::Scope::Batch));
        assert!(
            trouble.why.contains("0123456789abcdef") && trouble.why.contains("ffffffffffffffff"),
            "{trouble}"
        );
    }
}
