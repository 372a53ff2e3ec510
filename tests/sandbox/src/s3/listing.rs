//! A page of keys. `s3s-fs` walks through the whole bucket for each, whatever the prefix: a store of thousands of folders
//! would answer more slowly the longer a test runs.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata};
use std::path::{Component, Path};

use s3s::dto::{CommonPrefix, ListObjectsV2Input, ListObjectsV2Output, Object, Timestamp};
use s3s::{S3Result, s3_error};

/// Keys of a page if nobody asks for fewer.
const PAGE: i32 = 1_000;

/// What a listing shows below a key: an object, or that there are some.
type Shown = BTreeMap<String, Option<Metadata>>;

/// One page of the objects below a folder, without their `ETag`s.
pub(super) fn page(bucket: &Path, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    if !bucket.is_dir() {
        return Err(s3_error!(NoSuchBucket));
    }
    let (prefix, folded) = (input.prefix.as_deref().unwrap_or_default(), input.delimiter.is_some());
    let mut shown = Shown::new();
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_below = Path::new(folder).components().all(|part| matches!(part, Component::Normal(_)));
    if is_below {
        let _gone = walk(&bucket.join(folder), bucket, prefix, folded, &mut shown);
    }
    let after = input.continuation_token.as_deref().max(input.start_after.as_deref());
    let most = input.max_keys.unwrap_or(PAGE);
    let mut left = shown.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let page: Vec<_> = left.by_ref().take(usize::try_from(most).unwrap_or_default()).collect();
    let is_truncated = left.next().is_some();
    let last = page.last().map(|(key, _)| key.clone());
    let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
    for (key, metadata) in page {
        match metadata {
            None => common_prefixes.push(CommonPrefix { prefix: Some(key) }),
            Some(metadata) => contents.push(Object {
                key: Some(key),
                size: i64::try_from(metadata.len()).ok(),
                last_modified: metadata.modified().ok().map(Timestamp::from),
                ..Object::default()
            }),
        }
    }
    Ok(ListObjectsV2Output {
        key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
        max_keys: Some(most),
        is_truncated: Some(is_truncated),
        contents: (!contents.is_empty()).then_some(contents),
        common_prefixes: (!common_prefixes.is_empty()).then_some(common_prefixes),
        next_continuation_token: last.filter(|_| is_truncated),
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        prefix: input.prefix,
        start_after: input.start_after,
        ..ListObjectsV2Output::default()
    })
}

/// Adds what is below a folder. What goes meanwhile is not there.
fn walk(folder: &Path, bucket: &Path, prefix: &str, folded: bool, shown: &mut Shown) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let Some(key) = key_of(&entry, bucket) else { continue };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if key.starts_with(prefix)
                && let Ok(metadata) = entry.metadata()
            {
                shown.insert(key, Some(metadata));
            }
            continue;
        }
        let below = format!("{key}/");
        if below.starts_with(prefix) && folded {
            if holds_an_object(&entry.path()) {
                shown.insert(below, None);
            }
        } else if below.starts_with(prefix) {
            let _gone = walk(&entry.path(), bucket, prefix, folded, shown);
        }
    }
    Ok(())
}

fn key_of(entry: &DirEntry, bucket: &Path) -> Option<String> {
    Some(entry.path().strip_prefix(bucket).ok()?.to_str()?.to_owned())
}

/// S3 knows no folder in which nothing is.
fn holds_an_object(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()) || holds_an_object(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(
        bucket: &Path,
        prefix: &str,
        folded: bool,
        after: Option<&str>,
        most: i32,
    ) -> (Vec<String>, bool) {
        let input = ListObjectsV2Input {
            bucket: "b".to_owned(),
            prefix: Some(prefix.to_owned()),
            delimiter: folded.then(|| "/".to_owned()),
            start_after: after.map(str::to_owned),
            max_keys: Some(most),
            ..ListObjectsV2Input::default()
        };
        let page = page(bucket, input).unwrap();
        let objects = page.contents.into_iter().flatten().filter_map(|object| object.key);
        let folders = page.common_prefixes.into_iter().flatten().filter_map(|folder| folder.prefix);
        (objects.chain(folders).collect(), page.next_continuation_token.is_some())
    }

    #[test]
    fn a_page_has_the_keys_below_its_prefix_in_their_order_and_folds_what_lies_deeper() {
        let bucket = tempfile::tempdir().unwrap();
        for key in ["a/1/x", "a/1/y", "a/10", "a/2/z", "ab", "c"] {
            let path = bucket.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        fs::create_dir_all(bucket.path().join("a/empty/deep")).unwrap();
        let listed = |prefix: &str, folded, after, most| listed(bucket.path(), prefix, folded, after, most);
        let all = |keys: &[&str]| (keys.iter().map(ToString::to_string).collect::<Vec<_>>(), false);
        assert_eq!(listed("", false, None, 9), all(&["a/1/x", "a/1/y", "a/10", "a/2/z", "ab", "c"]));
        assert_eq!(listed("a/1", false, None, 9), all(&["a/1/x", "a/1/y", "a/10"]));
        assert_eq!(listed("a/", true, None, 9), all(&["a/10", "a/1/", "a/2/"]));
        assert_eq!(listed("a", true, None, 9), all(&["ab", "a/"]));
        assert_eq!(listed("a/", false, Some("a/1/y"), 9), all(&["a/10", "a/2/z"]));
        assert_eq!(listed("nowhere/", false, None, 9), all(&[]));
        assert_eq!(listed("../", false, None, 9), all(&[]));
        assert_eq!(listed("a/", false, None, 2), (vec!["a/1/x".to_owned(), "a/1/y".to_owned()], true));
    }
}
