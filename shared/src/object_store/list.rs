//! Listings: page by page, in the order of the keys. Keys are asked for in the encoding of URLs: one that holds a character which
//! XML does not know would make an answer that nobody can read, and anybody who may write to the bucket can write one.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object as Listed};
use chrono::{DateTime, Utc};

use crate::object_store::error::{ObjectStoreError, ObjectStoreErrorKind};
use crate::object_store::send;
use crate::object_store::store::ObjectStore;

/// Objects a LIST answers with at most; S3's own limit.
const PAGE: i32 = 1000;
/// Requests at most to list a folder of ours: the largest batch takes two.
const FOLDER_PAGES: usize = 20;
const OTHERS_ADVICE: &str = "look at what others have put there, and delete it";

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its `ETag`, quotes included; empty when the store's listings do not tell.
    pub etag: String,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Behind this key.
    After(String),
    /// Where S3 says: a page may be empty although there are more.
    Token(String),
}

impl From<Listed> for Object {
    fn from(listed: Listed) -> Self {
        Self {
            size: listed.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            key: listed.key.unwrap_or_default(),
            etag: listed.e_tag.unwrap_or_default(),
        }
    }
}

#[derive(Clone, Copy)]
enum Shows {
    Objects,
    Folders,
}

impl ObjectStore {
    /// Up to 1000 objects below `prefix`, and where the listing continues. A page may be empty before the end.
    pub async fn list_page(
        &self,
        prefix: &str,
        from: Option<&Next>,
    ) -> Result<(Vec<Object>, Option<Next>), ObjectStoreError> {
        let (page, next) = self.page(prefix, Shows::Objects, from).await?;
        Ok((page.contents.unwrap_or_default().into_iter().map(Object::from).collect(), next))
    }

    /// Every object below `prefix` and after `after`.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Object>, ObjectStoreError> {
        let after = after.map(|after| Next::After(after.to_owned()));
        self.gather(prefix, after, usize::MAX, |object| Some(object.into())).await
    }

    /// The objects below `prefix` whose names behind it are `ours`. However many others lie there, they take no memory.
    pub async fn list_where(
        &self,
        prefix: &str,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Object>, ObjectStoreError> {
        let is_ours = |object: &Object| object.key.strip_prefix(prefix).is_some_and(&ours);
        self.gather(prefix, None, usize::MAX, |object| Some(Object::from(object)).filter(is_ours)).await
    }

    /// The same of the folder of a batch or of a set, in which few objects are ours. It is an error when thousands lie there,
    /// so that no writer of objects decides how long this takes.
    pub async fn list_folder(
        &self,
        folder: &str,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Object>, ObjectStoreError> {
        let is_ours = |object: &Object| object.key.strip_prefix(folder).is_some_and(&ours);
        self.gather(folder, None, FOLDER_PAGES, |object| Some(Object::from(object)).filter(is_ours)).await
    }

    /// The keys below `prefix` that are `ours`, of objects that were written before `before`.
    pub async fn list_older(
        &self,
        prefix: &str,
        before: DateTime<Utc>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ObjectStoreError> {
        let is_old = |object: &Listed| object.last_modified.is_some_and(|at| at.secs() < before.timestamp());
        let key = |object| Some(object).filter(is_old)?.key.filter(|key| ours(key));
        self.gather(prefix, None, usize::MAX, key).await
    }

    /// The folders directly below `prefix` whose names are `ours`, each as `{prefix}name/`: a thousand to a request. However many
    /// others lie there, they take no memory.
    pub async fn folders(
        &self,
        prefix: &str,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ObjectStoreError> {
        let is_ours = |folder: &String| {
            folder.strip_prefix(prefix).and_then(|name| name.strip_suffix('/')).is_some_and(&ours)
        };
        let (mut folders, mut from) = (Vec::new(), None);
        loop {
            let (page, next) = self.page(prefix, Shows::Folders, from.as_ref()).await?;
            let found = page.common_prefixes.unwrap_or_default();
            folders.extend(found.into_iter().filter_map(|folder| folder.prefix).filter(is_ours));
            if next.is_none() {
                return Ok(folders);
            }
            from = next;
        }
    }

    async fn gather<T>(
        &self,
        prefix: &str,
        mut from: Option<Next>,
        most_pages: usize,
        wanted: impl Fn(Listed) -> Option<T>,
    ) -> Result<Vec<T>, ObjectStoreError> {
        let mut all = Vec::new();
        for _ in 0..most_pages {
            let (page, next) = self.page(prefix, Shows::Objects, from.as_ref()).await?;
            all.extend(page.contents.unwrap_or_default().into_iter().filter_map(&wanted));
            if next.is_none() {
                return Ok(all);
            }
            from = next;
        }
        let reason =
            format!("{most_pages} requests do not list what lies there: this program did not write it");
        let error = self.error("LIST", prefix, reason, ObjectStoreErrorKind::Configuration);
        Err(ObjectStoreError { too_large: true, advice: OTHERS_ADVICE, ..error })
    }

    async fn page(
        &self,
        prefix: &str,
        shows: Shows,
        from: Option<&Next>,
    ) -> Result<(ListObjectsV2Output, Option<Next>), ObjectStoreError> {
        let request = self.client().list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(PAGE);
        let request = request.encoding_type(EncodingType::Url);
        let request = request.set_expected_bucket_owner(self.terms.owner());
        let request = match from {
            None => request,
            Some(Next::After(key)) => request.start_after(key),
            Some(Next::Token(token)) => request.continuation_token(token),
        };
        let request = match shows {
            Shows::Objects => request,
            Shows::Folders => request.delimiter("/"),
        };
        let page =
            send::list_objects_v2(request).await.map_err(|error| self.failed("LIST", prefix, &error))?;
        let page = decoded(page);
        let last = match shows {
            Shows::Objects => page.contents().last().and_then(|object| object.key.clone()),
            // Several names fold into one folder, so no key says where to continue.
            Shows::Folders => None,
        };
        let next = following(page.is_truncated, last, page.next_continuation_token.clone(), from)
            .map_err(|why| self.error("LIST", prefix, why.to_owned(), ObjectStoreErrorKind::Passing))?;
        Ok((page, next))
    }
}

/// With keys as they are. A store that does not know the encoding does not say that it used it.
fn decoded(mut page: ListObjectsV2Output) -> ListObjectsV2Output {
    if page.encoding_type == Some(EncodingType::Url) {
        let objects = page.contents.iter_mut().flatten().filter_map(|object| object.key.as_mut());
        let folders = page.common_prefixes.iter_mut().flatten().filter_map(|folder| folder.prefix.as_mut());
        objects.chain(folders).for_each(|key| *key = decode(key));
    }
    page
}

/// `+` is a space, `%2B` a plus. What is no encoding stays as it is.
fn decode(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<2>().and_then(|pair| std::str::from_utf8(pair).ok());
        let (decoded, after) = match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => (decoded, behind.get(2..).unwrap_or_default()),
            (b'+', _) => (b' ', behind),
            (byte, _) => (byte, behind),
        };
        bytes.push(decoded);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where a listing continues; None at its end. A page that ends where it began would be asked for for ever.
fn following(
    truncated: Option<bool>,
    last: Option<String>,
    token: Option<String>,
    from: Option<&Next>,
) -> Result<Option<Next>, &'static str> {
    // A store that does not say whether there is more says it by a token.
    if !truncated.unwrap_or(token.is_some()) {
        return Ok(None);
    }
    let next = last.map(Next::After).or(token.map(Next::Token));
    match next {
        None => Err("it says that there is more, and not where"),
        next if next.as_ref() == from => Err("it says that there is more, and does not come on"),
        next => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::object_store::tests::{read_request, store};

    #[tokio::test]
    async fn a_folder_without_end_is_listed_no_further_than_one_of_ours_can_go() {
        let pages = Arc::new(AtomicUsize::new(0));
        let sent = Arc::clone(&pages);
        let endless = store(move |mut socket, number| {
            sent.fetch_add(1, Ordering::SeqCst);
            async move {
                read_request(&mut socket).await;
                let xml = format!(
                    "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>f/{number:09}</Key>\
                     <Size>1</Size></Contents></ListBucketResult>"
                );
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
                let answer = format!("{head} {}\r\n\r\n{xml}", xml.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        })
        .await;
        let error = endless.list_folder("f/", |_| true).await.unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains("/f/: 20 requests"), "{error}");
        assert_eq!(pages.load(Ordering::SeqCst), FOLDER_PAGES);
    }

    #[test]
    fn keys_come_as_they_are_whatever_is_in_them() {
        assert_eq!(decode("ToIngest/20260302/a-1/batch.json"), "ToIngest/20260302/a-1/batch.json");
        assert_eq!(decode("a%01%0A%1B%5B2J%2Fx+y%2B%25%C3%BC"), "a\u{1}\n\u{1b}[2J/x y+%ü");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
        let listed = || Listed::builder().key("a%2Fb").build();
        let page = |encoding| {
            let page = ListObjectsV2Output::builder().contents(listed()).set_encoding_type(encoding).build();
            decoded(page).contents.unwrap_or_default().remove(0).key
        };
        assert_eq!(page(Some(EncodingType::Url)).as_deref(), Some("a/b"));
        assert_eq!(page(None).as_deref(), Some("a%2Fb"), "it was not asked for, or is not known there");
    }

    #[test]
    fn only_the_word_that_nothing_follows_ends_a_listing() {
        let (key, token) = (|| Some("k".to_owned()), || Some("t".to_owned()));
        let (after, at) = (Next::After("k".to_owned()), Next::Token("t".to_owned()));
        assert_eq!(following(Some(false), key(), token(), None), Ok(None));
        assert_eq!(following(None, key(), None, None), Ok(None));
        assert_eq!(following(Some(true), key(), token(), None), Ok(Some(after.clone())));
        assert_eq!(following(Some(true), None, token(), Some(&after)), Ok(Some(at.clone())), "an empty page");
        assert_eq!(following(None, None, token(), None), Ok(Some(at.clone())));
        assert!(following(Some(true), None, None, None).is_err());
        assert!(following(Some(true), None, token(), Some(&at)).is_err());
        assert!(following(Some(true), key(), None, Some(&after)).is_err());
    }
}
