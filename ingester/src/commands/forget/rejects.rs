//! The objects of rejects: written over without the lines of the person (`If-Match`: another run may be at the
//! same object), or deleted with their last line. Their prefix has no mark of its owner, so only those of producers are changed
//! of which the ledger has batches, and of the producer of this configuration.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shared::blocking::blocking;
use shared::compress::{compress, decompress};
use shared::exit::{Exit, Failure};
use shared::layout::{self, Compression};

use crate::commands::connect::store_failed;
use crate::commands::terminal::bar;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger::instances;
use crate::sought::Sought;

use super::reject_line::is_of;
use super::report::Place;
use super::task::{AT_ONCE, Read, Task, unreadable};

/// Bytes of an object, and of its lines: a producer puts 8 MiB into one, and one line more.
const MAX_BYTES: u64 = 256 << 20;
/// How often an object may change under a run before it is left.
const ATTEMPTS: u32 = 8;
const NOT_OURS: &str = "the ledger has no batch of the producer that wrote it, so it may be another pipeline's: run this with the \
     configuration of that one, or remove the lines by hand";

impl Task<'_> {
    pub(super) async fn rejects(&self, place: &mut Place) -> Result<(), Failure> {
        place.searched = true;
        let prefix = &self.config.s3.rejected;
        let mut producers = instances(self.session, self.target).await.doing(Doing::ReadLedger)?;
        producers.insert(self.config.instance.name.to_string());
        let is_day = |name: &str| layout::parse_day(name).is_some();
        let days = self.store.folders(prefix, is_day).await.map_err(store_failed)?;
        let progress = bar(days.len() as u64, "days of rejects");
        for day in days {
            let within = day.strip_prefix(prefix.as_str()).unwrap_or_default();
            let producer = |name: &str| layout::instance_of_rejects(&format!("{within}{name}"));
            let ours = |name: &str| producer(name).is_some();
            let objects = self.store.list_where(&day, ours).await.map_err(store_failed)?;
            let searched = objects.into_iter().map(|object| {
                let producer = object.key.strip_prefix(&day).and_then(producer);
                let is_ours = producer.is_some_and(|producer| producers.contains(&producer.to_string()));
                self.object(object.key, is_ours)
            });
            let mut searched = stream::iter(searched).buffer_unordered(AT_ONCE);
            while let Some(found) = searched.try_next().await? {
                place.add(found);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// `is_ours`: the ledger has batches of the producer that the object names.
    async fn object(&self, key: String, is_ours: bool) -> Result<Place, Failure> {
        for _ in 0..ATTEMPTS {
            let mut place = Place::default();
            if self.without_lines(&key, is_ours, &mut place).await? {
                return Ok(place);
            }
        }
        let mut place = Place::default();
        place.left(key, "it was changed again and again: run this again".to_owned());
        Ok(place)
    }

    /// False: the object was changed meanwhile, by another run of this command.
    async fn without_lines(&self, key: &str, is_ours: bool, place: &mut Place) -> Result<bool, Failure> {
        let (content, etag) = match self.store.get_with_etag(key, MAX_BYTES).await {
            Ok(read) => read,
            Err(error) if error.is_not_found() => return Ok(true),
            Err(error) => {
                place.left(key.to_owned(), unreadable(error)?);
                return Ok(true);
            }
        };
        let sought = Arc::clone(&self.sought);
        let (found, kept) = match blocking(move || without(&content, &sought)).await? {
            Ok(searched) => searched,
            Err(error) => {
                place.left(key.to_owned(), format!("it cannot be decompressed: {error}"));
                return Ok(true);
            }
        };
        if found == 0 {
            return Ok(true);
        }
        place.found(found);
        if !is_ours {
            place.left(key.to_owned(), NOT_OURS.to_owned());
            return Ok(true);
        }
        if !self.apply {
            return Ok(true);
        }
        if kept.is_empty() {
            // Another run can only have taken lines out.
            self.store.delete(key).await.map_err(store_failed)?;
        } else {
            let packed = blocking(move || compress(&kept, Compression::Zstd)).await?;
            let packed = packed.map_err(|error| Failure::new(Exit::Software, error))?;
            let put = self.store.put_over(key, packed.clone(), &etag).await.map_err(store_failed)?;
            if put.is_none() && !self.is_there(key, &packed).await? {
                return Ok(false);
            }
        }
        place.removed(found);
        Ok(true)
    }

    /// Whether the object is this one: an attempt that was not answered may have put it.
    async fn is_there(&self, key: &str, content: &Bytes) -> Result<bool, Failure> {
        Ok(matches!(self.read(key, MAX_BYTES).await?, Read::Content(there) if there == *content))
    }
}

/// How many lines are the person's, and the others.
fn without(object: &Bytes, sought: &Sought) -> std::io::Result<(u64, Vec<u8>)> {
    let lines = decompress(object, Compression::Zstd, MAX_BYTES)?;
    let (mut found, mut kept) = (0, Vec::new());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if is_of(line, sought) {
            found += 1;
        } else {
            kept.extend_from_slice(line);
        }
    }
    Ok((found, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sought::tests::sought;

    #[test]
    fn lines_of_others_stay_byte_for_byte() {
        let line = |id: &str| {
            let record = format!("{{\\\"mcVisId\\\":\\\"{id}\\\"}}");
            format!(
                "{{\"at\":\"2026-03-02T14:00:00Z\",\"instance\":\"a\",\"reason\":\"r\",\"record\":\"{record}\"}}\n"
            )
        };
        let others = format!("{}not ours\n", line("joe"));
        let all = format!("{}{others}{}", line("jane"), line("jane"));
        let object = compress(all.as_bytes(), Compression::Zstd).unwrap();
        let (found, kept) = without(&object, &sought(&["jane"])).unwrap();
        assert_eq!((found, String::from_utf8(kept).unwrap()), (2, others));
        assert!(without(&Bytes::from_static(b"no zstd"), &sought(&["jane"])).is_err());
    }
}
