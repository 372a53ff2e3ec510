//! Reads the seal of a batch, and verifies that its folder is as the seal says. A COPY of less, or of something else, would never be noticed
//! again.
//!
//! One listing shows whether every object is there, with its size and `ETag`. The `ETag` is that of the seal as long as
//! nobody touched the object: with another one its content is suspect and no more, since S3 gives the same bytes another
//! `ETag` when they are copied in parts or encrypted anew. What counts then is the CRC-32 of the content.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use shared::human;
use shared::ids::BatchId;
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{Object, ObjectStore, ObjectStoreError, ObjectStoreErrorKind, SMALL};
use shared::seal::{AHEAD, Manifest, Seal, SealedFile};
use state::loads::ErrorClass;

use crate::facts::batch::unnamed_schema;
use crate::failure::{LoadFailure, Scope};

/// Objects that are named at most; the others are counted.
const NAMED: usize = 5;
/// Files that S3 is asked for at once, of which the listing does not tell whether they are as they were.
const ASKED_AT_ONCE: usize = 8;

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
) -> Result<SealRead, ObjectStoreError> {
    let json = get_if_there(store, &format!("{folder}{SEAL}")).await?;
    Ok(match json.map(|json| Seal::read(batch, &json)) {
        Some(Ok(seal)) => SealRead::Usable(Box::new(seal)),
        Some(Err(error)) => SealRead::Unusable(error.to_string()),
        None => SealRead::Missing,
    })
}

/// The content of a small object; None if it is not there.
pub(crate) async fn get_if_there(store: &ObjectStore, key: &str) -> Result<Option<Bytes>, ObjectStoreError> {
    match store.get_at_most(key, SMALL).await {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What S3 holds of a batch.
#[derive(Debug)]
pub enum Folder {
    /// All that the seal names.
    Whole(Box<Seal>),
    /// Something is missing or not as it was, or the batch was made for other columns.
    Unfit(LoadFailure),
}

/// Reads the seal of `batch` and compares it with a listing of its folder. Fails only when S3 cannot be asked.
pub async fn verify(
    store: &ObjectStore,
    prefix: &str,
    batch: BatchId,
    fingerprint: &str,
    now: DateTime<Utc>,
) -> Result<Folder, LoadFailure> {
    let folder = layout::folder(prefix, batch);
    let seal = match read_seal(store, &folder, batch).await {
        Ok(SealRead::Usable(seal)) => seal,
        Ok(SealRead::Unusable(why)) => return Ok(incomplete(&[format!("{folder}{SEAL}: {why}")])),
        Ok(SealRead::Missing) => return Ok(incomplete(&[format!("{folder}{SEAL} is gone")])),
        Err(error) => return Err(whose(store, &folder, error).await),
    };
    if let Err(failure) = for_these_columns(&seal, fingerprint) {
        return Ok(Folder::Unfit(failure));
    }
    if let Some(why) = time_fault(&seal, now) {
        return Ok(incomplete(&[format!("{folder}{SEAL}: {why}")]));
    }
    match faults(store, &folder, &seal).await {
        Ok(faults) if faults.is_empty() => Ok(Folder::Whole(seal)),
        Ok(faults) => Ok(incomplete(&faults)),
        Err(error) => Err(whose(store, &folder, error).await),
    }
}

/// What S3 refuses of a folder that it lists concerns that batch alone: an object may be encrypted with somebody else's key.
async fn whose(store: &ObjectStore, folder: &str, error: ObjectStoreError) -> LoadFailure {
    let is_refused = error.kind() != ObjectStoreErrorKind::Passing;
    let failure = LoadFailure::from(error);
    let is_own = is_refused && store.list_page(folder, None).await.is_ok();
    LoadFailure { scope: if is_own { Scope::Batch } else { failure.scope }, ..failure }
}

/// What is not as `seal` says in `folder`, each with the object's key; nothing if the folder is whole.
async fn faults(store: &ObjectStore, folder: &str, seal: &Seal) -> Result<Vec<String>, ObjectStoreError> {
    let key = format!("{folder}{MANIFEST}");
    let (faults, manifest) = tokio::join!(file_faults(store, folder, seal), get_if_there(store, &key));
    let mut faults = faults?;
    match manifest {
        Ok(Some(json)) => faults.extend(manifest_fault(seal, folder, store.bucket(), &json)),
        Ok(None) => faults.push(format!("{key} is missing")),
        Err(error) if error.is_too_large() => faults.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(faults)
}

/// The same of the files alone: in an archive the manifest still names the place they were loaded from.
pub(crate) async fn file_faults(
    store: &ObjectStore,
    folder: &str,
    seal: &Seal,
) -> Result<Vec<String>, ObjectStoreError> {
    let names: HashSet<&str> = seal.files.iter().map(|file| file.name.as_str()).collect();
    let objects = match store.list_folder(folder, |name| names.contains(name)).await {
        Ok(objects) => objects,
        Err(error) if error.is_too_large() => return Ok(vec![error.to_string()]),
        Err(error) => return Err(error),
    };
    let compared = compare(seal, folder, &objects);
    let mut faults = compared.faults;
    let suspects =
        compared.suspects.iter().map(|file| (format!("{folder}{}", file.name), file.crc32.clone()));
    let suspects: Vec<(String, String)> = suspects.collect();
    let asking = suspects.into_iter().map(|(key, sealed)| async move {
        let answer = store.crc32_of(&key).await;
        (key, sealed, answer)
    });
    let mut asked = stream::iter(asking).buffered(ASKED_AT_ONCE);
    while let Some((key, sealed, answer)) = asked.next().await {
        match answer {
            Ok(crc32) if crc32 == sealed => {}
            Ok(crc32) => {
                faults.push(format!("{key} was altered: its CRC-32 is {crc32}, the seal says {sealed}"));
            }
            Err(error) if error.is_not_found() => faults.push(format!("{key} is missing")),
            Err(error) => return Err(error),
        }
    }
    Ok(faults)
}

fn incomplete(faults: &[String]) -> Folder {
    let mut why = faults.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    if let Some(more) = faults.len().checked_sub(NAMED).filter(|more| *more > 0) {
        why += &format!("; and {more} more");
    }
    Folder::Unfit(LoadFailure::of_batch(ErrorClass::Incomplete, why))
}

/// A batch of rows from years ahead would overlap in the ledger with all that come until then, and each of those would be
/// compared with the table.
fn time_fault(seal: &Seal, now: DateTime<Utc>) -> Option<String> {
    let last = seal.last_received.max(seal.first_received).filter(|last| *last > now + AHEAD)?;
    Some(format!("it has rows received at {}, more than a day ahead of the clock", human::time(last)))
}

fn for_these_columns(seal: &Seal, fingerprint: &str) -> Result<(), LoadFailure> {
    let Some(made) = unnamed_schema(seal).filter(|made| made != fingerprint) else { return Ok(()) };
    let why = format!(
        "its rows were made for schema {made}, its seal does not name their columns, and this ingester loads schema \
         {fingerprint}"
    );
    Err(LoadFailure {
        advice: "let [schema] be the same for both services, or load it with an ingester of its schema",
        ..LoadFailure::of_batch(ErrorClass::Configuration, why)
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Compared<'s> {
    faults: Vec<String>,
    /// Files of the right size whose `ETag` is not the sealed one.
    suspects: Vec<&'s SealedFile>,
}

fn compare<'s>(seal: &'s Seal, folder: &str, objects: &[Object]) -> Compared<'s> {
    let there: HashMap<&str, &Object> =
        objects.iter().filter_map(|object| Some((object.key.strip_prefix(folder)?, object))).collect();
    let mut compared = Compared::default();
    for file in &seal.files {
        let name = &file.name;
        match there.get(name.as_str()) {
            None => compared.faults.push(format!("{folder}{name} is missing")),
            Some(object) if object.size != file.bytes => {
                let (size, sealed) = (object.size, file.bytes);
                let fault = format!("{folder}{name} has {size} bytes, the seal says {sealed}");
                compared.faults.push(fault);
            }
            Some(object) if object.etag != file.etag => compared.suspects.push(file),
            Some(_) => {}
        }
    }
    compared
}

/// COPY reads what the manifest names, so it must name the sealed files, each once, and nothing else.
pub(crate) fn manifest_fault(seal: &Seal, folder: &str, bucket: &str, json: &[u8]) -> Option<String> {
    let keys: Vec<String> = seal.files.iter().map(|file| format!("{folder}{}", file.name)).collect();
    let wanted = Manifest::of(bucket, keys.iter().map(String::as_str));
    let same = serde_json::from_slice::<Manifest>(json).is_ok_and(|manifest| manifest == wanted);
    (!same).then(|| format!("{folder}{MANIFEST} was altered: it does not name the files of the seal"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use shared::content::Content;
    use shared::ids::{Instance, RunId};
    use shared::layout::Compression;
    use shared::seal::{Compared, Counts, Forgotten, KnownRun, SEAL_FORMAT};

    use super::*;

    /// A seal of two files with ten rows each.
    pub(crate) fn seal() -> Seal {
        let file = |n: u32| SealedFile {
            name: layout::file_name(n, Compression::Zstd),
            rows: 10,
            bytes: 100,
            crc32: "AAAAAA==".to_owned(),
            etag: "e".to_owned(),
        };
        let now = shared::clock::Clock::system().wall();
        let moment = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        Seal {
            format: SEAL_FORMAT,
            batch: BatchId::new(),
            instance: Instance::try_from("web-1".to_owned()).unwrap(),
            created: now,
            sealed: now,
            schema: "0123456789abcdef".to_owned(),
            columns: None,
            compression: Compression::Zstd,
            files: vec![file(0), file(1)],
            rows: 20,
            bytes: 200,
            first_received: None,
            last_received: Some(moment),
            counts: Counts { received: 23, rows: 20, duplicates: 2, filtered: 1, ..Counts::default() },
            content: Some(Content::of_rows(b"")),
            compared: None,
            pseudonym_key: None,
            forgotten: None,
        }
    }

    fn object(name: &str, size: u64, etag: &str) -> Object {
        Object { key: format!("f/{name}"), size, etag: etag.to_owned() }
    }

    fn whole() -> Vec<Object> {
        vec![
            object("0.csv.zst", 100, "e"),
            object("1.csv.zst", 100, "e"),
            object(SEAL, 500, "s"),
            object(MANIFEST, 300, "m"),
        ]
    }

    #[test]
    fn a_whole_folder_is_fit_whatever_else_lies_in_it() {
        let mut objects = whole();
        objects.push(object("notes.txt", 1, ""));
        assert_eq!(compare(&seal(), "f/", &objects), super::Compared::default());
    }

    #[test]
    fn everything_that_is_missing_or_of_another_size_is_named() {
        let seal = seal();
        let objects: Vec<_> = whole().into_iter().filter(|o| !o.key.ends_with("1.csv.zst")).collect();
        assert_eq!(compare(&seal, "f/", &objects).faults, ["f/1.csv.zst is missing"]);
        let mut cut = objects;
        cut[0].size = 99;
        let both = ["f/0.csv.zst has 99 bytes, the seal says 100", "f/1.csv.zst is missing"];
        assert_eq!(compare(&seal, "f/", &cut).faults, both);
    }

    #[test]
    fn another_etag_or_none_makes_a_file_of_the_right_size_suspect() {
        let seal = seal();
        for etag in ["other", ""] {
            let mut objects = whole();
            objects[1].etag = etag.to_owned();
            let compared = compare(&seal, "f/", &objects);
            assert_eq!((compared.faults.len(), compared.suspects), (0, vec![&seal.files[1]]), "{etag:?}");
        }
    }

    #[test]
    fn a_manifest_must_name_the_sealed_files_each_once_and_nothing_else() {
        let seal = seal();
        let fault = |keys: &[&str], bucket| {
            let json = serde_json::to_vec(&Manifest::of(bucket, keys.iter().copied())).unwrap();
            manifest_fault(&seal, "f/", "b", &json).is_some()
        };
        assert!(!fault(&["f/0.csv.zst", "f/1.csv.zst"], "b"));
        assert!(fault(&["f/0.csv.zst", "f/1.csv.zst"], "other"));
        assert!(fault(&["f/0.csv.zst"], "b"));
        assert!(fault(&["f/0.csv.zst", "f/0.csv.zst"], "b"), "as many rows, the same ones twice");
        assert!(manifest_fault(&seal, "f/", "b", b"{").is_some());
        // What this program passes over COPY may read: another spelling of a field, or the same one twice.
        let keys = ["f/0.csv.zst", "f/1.csv.zst"];
        let whole = serde_json::to_string(&Manifest::of("b", keys)).unwrap();
        let other = r#"[{"url":"s3://other/f/0.csv.zst","mandatory":true}]"#;
        for more in [format!(r#""Entries":{other}"#), format!(r#""entries":{other}"#), "\"x\":1".to_owned()] {
            let json = format!("{{{more},{}", &whole[1..]);
            assert!(manifest_fault(&seal, "f/", "b", json.as_bytes()).is_some(), "{json}");
        }
        for more in [r#""URL":"s3://other/f/0.csv.zst""#, r#""meta":{"content_length":1}"#] {
            let json = whole.replacen("{\"url\"", &format!("{{{more},\"url\""), 1);
            assert!(manifest_fault(&seal, "f/", "b", json.as_bytes()).is_some(), "{json}");
        }
        assert!(manifest_fault(&seal, "f/", "b", whole.as_bytes()).is_none());
    }

    #[test]
    fn a_batch_from_the_future_is_not_loaded_before_its_time() {
        let now: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
        let at = |last| Seal { first_received: None, last_received: Some(last), ..seal() };
        assert_eq!(time_fault(&at(now + AHEAD), now), None, "as a producer believes it");
        let late = time_fault(&at(now + AHEAD * 2), now).unwrap();
        assert_eq!(
            late,
            "it has rows received at 2026-03-04 12:00:00 UTC, more than a day ahead of the clock"
        );
        let first = Seal { first_received: Some(now + AHEAD * 2), last_received: None, ..seal() };
        assert!(time_fault(&first, now).is_some());
    }

    #[test]
    fn many_faults_are_told_in_few_words() {
        let faults: Vec<String> = (0..7).map(|n| format!("{n} is missing")).collect();
        let Folder::Unfit(failure) = incomplete(&faults) else { panic!() };
        assert_eq!(failure.class, ErrorClass::Incomplete);
        assert!(failure.why.ends_with("4 is missing; and 2 more"), "{failure}");
    }

    #[test]
    fn a_batch_for_other_columns_names_both_schemas_and_holds_no_other_batch() {
        let failure = for_these_columns(&seal(), "ffffffffffffffff").unwrap_err();
        assert_eq!((failure.class, failure.scope), (ErrorClass::Configuration, crate::failure::Scope::Batch));
        assert!(
            failure.why.contains("0123456789abcdef") && failure.why.contains("ffffffffffffffff"),
            "{failure}"
        );
        assert_eq!(for_these_columns(&seal(), "0123456789abcdef"), Ok(()));
    }

    /// The paths of everything in it.
    fn paths(json: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match json {
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, one)| paths(one, &format!("{at}/{n}"), all));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, one)| paths(one, &format!("{at}/{name}"), all));
            }
            _ => {}
        }
    }

    fn odd() -> impl Strategy<Value = Value> {
        let limits = [1_000_000, (1_u64 << 30) + (16 << 20), 1_000_000_000_000_000, 1 << 63, u64::MAX];
        prop_oneof![
            any::<String>().prop_map(Value::from),
            "[ -~]{0,300}".prop_map(Value::from),
            "[a-f0-9]{15,17}".prop_map(Value::from),
            "[+-]?[0-9]{4,6}-0[1-9]-0[1-9]T00:00:00Z".prop_map(Value::from),
            "[A-Za-z0-9+/]{5,7}={1,3}".prop_map(Value::from),
            "[0-9./]{1,9}[.]csv([.]zst)?".prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (prop::sample::select(limits.to_vec()), 0..3_u64)
                .prop_map(|(n, more)| Value::from((n - 1).saturating_add(more))),
            prop::sample::select(vec![
                Value::Null,
                json!([]),
                json!({}),
                json!([[]]),
                json!(true),
                json!("..")
            ]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn of_a_seal_that_is_used_every_text_is_short_and_plain_and_every_number_bounded(
            place in any::<prop::sample::Index>(),
            odd in odd(),
        ) {
            let known = vec![KnownRun { run: RunId::new(), until: 3 }];
            let sealed = Seal {
                columns: Some(vec!["hitidhigh".to_owned(), "pagename".to_owned()]),
                compared: Some(Compared { run: RunId::new(), number: 7, known, uncompared: 0 }),
                pseudonym_key: Some("0123abcd".to_owned()),
                forgotten: Some(Forgotten { rows: 1, sealed_bytes: 300, replaced: vec!["7.csv.zst".to_owned()], highest: 7 }),
                ..seal()
            };
            let (mut json, mut all) = (serde_json::to_value(&sealed).unwrap(), Vec::new());
            paths(&json, "", &mut all);
            *json.pointer_mut(&all[place.index(all.len())]).unwrap() = odd;
            match Seal::read(sealed.batch, &serde_json::to_vec(&json).unwrap()) {
                Ok(used) => {
                    let (used, mut all) = (serde_json::to_value(&used).unwrap(), Vec::new());
                    paths(&used, "", &mut all);
                    for path in all {
                        match used.pointer(&path).unwrap() {
                            Value::String(text) => {
                                let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                                prop_assert!(plain && text.len() <= 256, "{} {:?}", path, text);
                            }
                            Value::Number(number) => {
                                let bounded = number.as_u64().is_some_and(|n| n <= 1_000_000_000_000_000);
                                prop_assert!(bounded, "{} {}", path, number);
                            }
                            _ => {}
                        }
                    }
                }
                Err(why) => {
                    let why = why.to_string();
                    prop_assert!(why.len() < 1_000 && !why.contains(char::is_control), "{}", why);
                }
            }
        }
    }
}
