//! What the loader has to do with rows that Redshift refuses ([`crate::quarantine`]).

use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{ErrorClass, Load};

use crate::failure::{LoadFailure, Scope};
use crate::load::{ASKED_AT_ONCE, Loader};
use crate::quarantine::{LEFT_OVER, Sifted, load_rest, tidy};
use crate::redshift::transaction::{How, Settled};
use crate::redshift::{mark, release};

/// How often the ledger is asked about rows in quarantine, while batches come.
const QUARANTINE_INTERVAL: Duration = Duration::from_secs(60);

impl Loader {
    /// Loads a batch without the rows that Redshift refuses. The outer error is the bookkeeping's. LoadFailure with S3 is
    /// that of the quarantine: batches that need none go on.
    pub(super) async fn sift(&self, seal: &Seal) -> Result<Result<Settled, LoadFailure>, Failure> {
        let Self { target, store, quarantine, .. } = self;
        let Some(session) = &self.session else { return Ok(Err(super::attempt::not_connected())) };
        self.load_store.sifting(seal.batch).await?;
        let Sifted { settled, quarantined } = match load_rest(session, target, store, quarantine, seal).await
        {
            Ok(sifted) => sifted,
            Err(trouble) if session.usable() => {
                return Ok(Err(LoadFailure { scope: Scope::Batch, ..trouble }));
            }
            Err(trouble) => return Ok(Err(trouble)),
        };
        self.load_store.quarantined(seal.batch, quarantined).await?;
        Ok(Ok(settled))
    }

    /// Looks after batches that are settled now, by an attempt that was cut short or by another ingester: what searches
    /// for refused rows have left of them, and whether the ledger counts as many rows as were sealed. Those of which it
    /// does not must not be archived; the answer says why. The outer error is the bookkeeping's.
    pub(super) async fn attend(
        &self,
        settled: &[Settled],
    ) -> Result<Result<Vec<(BatchId, LoadFailure)>, LoadFailure>, Failure> {
        let Self { target, store, quarantine, .. } = self;
        let Some(session) = &self.session else { return Ok(Ok(Vec::new())) };
        let mut before = Vec::new();
        for Settled { batch, entered, how, .. } in settled {
            let Some(load) = self.load_store.get(*batch)? else { continue };
            if load.sifting
                && let Err(trouble) = tidy(session, target, store, quarantine, *entered).await
            {
                if !session.usable() {
                    return Ok(Err(trouble));
                }
                tracing::warn!(%batch, "{LEFT_OVER}: {trouble}");
            }
            if load.sifting || *how == How::Before {
                before.push((load, *entered));
            }
        }
        let ids: Vec<BatchId> = before.iter().map(|(_, entered)| *entered).collect();
        let entries = match release::look(session, target, &ids).await {
            Ok(entries) => entries,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let mut wrong = Vec::new();
        for (load, entered) in before {
            let Some(entry) = entries.iter().find(|entry| entry.batch == entered) else { continue };
            self.load_store.quarantined(load.batch, entry.rows).await?;
            if entry.sealed() != load.rows {
                let why = format!(
                    "the ledger says that {} rows of it are loaded, {} were in the table and {} are in quarantine, its \
                     seal says {}; it is not archived",
                    entry.loaded, entry.known, entry.rows, load.rows
                );
                let advice = "`ingester audit` counts again; a person must decide which is right";
                let trouble = LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) };
                wrong.push((load.batch, trouble));
            }
        }
        Ok(Ok(wrong))
    }

    /// Asks the ledger from time to time, when there is something to do anyway, whether rows in quarantine were loaded
    /// meanwhile: `ingester replay` may run anywhere, and does not tell.
    pub(super) async fn look_into_quarantine(&mut self) -> Result<(), Failure> {
        let Some(session) = self.session.as_ref().filter(|_| Instant::now() >= self.next_look) else {
            return Ok(());
        };
        self.next_look = Instant::now() + QUARANTINE_INTERVAL;
        let mut known = Vec::new();
        for batch in self.load_store.in_quarantine(ASKED_AT_ONCE) {
            known.extend(self.load_store.get(batch)?);
        }
        let ids: Vec<BatchId> = known.iter().map(Load::ledger_id).collect();
        match release::look(session, &self.target, &ids).await {
            Ok(entries) => {
                for load in known {
                    let entry = entries.iter().find(|entry| entry.batch == load.ledger_id());
                    // Unless something of a search is left, which is another matter.
                    if let Some(entry) = entry.filter(|entry| !load.sifting && load.quarantined != entry.rows)
                    {
                        self.load_store.quarantined(load.batch, entry.rows).await?;
                    }
                }
            }
            Err(trouble) => tracing::debug!("the ledger was not asked about rows in quarantine: {trouble}"),
        }
        // A person may have moved it.
        match mark::read(session, &self.target).await {
            Ok(Some(mark)) => self.note_mark(mark).await?,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the mark of the ledger was not read"),
        }
        Ok(())
    }
}
