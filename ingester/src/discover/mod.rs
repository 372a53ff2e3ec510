//! Finds batches in S3: where the feed points at once, and by listing ([`listing`]) at start, at an interval, and when
//! the feed goes away. A folder is a batch when it holds the seal.

pub(crate) mod feed;
pub(crate) mod listing;
pub(crate) mod unknown_folders;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use futures_util::StreamExt;
use shared::config::{Archive, Config};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{Next, Object, ObjectStore, SMALL, StoreError, StoreErrorKind};
use shared::retry::Backoff;
use shared::seal::Seal;
use shared::shutdown::Shutdown;
use state::loads::Listed;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::discover::unknown_folders::UnknownFolders;
use crate::failure::LoadFailure;
use crate::load::combine;
use crate::load_store::{self, LoadStore};
use crate::producer_link::{self, Producer};

/// Hints taken together.
const HINTS: usize = 64;
/// Folders without seal that are looked at again although listings begin behind them: the youngest.
const LOOKED_AT: usize = 100;
/// How often manifests that were left behind are tidied away.
const TIDYING: Duration = Duration::from_secs(24 * 3600);

/// A reason to look before the interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// At the folder of this batch.
    Look(BatchId),
    /// At what a listing shows from where listings stand.
    List,
}

/// A folder of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    batch: BatchId,
    /// The `ETag` of its seal, if it has one.
    seal: Option<String>,
}

/// A seal that S3 refused to give.
#[derive(Debug)]
struct Refused {
    backoff: Backoff,
    /// When it is asked for again.
    next: Instant,
}

/// Enters what stands in S3 into the load store.
#[derive(Debug)]
pub struct Discovery {
    store: ObjectStore,
    load_store: LoadStore,
    producer: Producer,
    unknown_folders: UnknownFolders,
    hints: mpsc::Receiver<Hint>,
    prefix: String,
    loads: String,
    keep: bool,
    at_once: usize,
    interval: Duration,
    list_all: Duration,
    reach: TimeDelta,
    backoff: Backoff,
    alert_after: u32,
    next_listing: Instant,
    next_tidying: Instant,
    /// How far listings have come; kept durably once nothing of them is in doubt.
    progress: Option<Listed>,
    durable: Option<Listed>,
    /// From where the next listing of this process begins: folders that hold `progress` back are looked at by name.
    recent: Option<DateTime<Utc>>,
    /// Folders without seal that nothing else is known of.
    unsealed: BTreeSet<BatchId>,
    /// Seals that could not be asked for, until they were: each listing looks at them first, and none is complete
    /// meanwhile.
    again: BTreeSet<BatchId>,
    /// Seals that S3 refused to give, while it gave others: each is asked for again after a wait of its own. What is
    /// refused once may be a moment's matter, what is refused for good must hold up no listing.
    refused: HashMap<BatchId, Refused>,
    /// The shortest and the longest of those waits.
    waits_between: (Duration, Duration),
    /// Seals that cannot be used, by their `ETag`, and when that was said: not read and said with every listing.
    unusable: HashMap<BatchId, (String, Instant)>,
    /// Whether a listing has been through: the first one also looks for what an earlier process left half done.
    listed: bool,
    /// Who waits until everything that stands in S3 at start was looked at.
    waits: Option<oneshot::Sender<()>>,
    /// When the latest complete listing ended; before the first one, when this began.
    complete: watch::Sender<Instant>,
}

impl Discovery {
    /// A discovery that has not looked yet.
    ///
    /// # Errors
    /// When the bookkeeping cannot be read.
    pub fn new(
        config: &Config,
        store: ObjectStore,
        load_store: LoadStore,
        unknown_folders: UnknownFolders,
        hints: mpsc::Receiver<Hint>,
    ) -> Result<Self, Failure> {
        let ingester = &config.ingester;
        let durable = load_store.listed()?;
        Ok(Self {
            store,
            load_store,
            producer: Producer::new(config.producer_socket()),
            unknown_folders,
            hints,
            prefix: config.s3.to_ingest.clone(),
            loads: config.s3.loads.clone(),
            keep: ingester.archive == Archive::Keep,
            at_once: config.s3.uploads,
            interval: ingester.list_interval.0,
            list_all: ingester.list_all_interval.0,
            reach: listing::reach(config),
            backoff: Backoff::new(ingester.retry_first.0, ingester.retry_max.0.min(ingester.list_interval.0)),
            alert_after: ingester.alert_after,
            next_listing: Instant::now(),
            next_tidying: Instant::now() + TIDYING,
            progress: durable.clone(),
            durable,
            recent: None,
            unsealed: BTreeSet::new(),
            again: BTreeSet::new(),
            refused: HashMap::new(),
            waits_between: (ingester.retry_first.0, ingester.retry_max.0.min(ingester.list_all_interval.0)),
            unusable: HashMap::new(),
            listed: false,
            waits: None,
            complete: watch::Sender::new(Instant::now()),
        })
    }

    /// Answers once everything that stands in S3 at start was looked at. It is in the load store then, but for seals that
    /// could not be read: nobody is to wait for ever because of one of them.
    #[must_use]
    pub fn listed(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.waits = Some(tell);
        told
    }

    /// When the latest complete listing ended; before the first one, when this discovery was made.
    #[must_use]
    pub fn complete(&self) -> watch::Receiver<Instant> {
        self.complete.subscribe()
    }

    /// Waits for hints or for the next listing, and follows them.
    ///
    /// # Errors
    /// When the bookkeeping fails. S3 being away is no error here: it is asked again.
    pub async fn step(&mut self) -> Result<(), Failure> {
        let mut hints = Vec::with_capacity(HINTS);
        tokio::select! {
            // None at all: everybody who could give a hint has ended.
            1.. = self.hints.recv_many(&mut hints, HINTS) => {}
            () = tokio::time::sleep_until(self.next_listing) => hints.push(Hint::List),
        }
        let list = hints.contains(&Hint::List);
        if list && self.listed && self.next_tidying <= Instant::now() {
            // In the place of a listing, so that an idle ingester asks no more often than it says.
            self.tidy().await;
            self.next_listing = Instant::now() + self.interval;
            return Ok(());
        }
        let mut looks: BTreeSet<BatchId> = hints
            .into_iter()
            .filter_map(|hint| match hint {
                Hint::Look(batch) => Some(batch),
                Hint::List => None,
            })
            .collect();
        if list {
            looks.extend(&self.again);
            let now = Instant::now();
            looks.extend(
                self.refused.iter().filter(|(_, refused)| refused.next <= now).map(|(batch, _)| *batch),
            );
        }
        let looked = self.look(looks.into_iter().map(|batch| (batch, String::new())).collect()).await?;
        // Seals that cannot be read now hold up no listing. Its own error goes first: it concerns all.
        let outcome = if list { self.list().await?.and(looked) } else { looked };
        match outcome {
            Ok(()) => {
                // A look that worked says nothing about listings, nor about the seals that wait for one.
                if list {
                    self.backoff.succeeded();
                    let again = self.refused.values().map(|refused| refused.next).min();
                    let usual = Instant::now() + self.interval;
                    self.next_listing = again.map_or(usual, |again| again.min(usual));
                }
            }
            Err(error) => {
                let (now, wait) = (Instant::now(), self.backoff.failed());
                if self.next_listing <= now || self.next_listing > now + wait {
                    self.next_listing = now + wait;
                }
                self.say(error, wait);
            }
        }
        Ok(())
    }

    /// Says that S3 was not looked through, as loudly as it concerns people: with an empty load store nobody else does.
    fn say(&self, error: StoreError, wait: Duration) {
        let (failures, wait) = (self.backoff.failures(), wait.as_secs_f64());
        let alert = error.kind() == StoreErrorKind::Configuration || failures >= self.alert_after;
        let trouble = LoadFailure::from(error);
        if alert {
            tracing::error!(failures, "S3 cannot be looked through; trying again in {wait:.1} s: {trouble}");
        } else {
            tracing::warn!(failures, "S3 cannot be looked through; trying again in {wait:.1} s: {trouble}");
        }
    }

    /// Discovers until shutdown.
    ///
    /// # Errors
    /// As [`Discovery::step`].
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Failure> {
        while let Some(step) = shutdown.until(self.step()).await {
            step?;
        }
        Ok(())
    }

    /// Lists what may have come. The outer error is the bookkeeping's, the inner one S3's.
    async fn list(&mut self) -> Result<Result<(), StoreError>, Failure> {
        let (now, first) = (Utc::now(), !self.listed);
        self.keep_progress().await?;
        let mut listed = self.progress.clone();
        if let (Some(listed), Some(recent)) = (&mut listed, self.recent) {
            listed.from = recent;
        }
        let after = listing::after(listed.as_ref(), self.list_all, &self.prefix, now);
        let (found, pages) = match self.folders(after.as_deref()).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let whole = after.is_none();
        if whole {
            self.unknown_folders.keep_only(&found.iter().map(|found| found.batch).collect());
            self.unsealed.clear();
            // Of folders that are gone nothing is kept: whoever writes to the bucket decides how many there are.
            let there: BTreeSet<BatchId> = found.iter().map(|found| found.batch).collect();
            self.unusable.retain(|batch, _| there.contains(batch));
        }
        let mut looks = Vec::new();
        for Found { batch, seal } in &found {
            let (batch, sealed) = (*batch, seal.is_some());
            self.unsealed.remove(&batch);
            if self.keep && self.unknown_folders.is_settled(batch) {
                continue;
            }
            let etag = seal.clone().unwrap_or_default();
            if self.unusable.get(&batch).is_some_and(|(was, at)| *was == etag && at.elapsed() < self.list_all)
            {
                continue;
            }
            if sealed && self.refused.get(&batch).is_some_and(|refused| refused.next > Instant::now()) {
                continue;
            }
            let known = self.load_store.get(batch)?;
            match known {
                // Open loads are known already.
                Some(load) if !load_store::is_archived(&load) => {}
                Some(_) if self.keep => {}
                // Tried just before this listing.
                _ if sealed && self.again.contains(&batch) => {}
                None if sealed && self.keep => self.unknown_folders.ask(batch),
                // New, or archived and published again by a producer that crashed before it could note it.
                _ if sealed => looks.push((batch, etag)),
                None => {
                    self.unsealed.insert(batch);
                    // Should nobody ever seal it, it is `reconcile` that tells.
                    self.load_store.count_change();
                    if first && !self.keep {
                        self.unknown_folders.ask(batch);
                    }
                }
                Some(_) => {}
            }
        }
        self.listed = true;
        if self.unknown_folders.any() {
            self.load_store.wake_loader();
        }
        let open: Vec<BatchId> =
            looks.iter().map(|(batch, _)| batch).chain(&self.unsealed).copied().collect();
        if !whole {
            looks.extend(self.behind(&found)?.into_iter().map(|batch| (batch, String::new())));
        }
        let looked = self.look(looks).await?;
        // All that was found has been tried. What failed is in `again`, and reconciling need not wait for it.
        let _ = self.waits.take().map(|waits| waits.send(()));
        // A seal that could not be asked for, by this listing or before, holds these back: were they kept, the
        // next process would begin behind it.
        if self.again.is_empty() {
            self.recent = Some(now - self.reach);
            self.progress =
                listing::noted(self.progress.as_ref(), whole.then_some(pages), open, self.reach, now);
            self.complete.send_replace(Instant::now());
        }
        if first {
            self.tidy().await;
        }
        Ok(looked)
    }

    /// Folders without seal that this listing began behind.
    fn behind(&mut self, found: &[Found]) -> Result<Vec<BatchId>, Failure> {
        while self.unsealed.len() > LOOKED_AT {
            self.unsealed.pop_first();
        }
        let first = found.first().map(|found| found.batch);
        let mut behind = Vec::new();
        for batch in self.unsealed.iter().take_while(|batch| first.is_none_or(|first| **batch < first)) {
            if self.load_store.get(*batch)?.is_none() {
                behind.push(*batch);
            }
        }
        Ok(behind)
    }

    /// Notes durably what the listing before came to, if all that it found is in the load store by now or was answered.
    async fn keep_progress(&mut self) -> Result<(), Failure> {
        if let Some(progress) = &self.progress
            && self.durable.as_ref() != Some(progress)
            && progress.pages > 1
            && !self.unknown_folders.any()
            && self.hints.is_empty()
            && self.again.is_empty()
            && self.refused.is_empty()
        {
            self.load_store.note_listed(progress.clone()).await?;
            self.durable = Some(progress.clone());
        }
        Ok(())
    }

    async fn tidy(&mut self) {
        self.next_tidying = Instant::now() + TIDYING;
        if let Err(error) = combine::tidy(&self.store, &self.loads, Utc::now()).await {
            tracing::warn!(%error, "manifests that were left behind stay for another day");
        }
    }

    /// The folders of a listing, and the requests it took.
    async fn folders(&self, after: Option<&str>) -> Result<(Vec<Found>, u64), StoreError> {
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut from = after.map(|after| Next::After(after.to_owned()));
        loop {
            let (page, next) = self.store.list_page(&self.prefix, from.as_ref()).await?;
            gather(&mut found, &self.prefix, &page);
            pages += 1;
            if next.is_none() {
                return Ok((found, pages));
            }
            from = next;
        }
    }

    /// Reads the seals of these batches, several at once, and enters those that are there; with each the `ETag` that a
    /// listing showed.
    async fn look(&mut self, batches: Vec<(BatchId, String)>) -> Result<Result<(), StoreError>, Failure> {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        let seals = batches.into_iter().map(|(batch, etag)| {
            let key = format!("{}{SEAL}", layout::folder(&prefix, batch));
            let store = &store;
            async move { (batch, etag, store.get_at_most(&key, SMALL).await) }
        });
        let mut seals = futures_util::stream::iter(seals).buffer_unordered(self.at_once);
        let mut outcome = Ok(());
        while let Some((batch, etag, answer)) = seals.next().await {
            self.again.remove(&batch);
            let json = match answer {
                Ok(json) => json,
                Err(error) if error.is_not_found() => {
                    self.refused.remove(&batch);
                    tracing::debug!(%batch, "no seal there (any more)");
                    continue;
                }
                Err(error) if error.kind() == StoreErrorKind::Passing => {
                    self.again.insert(batch);
                    outcome = Err(error);
                    continue;
                }
                // Listings work, so that it is this object's own matter.
                Err(error) if error.kind() == StoreErrorKind::Configuration && !error.is_too_large() => {
                    let wait = self.refuse(batch);
                    let LoadFailure { why, advice, .. } = error.into();
                    let again = wait.as_secs_f64();
                    tracing::error!(%batch, "the seal cannot be read; trying again in {again:.1} s: {why}: {advice}");
                    continue;
                }
                Err(error) => {
                    self.refused.remove(&batch);
                    self.unusable.insert(batch, (etag, Instant::now()));
                    let LoadFailure { why, advice, .. } = error.into();
                    tracing::error!(%batch, "the seal cannot be read; the folder is left as it is: {why}: {advice}");
                    continue;
                }
            };
            self.refused.remove(&batch);
            match Seal::read(batch, &json) {
                Ok(seal) => {
                    self.unusable.remove(&batch);
                    self.enter(&seal).await?;
                }
                Err(error) => {
                    self.unusable.insert(batch, (etag, Instant::now()));
                    let answer = self.producer.republish(batch).await;
                    let outlook = producer_link::outlook(&answer);
                    tracing::error!(%batch, %error, "unusable seal; the folder is left as it is: {outlook}");
                }
            }
        }
        Ok(outcome)
    }

    /// Notes that S3 refused to give a seal; how long to wait before it is asked for again.
    fn refuse(&mut self, batch: BatchId) -> Duration {
        let (first, longest) = self.waits_between;
        let now = Instant::now();
        let refused = self
            .refused
            .entry(batch)
            .or_insert_with(|| Refused { backoff: Backoff::new(first, longest), next: now });
        let wait = refused.backoff.failed();
        refused.next = now + wait;
        wait
    }

    async fn enter(&self, seal: &Seal) -> Result<(), Failure> {
        // A kept folder is looked at again when a producer tells of it; only another batch of the same id is news.
        let known = if self.keep { self.load_store.get(seal.batch)? } else { None };
        if known.is_some_and(|known| known.content.is_none() || known.content == seal.content) {
            return Ok(());
        }
        let load = self.load_store.discovered(self.load_store.found(seal)).await?;
        tracing::debug!(batch = %load.batch, rows = load.rows, instance = %load.instance, "discovered");
        Ok(())
    }
}

/// Adds the folders of one page. Keys come in order, so the objects of a folder stand together, if need be over the
/// edge of a page.
fn gather(found: &mut Vec<Found>, prefix: &str, page: &[Object]) {
    for object in page {
        let Some((batch, name)) = layout::parse_key(prefix, &object.key) else { continue };
        if !layout::is_of_batch(name) {
            continue;
        }
        let seal = (name == SEAL).then(|| object.etag.clone());
        match found.last_mut() {
            Some(last) if last.batch == batch => last.seal = last.seal.take().or(seal),
            _ => found.push(Found { batch, seal }),
        }
    }
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
        gather(&mut found, "ToIngest/", &objects(whole, &["0.csv.zst"]));
        gather(&mut found, "ToIngest/", &objects(whole, &["1.csv.zst", "batch.json", "manifest.json"]));
        gather(&mut found, "ToIngest/", &objects(open, &["0.csv.zst", "manifest.json"]));
        gather(
            &mut found,
            "ToIngest/",
            &[Object { key: "ToIngest/.check/batch.json".to_owned(), size: 1, etag: String::new() }],
        );
        gather(&mut found, "ToIngest/", &objects(BatchId::new(), &["notes.txt", "sub/batch.json"]));
        let seal = Some(String::new());
        assert_eq!(found, [Found { batch: whole, seal }, Found { batch: open, seal: None }]);
    }
}
