//! Lists the folders of batches.

use std::collections::BTreeSet;

use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{Next, Object, ObjectStore, ObjectStoreError};

/// A folder in which there is something of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub batch: BatchId,
    /// The `ETag` of its seal, if it has one.
    pub seal: Option<String>,
}

/// The folders below `within`, which is `prefix` or a part of it, in their order, and the requests it took.
pub(crate) async fn list_folders(
    store: &ObjectStore,
    prefix: &str,
    within: &str,
    mut from: Option<Next>,
) -> Result<(Vec<Listed>, u64), ObjectStoreError> {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let (page, next) = store.list_page(within, from.as_ref()).await?;
        add_page(&mut found, prefix, &page);
        pages += 1;
        if next.is_none() {
            return Ok((found, pages));
        }
        from = next;
    }
}

/// Keys come in order, so the objects of a folder stand together, if need be over the edge of a page.
fn add_page(found: &mut Vec<Listed>, prefix: &str, page: &[Object]) {
    for object in page {
        let Some((batch, name)) = layout::parse_key(prefix, &object.key) else { continue };
        if !layout::is_of_batch(name) {
            continue;
        }
        let seal = (name == SEAL).then(|| object.etag.clone());
        match found.last_mut() {
            Some(last) if last.batch == batch => last.seal = last.seal.take().or(seal),
            _ => found.push(Listed { batch, seal }),
        }
    }
}

/// The batches that have a folder in that of a day.
pub(crate) async fn batches_of_day(
    store: &ObjectStore,
    day: &str,
) -> Result<BTreeSet<BatchId>, ObjectStoreError> {
    let folders = store.folders(day, |name| layout::parse_folder(name).is_some()).await?;
    let id = |folder: &String| layout::parse_folder(folder.strip_prefix(day)?.strip_suffix('/')?);
    Ok(folders.iter().filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(batch: BatchId, names: &[&str]) -> Vec<Object> {
        let folder = layout::folder("ToIngest/", batch);
        names
            .iter()
            .map(|name| Object { key: format!("{folder}{name}"), size: 1, etag: String::new() })
            .collect()
    }

    #[test]
    fn a_folder_is_a_batch_when_its_seal_is_there_on_whichever_page() {
        let (whole, open) = (BatchId::new(), BatchId::new());
        let mut found = Vec::new();
        add_page(&mut found, "ToIngest/", &objects(whole, &["0.csv.zst"]));
        add_page(&mut found, "ToIngest/", &objects(whole, &["1.csv.zst", "batch.json", "manifest.json"]));
        add_page(&mut found, "ToIngest/", &objects(open, &["0.csv.zst", "manifest.json"]));
        add_page(
            &mut found,
            "ToIngest/",
            &[Object { key: "ToIngest/.check/batch.json".to_owned(), size: 1, etag: String::new() }],
        );
        add_page(&mut found, "ToIngest/", &objects(BatchId::new(), &["notes.txt", "sub/batch.json"]));
        let seal = Some(String::new());
        assert_eq!(found, [Listed { batch: whole, seal }, Listed { batch: open, seal: None }]);
    }
}
