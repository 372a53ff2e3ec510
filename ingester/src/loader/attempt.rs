//! One attempt: the batches that are due together are looked at in S3, loaded with one COPY, and what became of each
//! is noted. A batch that is not fit, or at fault, fails by itself, and the others go on: they stay *loading*, which
//! is due, and the next step takes them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{ErrorClass, Load, LoadEvent};

use super::Loader;
use crate::book;
use crate::combine::{self, is_combined};
use crate::gate::Past;
use crate::trouble::{Scope, Trouble};
use crate::verify::{Folder, verify};
use crate::warehouse::errors;
use crate::warehouse::load::{Loading, Settled, load};

/// A manifest that is not deleted within this time is left to be tidied.
const DELETING: Duration = Duration::from_secs(5);

impl Loader {
    pub(super) async fn attempt(&mut self, batches: Vec<BatchId>) -> Result<(), Failure> {
        let started = Instant::now();
        let attempts = batches.iter().map(|batch| (*batch, LoadEvent::Attempt)).collect();
        self.book.note_all(attempts).await?;
        let (fit, unfit) = match self.look_at(&batches).await {
            Ok(folders) => folders,
            Err(trouble) => return self.failed(&batches, &trouble).await,
        };
        if !unfit.is_empty()
            && let Err(trouble) = self.settle_unfit(unfit).await?
        {
            return self.failed(&batches, &trouble).await;
        }
        if fit.is_empty() {
            return Ok(());
        }
        for seal in &fit {
            // What the ledger is compared with is the seal of now.
            if self.book.get(seal.batch)?.is_some_and(|load| load.rows != seal.rows) {
                self.book.discovered(book::found(seal)).await?;
            }
        }
        let batches: Vec<BatchId> = fit.iter().map(|seal| seal.batch).collect();
        match self.load(fit).await {
            Ok((loading, Ok(settled))) => self.settled(&loading, &settled, started).await,
            Ok((loading, Err(trouble))) => self.not_loaded(&loading, trouble, started).await,
            Err(trouble) => self.failed(&batches, &trouble).await,
        }
    }

    /// Reads seals and compares them with their folders, several at once.
    async fn look_at(&self, batches: &[BatchId]) -> Result<(Vec<Seal>, Vec<(BatchId, Trouble)>), Trouble> {
        let looks = batches.iter().copied().map(|batch| async move {
            (batch, verify(&self.store, &self.target.to_ingest, batch, &self.target.fingerprint).await)
        });
        let folders: Vec<_> = stream::iter(looks).buffered(self.at_once).collect().await;
        let (mut fit, mut unfit, mut refused) = (Vec::with_capacity(folders.len()), Vec::new(), Vec::new());
        for (batch, folder) in folders {
            match folder {
                Ok(Folder::Whole(seal)) => fit.push(*seal),
                Ok(Folder::Unfit(trouble)) => unfit.push((batch, trouble)),
                Err(trouble) if trouble.scope == Scope::Batch => unfit.push((batch, trouble)),
                Err(trouble) => refused.push((batch, trouble)),
            }
        }
        // When S3 tells about the others, what it refuses is the trouble of these.
        if fit.is_empty()
            && unfit.is_empty()
            && let Some((_, trouble)) = refused.pop()
        {
            return Err(trouble);
        }
        let own = |(batch, trouble)| (batch, Trouble { scope: Scope::Batch, ..trouble });
        unfit.extend(refused.into_iter().map(own));
        Ok((fit, unfit))
    }

    /// A folder that is not whole may be one that was loaded and is half archived, here or by another ingester, or
    /// was published again in between: the ledger tells. The outer error is the bookkeeping's.
    async fn settle_unfit(&mut self, unfit: Vec<(BatchId, Trouble)>) -> Result<Result<(), Trouble>, Failure> {
        let Some(session) = &self.session else { return Ok(Err(not_connected())) };
        let batches: Vec<BatchId> = unfit.iter().map(|(batch, _)| *batch).collect();
        let loaded = match session.run(&self.target.look_up(&batches)).await {
            Ok(rows) => rows.first_column::<BatchId>().into_iter().collect::<HashSet<_>>(),
            Err(error) => return Ok(Err(errors::trouble(&error, "reading the ledger"))),
        };
        let (before, unfit): (Vec<_>, Vec<_>) =
            unfit.into_iter().partition(|(batch, _)| loaded.contains(batch));
        let before: Vec<_> = before.into_iter().map(|(batch, _)| (batch, Settled::Before)).collect();
        self.loaded(&before, |_| None, None).await?;
        for (batch, trouble) in unfit {
            let trouble = self.producer.mend(batch, trouble).await;
            self.failed(&[batch], &trouble).await?;
        }
        Ok(Ok(()))
    }

    /// Outer error: no COPY was tried.
    async fn load(
        &self,
        fit: Vec<Seal>,
    ) -> Result<(Loading, Result<Vec<(BatchId, Settled)>, Trouble>), Trouble> {
        let session = self.session.as_ref().ok_or_else(not_connected)?;
        let loading = combine::loading(&self.store, &self.target, fit).await?;
        let outcome = load(session, &self.target, &loading).await;
        Ok((loading, outcome))
    }

    /// All of it is settled now, or some of it was before; the rest is due at once.
    async fn settled(
        &mut self,
        loading: &Loading,
        settled: &[(BatchId, Settled)],
        started: Instant,
    ) -> Result<(), Failure> {
        let last_received = |batch| {
            let part = loading.parts.iter().find(|part| part.seal.batch == batch);
            part.and_then(|part| part.seal.last_received)
        };
        self.loaded(settled, last_received, Some(started)).await?;
        if is_combined(loading) {
            let deleting = tokio::time::timeout(DELETING, self.store.delete(&loading.manifest)).await;
            if !matches!(deleting, Ok(Ok(()))) {
                tracing::debug!(
                    key = loading.manifest,
                    "the manifest is left behind; it is deleted some day"
                );
            }
        }
        Ok(())
    }

    async fn loaded(
        &mut self,
        settled: &[(BatchId, Settled)],
        last_received: impl Fn(BatchId) -> Option<DateTime<Utc>>,
        started: Option<Instant>,
    ) -> Result<(), Failure> {
        if settled.is_empty() {
            return Ok(());
        }
        let wrong = match self.attend(settled).await? {
            Ok(wrong) => wrong,
            Err(trouble) => {
                let batches: Vec<BatchId> = settled.iter().map(|(batch, _)| *batch).collect();
                return self.failed(&batches, &trouble).await;
            }
        };
        for (batch, trouble) in &wrong {
            self.failed(&[*batch], trouble).await?;
        }
        let right = |(batch, _): &&(BatchId, Settled)| wrong.iter().all(|(wrong, _)| wrong != batch);
        let settled: Vec<_> = settled.iter().filter(right).copied().collect();
        if settled.is_empty() {
            return Ok(());
        }
        let moves = settled.iter().map(|(batch, _)| (*batch, LoadEvent::Loaded)).collect();
        let noted = self.book.note_all(moves).await?;
        self.gate.loaded(Utc::now());
        self.look_into_quarantine().await?;
        let seconds = started.map(|at| (at.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        let together = settled.len();
        for ((batch, how), load) in settled.iter().zip(noted) {
            self.apart.settled(*batch);
            let Load { rows, quarantined, bytes, attempts: attempt, instance, .. } = load;
            let lag = last_received(*batch).map(|at| (Utc::now() - at).num_seconds());
            match how {
                Settled::Applied => {
                    tracing::info!(%batch, rows, quarantined, bytes, seconds, together, attempt, lag_s = lag, %instance, "loaded");
                }
                Settled::Before => {
                    tracing::info!(%batch, rows, attempt, "is in the ledger: loaded before");
                }
            }
        }
        Ok(())
    }

    /// A COPY that was tried, and loaded nothing as far as is known.
    async fn not_loaded(
        &mut self,
        loading: &Loading,
        mut trouble: Trouble,
        started: Instant,
    ) -> Result<(), Failure> {
        let batches = loading.batches();
        if let (ErrorClass::Data, [part]) = (trouble.class, loading.parts.as_slice()) {
            match self.sift(&part.seal).await? {
                Ok(settled) => {
                    return self.settled(loading, &[(part.seal.batch, settled)], started).await;
                }
                Err(sifting) => trouble = sifting,
            }
        }
        if trouble.at_s3 {
            let unfit = match self.look_at(&batches).await {
                Ok((_, unfit)) => unfit,
                Err(trouble) => return self.failed(&batches, &trouble).await,
            };
            // The others had nothing to do with it.
            if !unfit.is_empty() {
                // Another ingester may have loaded and archived them meanwhile.
                return match self.settle_unfit(unfit).await? {
                    Ok(()) => Ok(()),
                    Err(trouble) => self.failed(&batches, &trouble).await,
                };
            }
        }
        if !is_combined(loading) || trouble.scope == Scope::Whole {
            return self.failed(&batches, &trouble).await;
        }
        if trouble.blamed.is_empty() {
            tracing::warn!(
                batches = batches.len(),
                "loading them one by one, to find whose it is: {trouble}"
            );
            self.apart.take(batches);
            self.gate.succeeded();
            return Ok(());
        }
        for (batch, why) in &trouble.blamed {
            let own = Trouble::of_batch(trouble.class, format!("{}; {why}", trouble.why));
            self.failed(&[*batch], &own).await?;
        }
        Ok(())
    }

    /// Notes that these batches met trouble; none, when none was due. A batch that failed before its attempt shows it
    /// too, without counting one.
    pub(super) async fn failed(&mut self, batches: &[BatchId], trouble: &Trouble) -> Result<(), Failure> {
        if trouble.class == ErrorClass::Configuration && trouble.scope == Scope::Whole {
            // A new connection looks at the tables again, and names what is wrong with them.
            self.session = None;
        }
        let now = Utc::now();
        let mut met = Vec::with_capacity(batches.len());
        for batch in batches {
            if let Some(load) = self.book.get(*batch)?
                && !load.is_settled()
            {
                let past = if load.is_loading() { Past::of(&load) } else { Past::default() };
                met.push((*batch, past, load));
            }
        }
        let alone = if let [(_, past, _)] = met.as_slice() { Some(*past) } else { None };
        let whose = self.gate.failed(trouble, alone, now);
        let mut moves = Vec::with_capacity(met.len());
        let mut first = None;
        for (batch, past, load) in met {
            let next = self.gate.next_try(trouble, whose, past, now);
            first = first.or(Some((batch, load.attempts, load.failed.saturating_add(1), next)));
            let why = trouble.to_string();
            moves.push((batch, LoadEvent::Failed { next, class: trouble.class, why }));
        }
        let together = moves.len();
        if !moves.is_empty() {
            self.book.note_all(moves).await?;
        }
        let failures = first.map_or(0, |(_, _, failed, _)| failed).max(self.gate.failures());
        say(trouble, whose, first, together, failures >= self.alert_after);
        Ok(())
    }
}

pub(super) fn not_connected() -> Trouble {
    Trouble::of_all(ErrorClass::Passing, "not connected", "")
}

/// Says what went wrong, as loudly as it concerns people.
fn say(
    trouble: &Trouble,
    whose: Scope,
    first: Option<(BatchId, u32, u32, DateTime<Utc>)>,
    together: usize,
    alert: bool,
) {
    let batch = first.map(|(batch, ..)| tracing::field::display(batch));
    let attempt = first.map(|(_, attempts, ..)| attempts);
    let failures = first.map(|(_, _, failures, _)| failures);
    let next = first.map(|(.., next)| tracing::field::display(next.format("%H:%M:%S%.3f")));
    match (trouble.class, whose) {
        (ErrorClass::Configuration, Scope::Whole) => {
            tracing::error!(batch, together, attempt, next, "loading is held up: {trouble}");
        }
        (ErrorClass::Configuration | ErrorClass::Data, _) => {
            tracing::error!(batch, attempt, next, "the batch waits whole: {trouble}");
        }
        (ErrorClass::Unknown, _) if !alert => {
            tracing::warn!(
                batch,
                together,
                attempt,
                next,
                "Redshift said something this version does not know; trying again: {trouble}"
            );
        }
        _ if alert => {
            tracing::error!(batch, together, attempt, next, failures, "still not loaded: {trouble}");
        }
        _ => {
            tracing::warn!(batch, together, attempt, next, "not loaded, trying again: {trouble}");
        }
    }
}
