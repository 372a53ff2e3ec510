//! Uploads rejects: all of them once in a while, and a full object of them at once, so that a flood of rejects cannot
//! fill the log.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::compress::compress;
use shared::content::Content;
use shared::ids::Instance;
use shared::layout::{self, Compression};
use state::log::{Chosen, LogError, LogReader, RejectLine};

use crate::append::UploadReport;
use crate::upload::context::{Context, UploadError, blocking};
use crate::upload::retry::Retry;

/// The rejects of one object at most, by count and by the bytes of their lines.
const MAX_REJECTS: usize = 1000;
const MAX_BYTES: usize = 8 << 20;
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Rejects {
    pub(super) context: Arc<Context>,
    pub(super) prefix: String,
    pub(super) every: Duration,
}

struct Object {
    key: String,
    content: bytes::Bytes,
    rejects: Chosen,
    /// The log has noted the choice before: an upload of the same object may have been made.
    noted: bool,
    records: usize,
}

impl Rejects {
    /// Uploads rejects until shutdown; at the start all that an earlier process left.
    pub(super) async fn run(self, retry: Retry) -> Result<(), LogError> {
        let (mut full_only, mut all_uploaded) = (false, retry.clock.steady());
        loop {
            let upload = || self.upload(full_only, retry.clock.wall());
            while retry.until_sent("upload of rejects", upload, |sent| *sent).await? == Some(true) {}
            if !full_only {
                all_uploaded = retry.clock.steady();
            }
            let all_due = all_uploaded + self.every;
            if !retry.sleep(retry.clock.steady().until(all_due).min(FULL_CHECK_INTERVAL)).await {
                return Ok(());
            }
            full_only = retry.clock.steady() < all_due;
        }
    }

    /// Uploads the oldest rejects, an object of them. False when there are none, or too few if it must be a full one.
    async fn upload(&self, full_only: bool, now: DateTime<Utc>) -> Result<bool, UploadError> {
        let Context { log, place, .. } = &*self.context;
        let (log, prefix, instance) = (log.clone(), self.prefix.clone(), place.instance.clone());
        let object = blocking(move || oldest(&log, &prefix, &instance, full_only, now)).await??;
        let Some(Object { key, content, rejects, noted, records }) = object else { return Ok(false) };
        if !noted {
            self.context.report(|noted| UploadReport::RejectsChosen(rejects, noted)).await?;
        }
        self.context.store.put(&key, content).await?;
        self.context.report(|noted| UploadReport::RejectsUploaded(rejects, noted)).await?;
        tracing::info!(key, records, "rejects shipped");
        Ok(true)
    }
}

fn oldest(
    log: &LogReader,
    prefix: &str,
    instance: &Instance,
    full_only: bool,
    now: DateTime<Utc>,
) -> Result<Option<Object>, UploadError> {
    let (rejects, chosen) = log.rejects(MAX_REJECTS, MAX_BYTES).map_err(LogError::from)?;
    let bytes: usize = rejects.iter().map(|(_, line)| line.len()).sum();
    let is_full = rejects.len() >= MAX_REJECTS || bytes >= MAX_BYTES;
    if chosen.is_none() && full_only && !is_full {
        return Ok(None);
    }
    let (Some((first, line)), Some((last, _))) = (rejects.first(), rejects.last()) else { return Ok(None) };
    // The time of the first reject, not the present: repeated after a crash, the key must be the same.
    let at = serde_json::from_slice::<RejectLine>(line).map_or(now, |line| line.at);
    let lines: Vec<&[u8]> = rejects.iter().flat_map(|(_, line)| [line.as_slice(), b"\n"]).collect();
    let lines = lines.concat();
    Ok(Some(Object {
        key: layout::rejects_key(prefix, at, instance, *first, Content::of_rows(&lines)),
        content: compress(&lines, Compression::Zstd)?,
        rejects: Chosen { first: *first, last: *last },
        noted: chosen.is_some(),
        records: rejects.len(),
    }))
}
