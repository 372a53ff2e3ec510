//! One attempt: the batches that are due together are looked at in S3, loaded with one COPY, and what became of each
//! is noted. A batch that is not fit, or at fault, fails by itself, and the others go on: they stay *loading*, which
//! is due, and the next step takes them. So do those that must be loaded the staged way: each is loaded alone.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use shared::clock::Moment;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::SMALL;
use shared::seal::Seal;
use state::loads::{Entered, ErrorClass, Load, LoadEvent};

use crate::facts::folder::{Folder, verify};
use crate::failure::{LoadFailure, Scope};
use crate::load::Loader;
use crate::load::circuit_breaker::Past;
use crate::load::combine::{self, is_combined};
use crate::load_store;
use crate::redshift::columns::keep_alike;
use crate::redshift::look::{self, There};
use crate::redshift::transaction::{How, Loaded, Loading, Settled, load};
use crate::redshift::way::{Why, ways};
use crate::redshift::{Session, errors};

/// A manifest that is not deleted within this time is left to be tidied.
const DELETING: Duration = Duration::from_secs(5);

impl Loader {
    pub(super) async fn attempt(&mut self, batches: Vec<BatchId>) -> Result<(), Failure> {
        let started = Instant::now();
        let attempts = batches.iter().map(|batch| (*batch, LoadEvent::Attempt)).collect();
        self.load_store.note_all(attempts).await?;
        let (mut fit, unfit) = match self.look_at(&batches).await {
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
            if self.load_store.get(seal.batch)?.is_some_and(|load| load.rows != seal.rows) {
                self.load_store.discovered(load_store::found(seal)).await?;
            }
        }
        // The others stay *loading*.
        keep_alike(&self.target.columns, &mut fit);
        let batches: Vec<BatchId> = fit.iter().map(|seal| seal.batch).collect();
        let fit = match self.set_apart(fit).await {
            Ok(fit) => fit,
            Err(trouble) => return self.failed(&batches, &trouble).await,
        };
        let batches: Vec<BatchId> = fit.iter().map(|seal| seal.batch).collect();
        match self.load(fit).await {
            Ok((loading, Ok(Loaded::Settled(settled)))) => self.settled(&loading, &settled, started).await,
            // The ledger has changed since it was looked at.
            Ok((_, Ok(Loaded::Isolated(isolated)))) => {
                self.stage_later(&isolated);
                Ok(())
            }
            Ok((loading, Err(trouble))) => self.not_loaded(&loading, trouble, started).await,
            Err(trouble) => self.failed(&batches, &trouble).await,
        }
    }

    /// Sets those of several batches apart that must be loaded the staged way: the others go now, or the oldest alone if
    /// there is no other. The transaction looks again.
    async fn set_apart(&mut self, mut fit: Vec<Seal>) -> Result<Vec<Seal>, LoadFailure> {
        if fit.len() < 2 {
            return Ok(fit);
        }
        let session = self.session.as_ref().ok_or_else(not_connected)?;
        let seals: Vec<&Seal> = fit.iter().collect();
        let ground = look::ground(session, &self.target, &seals).await;
        let ground = ground.map_err(|failure| errors::trouble(&failure, "reading the ledger"))?;
        let Some(ground) = ground else { return Ok(fit) };
        let isolated: Vec<(BatchId, Why)> = seals
            .iter()
            .zip(ways(&seals, &ground))
            .filter_map(|(seal, why)| Some((seal.batch, why?)))
            .collect();
        self.stage_later(&isolated);
        if isolated.len() == fit.len() {
            fit.truncate(1);
        } else {
            fit.retain(|seal| isolated.iter().all(|(batch, _)| *batch != seal.batch));
        }
        Ok(fit)
    }

    /// Notes that each of these is to be loaded alone.
    fn stage_later(&mut self, isolated: &[(BatchId, Why)]) {
        for (batch, why) in isolated {
            tracing::debug!(%batch, "is loaded alone, compared with the table: {why}");
        }
        self.isolated.take(isolated.iter().map(|(batch, _)| *batch));
    }

    /// Reads seals and compares them with their folders, several at once.
    async fn look_at(
        &self,
        batches: &[BatchId],
    ) -> Result<(Vec<Seal>, Vec<(BatchId, LoadFailure)>), LoadFailure> {
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
        let own = |(batch, trouble)| (batch, LoadFailure { scope: Scope::Batch, ..trouble });
        unfit.extend(refused.into_iter().map(own));
        Ok((fit, unfit))
    }

    /// A folder that is not whole may be one that was loaded and is half archived, here or by another ingester, or
    /// was published again in between: the ledger tells. The outer error is the bookkeeping's.
    async fn settle_unfit(
        &mut self,
        unfit: Vec<(BatchId, LoadFailure)>,
    ) -> Result<Result<(), LoadFailure>, Failure> {
        let Some(session) = &self.session else { return Ok(Err(not_connected())) };
        let batches: Vec<BatchId> = unfit.iter().map(|(batch, _)| *batch).collect();
        let before = match self.in_ledger(session, &batches).await {
            Ok(before) => before,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let unfit = unfit.into_iter().filter(|(batch, _)| before.iter().all(|one| one.batch != *batch));
        let unfit: Vec<_> = unfit.collect();
        self.loaded(&before, |_| None, None).await?;
        for (batch, trouble) in unfit {
            let trouble = self.producer.mend(batch, trouble).await;
            self.failed(&[batch], &trouble).await?;
        }
        Ok(Ok(()))
    }

    /// Which of these batches, whose folders are not whole, the ledger has. Where the seal still stands it tells whether
    /// the ledger has this very batch, or another one of the same id.
    async fn in_ledger(&self, session: &Session, batches: &[BatchId]) -> Result<Vec<Settled>, LoadFailure> {
        let reading = |failure| errors::trouble(&failure, "reading the ledger");
        let rows = session.run(&self.target.look_up(batches)).await.map_err(reading)?;
        let there: HashSet<BatchId> = rows.first_column().into_iter().collect();
        let mut before = Vec::with_capacity(there.len());
        for batch in batches.iter().filter(|batch| there.contains(*batch)) {
            let folder = layout::folder(&self.target.to_ingest, *batch);
            let seal = match self.store.get_at_most(&format!("{folder}{SEAL}"), SMALL).await {
                Ok(json) => Seal::read(*batch, &json).ok(),
                Err(error) if error.is_not_found() || error.is_too_large() => None,
                Err(error) => return Err(error.into()),
            };
            let Some(seal) = seal else {
                before.push(Settled::before(*batch, *batch, 0));
                continue;
            };
            let entries = look::entries(session, &self.target, &[&seal]).await.map_err(reading)?;
            match look::judge(&seal, &entries) {
                There::Yes(row) => before.push(Settled::before(*batch, row.id, row.known)),
                There::Other(_) => tracing::warn!(
                    %batch,
                    "the ledger has another batch under the id of this one, whose folder is not whole"
                ),
                There::No => {}
            }
        }
        Ok(before)
    }

    /// Outer error: no COPY was tried.
    async fn load(&self, fit: Vec<Seal>) -> Result<(Loading, Result<Loaded, LoadFailure>), LoadFailure> {
        let session = self.session.as_ref().ok_or_else(not_connected)?;
        let loading = combine::loading(&self.store, &self.target, fit).await?;
        let outcome = load(session, &self.target, &loading).await;
        Ok((loading, outcome))
    }

    /// All of it is settled now, or some of it was before; the rest is due at once.
    async fn settled(
        &mut self,
        loading: &Loading,
        settled: &[Settled],
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
        settled: &[Settled],
        last_received: impl Fn(BatchId) -> Option<DateTime<Utc>>,
        started: Option<Instant>,
    ) -> Result<(), Failure> {
        if settled.is_empty() {
            return Ok(());
        }
        let wrong = match self.attend(settled).await? {
            Ok(wrong) => wrong,
            Err(trouble) => {
                let batches: Vec<BatchId> = settled.iter().map(|one| one.batch).collect();
                return self.failed(&batches, &trouble).await;
            }
        };
        for (batch, trouble) in &wrong {
            self.failed(&[*batch], trouble).await?;
        }
        let right = |one: &&Settled| wrong.iter().all(|(wrong, _)| *wrong != one.batch);
        let settled: Vec<_> = settled.iter().filter(right).collect();
        if settled.is_empty() {
            return Ok(());
        }
        for one in &settled {
            let entered = Entered {
                known: one.known,
                staged: one.staged.is_some(),
                entered_as: Some(one.entered).filter(|entered| *entered != one.batch),
            };
            if entered != Entered::default() {
                self.load_store.entered(one.batch, entered).await?;
            }
        }
        let moves = settled.iter().map(|one| (one.batch, LoadEvent::Loaded)).collect();
        let noted = self.load_store.note_all(moves).await?;
        self.breaker.loaded(Utc::now());
        self.look_into_quarantine().await?;
        let seconds = started.map(|at| (at.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        let together = settled.len();
        for (Settled { batch, how, known, staged, .. }, load) in settled.iter().zip(noted) {
            self.isolated.settled(*batch);
            let Load { rows, quarantined, bytes, attempts: attempt, instance, .. } = load;
            let lag = last_received(*batch).map(|at| (Utc::now() - at).num_seconds());
            let staged = staged.as_ref().map(tracing::field::display);
            match how {
                How::Applied => {
                    tracing::info!(%batch, rows, known, quarantined, bytes, seconds, together, attempt, lag_s = lag, %instance, staged, "loaded");
                }
                How::Before => {
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
        mut trouble: LoadFailure,
        started: Instant,
    ) -> Result<(), Failure> {
        let batches = loading.batches();
        if let (ErrorClass::Data, [part]) = (trouble.class, loading.parts.as_slice()) {
            match self.sift(&part.seal).await? {
                Ok(settled) => return self.settled(loading, &[settled], started).await,
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
            self.isolated.take(batches);
            self.breaker.succeeded();
            return Ok(());
        }
        for (batch, why) in &trouble.blamed {
            let own = LoadFailure::of_batch(trouble.class, format!("{}; {why}", trouble.why));
            self.failed(&[*batch], &own).await?;
        }
        Ok(())
    }

    /// Notes that these batches met trouble; none, when none was due. A batch that failed before its attempt shows it
    /// too, without counting one.
    pub(super) async fn failed(&mut self, batches: &[BatchId], trouble: &LoadFailure) -> Result<(), Failure> {
        if trouble.class == ErrorClass::Configuration && trouble.scope == Scope::Whole {
            // A new connection looks at the tables again, and names what is wrong with them.
            self.session = None;
        }
        let now = Moment::now();
        let mut met = Vec::with_capacity(batches.len());
        for batch in batches {
            if let Some(load) = self.load_store.get(*batch)?
                && !load.is_settled()
            {
                let past = if load.is_loading() { Past::of(&load) } else { Past::default() };
                met.push((*batch, past, load));
            }
        }
        let alone = if let [(_, past, _)] = met.as_slice() { Some(*past) } else { None };
        let whose = self.breaker.failed(trouble, alone, now.steady);
        let mut moves = Vec::with_capacity(met.len());
        let mut first = None;
        for (batch, past, load) in met {
            let next = now.wall + self.breaker.wait(trouble, whose, past, now.steady);
            first = first.or(Some((batch, load.attempts, load.failed.saturating_add(1), next)));
            let why = trouble.to_string();
            moves.push((batch, LoadEvent::Failed { next, class: trouble.class, why }));
        }
        let together = moves.len();
        if !moves.is_empty() {
            self.load_store.note_all(moves).await?;
        }
        let failures = first.map_or(0, |(_, _, failed, _)| failed).max(self.breaker.failures());
        say(trouble, whose, first, together, failures >= self.alert_after);
        Ok(())
    }
}

pub(super) fn not_connected() -> LoadFailure {
    LoadFailure::of_all(ErrorClass::Passing, "not connected", "")
}

/// Says what went wrong, as loudly as it concerns people.
fn say(
    trouble: &LoadFailure,
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
