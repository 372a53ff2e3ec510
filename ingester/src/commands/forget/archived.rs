//! The files of loaded batches: below `s3.ingested`, and with `archive = "keep"` below `s3.to_ingest`. A day is listed and
//! searched after the other, a few folders at once.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::Object;

use crate::commands::connect::store_failed;
use crate::commands::terminal::bar;

use super::folder::Folder;
use super::report::Place;
use super::task::{AT_ONCE, Task};

impl Task<'_> {
    /// `kept`: loaded batches that stay where they are loaded from.
    pub(super) async fn archive(&self, kept: &[BatchId], place: &mut Place) -> Result<(), Failure> {
        place.searched = true;
        let s3 = &self.config.s3;
        let is_day = |name: &str| layout::parse_day(name).is_some();
        let days = self.store.folders(&s3.ingested, is_day).await.map_err(store_failed)?;
        let progress = bar(days.len() as u64 + 1, "days of the archive");
        for day in days {
            self.folders(self.of_day(&day).await?, place).await?;
            progress.inc(1);
        }
        for some in kept.chunks(AT_ONCE) {
            let folders = some.iter().map(|batch| Folder::new(&s3.to_ingest, *batch));
            self.folders(folders.collect(), place).await?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    async fn of_day(&self, day: &str) -> Result<Vec<Folder>, Failure> {
        let prefix = &self.config.s3.ingested;
        let within = day.strip_prefix(prefix.as_str()).unwrap_or_default();
        let ours = |name: &str| {
            let key = format!("{within}{name}");
            layout::parse_key("", &key).is_some_and(|(_, name)| layout::is_of_batch(name))
        };
        let objects = self.store.list_where(day, ours).await.map_err(store_failed)?;
        let batch_of = |object: &Object| layout::parse_key(prefix, &object.key).map(|(batch, _)| batch);
        let batches: BTreeSet<BatchId> = objects.iter().filter_map(batch_of).collect();
        Ok(batches.into_iter().map(|batch| Folder::new(prefix, batch)).collect())
    }

    async fn folders(&self, folders: Vec<Folder>, place: &mut Place) -> Result<(), Failure> {
        let searched = folders.into_iter().map(|folder| async move { self.folder(&folder).await });
        let mut searched = stream::iter(searched).buffer_unordered(AT_ONCE);
        while let Some(found) = searched.try_next().await? {
            place.add(found);
        }
        Ok(())
    }
}
