//! Carries out what the verdict on a batch asks for, or says what would be done. Every act may be repeated.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout;
use shared::lock::locked;
use shared::object_store::{ObjectStore, ObjectStoreErrorKind};
use state::loads::ErrorClass;
use state::status::feed::Republish;

use crate::archive::{Archiving, put_away};
use crate::commands::reconcile::report::Report;
use crate::facts::folder::{SealRead, read_seal};
use crate::facts::gather::Sources;
use crate::facts::judge::{Agreed, Matter, Mend};
use crate::failure::{LoadFailure, StepError};
use crate::load_store::{self, LoadStore};
use crate::producer_link::{Producer, outlook};
use crate::quarantine::{Quarantine, tidy};
use crate::redshift::ledger::LedgerRow;

pub(super) enum Loader {
    Here(LoadStore),
    /// The next `ingester run` on this load store, which is opened when it is needed.
    Later(Mutex<Option<LoadStore>>, Clock),
    /// An ingester that runs, or one elsewhere: they find it by their listing.
    Others,
}

pub(super) struct Mender {
    config: Config,
    producer: Producer,
    loader: Loader,
}

impl Mender {
    pub(super) fn new(config: &Config, loader: Loader) -> Self {
        Self { config: config.clone(), producer: Producer::new(config.producer_socket()), loader }
    }

    /// Whether a batch that this process loads is archived, perhaps since a moment ago; None if it loads none such.
    pub(super) fn archived_here(&self, batch: BatchId) -> Result<Option<bool>, Failure> {
        let Loader::Here(load_store) = &self.loader else { return Ok(None) };
        Ok(load_store.get(batch)?.as_ref().map(load_store::is_archived))
    }

    pub(super) async fn mend(
        &self,
        sources: &Sources<'_>,
        batch: BatchId,
        mend: Mend,
        report: &mut Report,
    ) -> Result<(), StepError> {
        if report.dry_run {
            let (act, outcome) = planned(&mend);
            report.mended(batch, act, outcome);
            return Ok(());
        }
        match mend {
            Mend::Load => self.load(sources.store, batch, report).await?,
            Mend::Archive(id) => {
                match put_away(sources.store, Archiving::of(&self.config), batch, id).await {
                    Ok(()) => report.mended(batch, "archive", "loaded; its folder was archived"),
                    Err(error) => leave(report, batch, "it is loaded, and cannot be archived", &error.into()),
                }
            }
            Mend::Tidy => {
                let (session, quarantine) = (sources.session, Quarantine::new(&self.config));
                match tidy(session, sources.target, sources.store, &quarantine, batch).await {
                    Ok(_) => report.mended(batch, "tidy", "what was left over in its quarantine was deleted"),
                    Err(failure) if session.usable() => {
                        leave(report, batch, "what is left over in its quarantine stays", &failure);
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
            Mend::Republish(matter) => {
                let answer = self.producer.republish(batch).await;
                let outlook = outlook(&answer);
                match answer {
                    Ok(Republish::UnderWay | Republish::NotPublished) => {
                        report.mended(batch, "republish", format!("{matter}: {outlook}"));
                    }
                    Ok(Republish::Gone | Republish::Unknown) | Err(_) => {
                        report.decide(batch, matter, Some(&outlook));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes how many rows the ledger counts in quarantine: `ingester replay` may run on another machine.
    pub(super) async fn note_quarantined(
        &self,
        ledger: impl Iterator<Item = &LedgerRow>,
    ) -> Result<(), Failure> {
        let Loader::Here(load_store) = &self.loader else { return Ok(()) };
        let noted: BTreeSet<BatchId> = load_store.in_quarantine(usize::MAX).into_iter().collect();
        for LedgerRow { batch, rows_quarantined: rows, .. } in ledger {
            if *rows == 0 && !noted.contains(batch) {
                continue;
            }
            // A search that goes on notes its own result.
            let known = load_store.get(*batch)?;
            if known.is_some_and(|load| !load.search_objects && load.quarantined != *rows) {
                load_store.quarantined(*batch, *rows, None).await?;
            }
        }
        Ok(())
    }

    async fn load(&self, store: &ObjectStore, batch: BatchId, report: &mut Report) -> Result<(), Failure> {
        let (load_store, entered) = match &self.loader {
            Loader::Others => {
                let outcome = "a running ingester finds it by a listing, or when it compares next";
                report.mended(batch, "load", outcome);
                return Ok(());
            }
            Loader::Here(load_store) => {
                (load_store.clone(), "entered into the load store; it is loaded in its turn")
            }
            Loader::Later(load_store, clock) => {
                let mut load_store = locked(load_store);
                let opened = match load_store.take() {
                    Some(load_store) => load_store,
                    None => LoadStore::open(&self.config.ingester.dir, Duration::ZERO, clock)?,
                };
                *load_store = Some(opened.clone());
                (opened, "entered into the load store; the next `ingester run` loads it")
            }
        };
        let outcome = match read_seal(store, &layout::folder(&self.config.s3.to_ingest, batch), batch).await {
            Ok(SealRead::Usable(seal)) => {
                load_store.discovered(load_store.found(&seal)).await?;
                entered
            }
            Ok(SealRead::Missing) => "another ingester has just loaded it",
            Ok(SealRead::Unusable(_)) => {
                "its seal has just become unreadable; the next reconcile reads it again"
            }
            Err(error) if error.kind() == ObjectStoreErrorKind::Passing => {
                leave(report, batch, "its seal cannot be read", &error.into());
                return Ok(());
            }
            Err(error) => {
                report.decide(batch, Matter::SealUnusable { why: error.to_string() }, None);
                return Ok(());
            }
        };
        report.mended(batch, "load", outcome);
        Ok(())
    }
}

/// What `--dry-run` says instead of mending.
fn planned(mend: &Mend) -> (&'static str, String) {
    match mend {
        Mend::Load => ("load", "would be loaded".to_owned()),
        Mend::Archive(_) => ("archive", "loaded; its folder would be archived".to_owned()),
        Mend::Tidy => ("tidy", "what is left over in its quarantine would be deleted".to_owned()),
        Mend::Republish(matter) => {
            ("republish", format!("{matter}: its producer would be asked to upload it once more"))
        }
    }
}

/// Reports a failure that holds this batch: the others are compared all the same.
fn leave(report: &mut Report, batch: BatchId, what: &str, failure: &LoadFailure) {
    if failure.class == ErrorClass::Passing {
        tracing::warn!(%batch, "{what} now; tried again with the next comparison: {failure}");
        report.agrees(Agreed::UnderWay);
    } else {
        let why = format!("{what}: {failure}");
        report.decide(batch, Matter::Stuck { class: failure.class, why }, None);
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Clock;

    use super::*;
    use crate::commands::reconcile::report::Sides;

    #[test]
    fn what_is_refused_of_one_batch_is_told_with_its_name_and_what_passes_is_not() {
        let now = Clock::system().wall();
        let mut report = Report::new(now, now, false, Sides::default());
        let batch = BatchId::new();
        let asleep = LoadFailure::of_batch(ErrorClass::Incomplete, "InvalidObjectState");
        leave(&mut report, batch, "it is loaded, and cannot be archived", &asleep);
        leave(
            &mut report,
            batch,
            "it is loaded, and cannot be archived",
            &LoadFailure::of_all(ErrorClass::Passing, "503", ""),
        );
        assert_eq!((report.decide.count, report.agree.under_way), (1, 1));
        let said = serde_json::to_string(&report).unwrap();
        assert!(said.contains("cannot be archived: InvalidObjectState"), "{said}");
    }
}
