//! What the loader has to do with rows that Redshift refuses ([`crate::quarantine`]).

use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::ids::BatchId;
use shared::seal::Seal;

use super::{ASKED_AT_ONCE, Loader};
use crate::quarantine::{Sifted, load_rest, tidy};
use crate::trouble::Trouble;
use crate::warehouse::load::Settled;
use crate::warehouse::release;

/// How often the ledger is asked about rows in quarantine, while batches come.
const QUARANTINE_INTERVAL: Duration = Duration::from_secs(60);

impl Loader {
    /// Loads a batch without the rows that Redshift refuses. The outer error is the bookkeeping's.
    pub(super) async fn sift(&self, seal: &Seal) -> Result<Result<Settled, Trouble>, Failure> {
        let Self { target, store, quarantine, .. } = self;
        let Some(session) = &self.session else { return Ok(Err(super::attempt::not_connected())) };
        self.book.sifting(seal.batch).await?;
        let Sifted { settled, quarantined } = match load_rest(session, target, store, quarantine, seal).await
        {
            Ok(sifted) => sifted,
            Err(trouble) => return Ok(Err(trouble)),
        };
        self.book.quarantined(seal.batch, quarantined).await?;
        Ok(Ok(settled))
    }

    /// Looks after what searches for refused rows have left of batches that are settled now, by an attempt that was
    /// cut short or by another ingester. The outer error is the bookkeeping's.
    pub(super) async fn attend(
        &self,
        settled: &[(BatchId, Settled)],
    ) -> Result<Result<(), Trouble>, Failure> {
        let Self { target, store, quarantine, .. } = self;
        let Some(session) = &self.session else { return Ok(Ok(())) };
        let mut before = Vec::new();
        for (batch, how) in settled {
            let sifting = self.book.get(*batch)?.is_some_and(|load| load.sifting);
            if sifting {
                match tidy(session, target, store, quarantine, *batch).await {
                    Ok(entry) => {
                        self.book.quarantined(*batch, entry.map_or(0, |entry| entry.rows)).await?;
                    }
                    Err(trouble) => return Ok(Err(trouble)),
                }
            } else if *how == Settled::Before {
                before.push(*batch);
            }
        }
        match release::look(session, target, &before).await {
            Ok(entries) => {
                for batch in before {
                    let entry = entries.iter().find(|entry| entry.batch == batch);
                    self.book.quarantined(batch, entry.map_or(0, |entry| entry.rows)).await?;
                }
                Ok(Ok(()))
            }
            Err(trouble) => Ok(Err(trouble)),
        }
    }

    /// Asks the ledger from time to time, when there is something to do anyway, whether rows in quarantine were loaded
    /// meanwhile: `ingester replay` may run anywhere, and does not tell.
    pub(super) async fn look_into_quarantine(&mut self) -> Result<(), Failure> {
        let known = self.book.in_quarantine(ASKED_AT_ONCE);
        let Some(session) = self.session.as_ref().filter(|_| Instant::now() >= self.next_look) else {
            return Ok(());
        };
        self.next_look = Instant::now() + QUARANTINE_INTERVAL;
        match release::look(session, &self.target, &known).await {
            Ok(entries) => {
                for entry in entries {
                    // Unless something of a search is left, which is another matter.
                    if self
                        .book
                        .get(entry.batch)?
                        .is_some_and(|load| !load.sifting && load.quarantined != entry.rows)
                    {
                        self.book.quarantined(entry.batch, entry.rows).await?;
                    }
                }
            }
            Err(trouble) => tracing::debug!("the ledger was not asked about rows in quarantine: {trouble}"),
        }
        Ok(())
    }
}
