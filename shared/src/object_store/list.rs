//! Listings: page by page, in the order of the keys.

use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use chrono::{DateTime, Utc};

use crate::object_store::error::{StoreError, StoreErrorKind};
use crate::object_store::send;
use crate::object_store::store::ObjectStore;

/// Objects a LIST answers with at most; S3's own limit.
const PAGE: i32 = 1000;

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

impl ObjectStore {
    fn listing(&self, prefix: &str) -> ListObjectsV2FluentBuilder {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        request.set_expected_bucket_owner(self.terms.owner())
    }

    /// One page of a listing, in the order of the keys: up to 1000 objects below `prefix`, and where it goes on. Only
    /// S3's word that nothing follows ends a listing; a page may be empty before.
    ///
    /// # Errors
    /// When S3 refuses, or does not come on.
    pub async fn list_page(
        &self,
        prefix: &str,
        from: Option<&Next>,
    ) -> Result<(Vec<Object>, Option<Next>), StoreError> {
        let (page, next) = self.list_raw(prefix, from).await?;
        let object = |object: aws_sdk_s3::types::Object| Object {
            size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            key: object.key.unwrap_or_default(),
            etag: object.e_tag.unwrap_or_default(),
        };
        Ok((page.into_iter().map(object).collect(), next))
    }

    async fn list_raw(
        &self,
        prefix: &str,
        from: Option<&Next>,
    ) -> Result<(Vec<aws_sdk_s3::types::Object>, Option<Next>), StoreError> {
        let request = self.listing(prefix).max_keys(PAGE);
        let request = match from {
            None => request,
            Some(Next::After(key)) => request.start_after(key),
            Some(Next::Token(token)) => request.continuation_token(token),
        };
        let answer =
            send::list_objects_v2(request).await.map_err(|error| self.failed("LIST", prefix, &error))?;
        let page = answer.contents.unwrap_or_default();
        let last = page.last().and_then(|object| object.key.clone());
        let next = following(answer.is_truncated, last, answer.next_continuation_token, from);
        let next = next.map_err(|why| self.error("LIST", prefix, why.to_owned(), StoreErrorKind::Passing))?;
        Ok((page, next))
    }

    /// Every object below `prefix` and after `after`, in the order of the keys.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Object>, StoreError> {
        let mut objects = Vec::new();
        let mut from = after.map(|after| Next::After(after.to_owned()));
        loop {
            let (page, next) = self.list_page(prefix, from.as_ref()).await?;
            objects.extend(page);
            if next.is_none() {
                return Ok(objects);
            }
            from = next;
        }
    }

    /// The objects below `prefix` whose names behind it are `ours`, in the order of the keys: however many others lie there,
    /// they take no memory.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list_where(
        &self,
        prefix: &str,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Object>, StoreError> {
        let (mut objects, mut from) = (Vec::new(), None::<Next>);
        loop {
            let (page, next) = self.list_page(prefix, from.as_ref()).await?;
            let of_ours = |object: &Object| object.key.strip_prefix(prefix).is_some_and(&ours);
            objects.extend(page.into_iter().filter(of_ours));
            if next.is_none() {
                return Ok(objects);
            }
            from = next;
        }
    }

    /// The folders directly below `prefix`, in order, each as `{prefix}name/`: one request for a thousand of them, however
    /// many objects they hold.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (mut folders, mut token) = (Vec::new(), None::<String>);
        loop {
            let request = self.listing(prefix).delimiter("/");
            let request = request.set_continuation_token(token.clone());
            let answer =
                send::list_objects_v2(request).await.map_err(|error| self.failed("LIST", prefix, &error))?;
            let found = answer.common_prefixes.unwrap_or_default();
            folders.extend(found.into_iter().filter_map(|folder| folder.prefix));
            // Several names fold into one folder, so that no key says where to go on.
            let from = token.map(Next::Token);
            let next = following(answer.is_truncated, None, answer.next_continuation_token, from.as_ref());
            token = match next {
                Ok(Some(Next::Token(token))) => Some(token),
                Ok(None | Some(Next::After(_))) => return Ok(folders),
                Err(why) => return Err(self.error("LIST", prefix, why.to_owned(), StoreErrorKind::Passing)),
            };
        }
    }

    /// The keys below `prefix` that are `ours`, of objects that were written before `before`.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list_older(
        &self,
        prefix: &str,
        before: DateTime<Utc>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let old = |object: &aws_sdk_s3::types::Object| {
            object.last_modified.is_some_and(|at| at.secs() < before.timestamp())
        };
        let (mut keys, mut from) = (Vec::new(), None::<Next>);
        loop {
            let (page, next) = self.list_raw(prefix, from.as_ref()).await?;
            let found = page.into_iter().filter(old).filter_map(|object| object.key);
            keys.extend(found.filter(|key| ours(key)));
            if next.is_none() {
                return Ok(keys);
            }
            from = next;
        }
    }
}

/// Where a listing goes on that came to `last`; None at its end. A page that ends where it began is a fault of the store:
/// asking again for ever would not show it.
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
    use super::*;

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
