//! What is done about a batch without asking anybody.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, SMALL, StoreError, StoreErrorKind};
use shared::seal::Seal;
use state::loads::ErrorClass;
use state::status::feed::Republish;

use crate::archive::put_away;
use crate::commands::reconcile::{Mend, Report, outlook};
use crate::facts::gather::Places;
use crate::facts::judge::{Agreed, InLedger, Matter};
use crate::failure::LoadFailure;
use crate::load_store::{self, LoadStore};
use crate::producer_link::Producer;
use crate::quarantine::{Quarantine, tidy};
use crate::redshift::Session;

/// Who loads what is found.
enum Loader {
    /// This process: what is entered is loaded.
    Here(LoadStore),
    /// The next `ingester run` on this bookkeeping, which is opened when it is needed.
    Later(Mutex<Option<LoadStore>>),
    /// An ingester that runs, or one elsewhere: they find it by their listing.
    Others,
}

/// What does the mending.
pub(super) struct Hands {
    config: Config,
    producer: Producer,
    loader: Loader,
}

impl Hands {
    /// Those of a running ingester.
    pub(super) fn open_book(config: &Config, load_store: LoadStore) -> Self {
        Self::with(config, Loader::Here(load_store))
    }

    /// Those of a command, with a bookkeeping that nobody has open.
    pub(super) fn closed_book(config: &Config) -> Self {
        Self::with(config, Loader::Later(Mutex::new(None)))
    }

    /// Those of a command beside a running ingester, or far from any.
    pub(super) fn of_others(config: &Config) -> Self {
        Self::with(config, Loader::Others)
    }

    fn with(config: &Config, loader: Loader) -> Self {
        Self { config: config.clone(), producer: Producer::new(config.producer_socket()), loader }
    }

    /// Whether this process is loading or archiving a batch: it may have begun since the bookkeeping was read.
    pub(super) fn are_at(&self, batch: BatchId) -> Result<bool, Failure> {
        let Loader::Here(load_store) = &self.loader else { return Ok(false) };
        Ok(load_store.get(batch)?.is_some_and(|load| !load_store::is_archived(&load)))
    }

    /// Whether this process has loaded and archived a batch, perhaps a moment ago.
    pub(super) fn have_archived(&self, batch: BatchId) -> Result<bool, Failure> {
        let Loader::Here(load_store) = &self.loader else { return Ok(false) };
        Ok(load_store.get(batch)?.is_some_and(|load| load_store::is_archived(&load)))
    }

    /// Mends, and puts into the report what came of it. The outer error is the bookkeeping's.
    pub(super) async fn mend(
        &self,
        places: &Places<'_>,
        session: &Session,
        batch: BatchId,
        mend: Mend,
        report: &mut Report,
    ) -> Result<Result<(), LoadFailure>, Failure> {
        let store = places.store;
        match mend {
            Mend::Load if report.dry_run => report.mended(batch, "load", "would be loaded".to_owned()),
            Mend::Load => match self.load(store, batch).await? {
                Ok(outcome) => report.mended(batch, "load", outcome.to_owned()),
                Err(error) if error.kind() == StoreErrorKind::Passing => {
                    left(report, batch, "its seal cannot be read", &error.into());
                }
                Err(error) => report.decide(batch, Matter::SealUnusable { why: error.to_string() }, None),
            },
            Mend::Archive | Mend::ArchiveAs(_) if report.dry_run => {
                report.mended(batch, "archive", "loaded; its folder would be put away".to_owned());
            }
            Mend::Archive | Mend::ArchiveAs(_) => {
                let s3 = &self.config.s3;
                let id = if let Mend::ArchiveAs(id) = mend { id } else { batch };
                let to = (self.config.ingester.archive, s3.to_ingest.as_str(), s3.ingested.as_str());
                match put_away(store, to, s3.uploads, (batch, id)).await {
                    Ok(()) => report.mended(batch, "archive", "loaded; its folder was put away".to_owned()),
                    Err(error) => {
                        left(report, batch, "it is loaded, and cannot be put away", &error.into());
                    }
                }
            }
            Mend::Tidy if report.dry_run => {
                report.mended(
                    batch,
                    "tidy",
                    "what is left over in its quarantine would be deleted".to_owned(),
                );
            }
            Mend::Tidy => {
                let quarantine = Quarantine::new(&self.config);
                match tidy(session, places.target, store, &quarantine, batch).await {
                    Ok(_) => {
                        let deleted = "what was left over in its quarantine was deleted";
                        report.mended(batch, "tidy", deleted.to_owned());
                    }
                    Err(trouble) if session.usable() => {
                        left(report, batch, "what is left over in its quarantine stays", &trouble);
                    }
                    Err(trouble) => return Ok(Err(trouble)),
                }
            }
            Mend::Republish(matter) if report.dry_run => {
                let asked = "its producer would be asked to upload it once more";
                report.mended(batch, "republish", format!("{}: {asked}", matter.what()));
            }
            Mend::Republish(matter) => {
                let answer = self.producer.republish(batch).await;
                let outlook = outlook(&answer);
                match answer {
                    Ok(Republish::UnderWay | Republish::NotPublished) => {
                        report.mended(batch, "republish", format!("{}: {outlook}", matter.what()));
                    }
                    Ok(Republish::Gone | Republish::Unknown) | Err(_) => {
                        report.decide(batch, matter, Some(&outlook));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// Notes how many rows the ledger counts in quarantine: `ingester replay` may run anywhere, and does not tell.
    pub(super) async fn note_quarantined(
        &self,
        ledger: impl Iterator<Item = (BatchId, InLedger)>,
    ) -> Result<(), Failure> {
        let Loader::Here(load_store) = &self.loader else { return Ok(()) };
        let noted: BTreeSet<BatchId> = load_store.in_quarantine(usize::MAX).into_iter().collect();
        for (batch, InLedger { quarantined, .. }) in ledger {
            if quarantined == 0 && !noted.contains(&batch) {
                continue;
            }
            // Unless a search goes on, which is another matter.
            let known = load_store.get(batch)?;
            if known.is_some_and(|load| !load.sifting && load.quarantined != quarantined) {
                load_store.quarantined(batch, quarantined).await?;
            }
        }
        Ok(())
    }

    async fn load(
        &self,
        store: &ObjectStore,
        batch: BatchId,
    ) -> Result<Result<&'static str, StoreError>, Failure> {
        let (load_store, outcome) = match &self.loader {
            Loader::Others => {
                return Ok(Ok("a running ingester finds it by a listing, or when it compares next"));
            }
            Loader::Here(load_store) => {
                (load_store.clone(), "entered into the bookkeeping; it is loaded in its turn")
            }
            Loader::Later(load_store) => {
                let mut load_store = load_store.lock().unwrap_or_else(PoisonError::into_inner);
                let opened = match &*load_store {
                    Some(load_store) => load_store.clone(),
                    None => LoadStore::open(&self.config.ingester.dir, &Clock::system())?,
                };
                *load_store = Some(opened.clone());
                (opened, "entered into the bookkeeping; the next `ingester run` loads it")
            }
        };
        let key = format!("{}{SEAL}", layout::folder(&self.config.s3.to_ingest, batch));
        let json = match store.get_at_most(&key, SMALL).await {
            Ok(json) => json,
            Err(error) if error.is_not_found() => return Ok(Ok("another ingester has just loaded it")),
            Err(error) => return Ok(Err(error)),
        };
        match Seal::read(batch, &json) {
            Ok(seal) => {
                load_store.discovered(load_store.found(&seal)).await?;
                Ok(Ok(outcome))
            }
            Err(_) => Ok(Ok("its seal has just become unusable; it is looked at again next time")),
        }
    }
}

/// What S3 refuses of one batch holds that one: the others are compared all the same.
fn left(report: &mut Report, batch: BatchId, what: &str, trouble: &LoadFailure) {
    if trouble.class == ErrorClass::Passing {
        tracing::warn!(%batch, "{what} now; tried again with the next comparison: {trouble}");
        report.agrees(Agreed::UnderWay);
    } else {
        let why = format!("{what}: {trouble}");
        report.decide(batch, Matter::Stuck { class: trouble.class, why }, None);
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::commands::reconcile::report::Sides;

    #[test]
    fn what_is_refused_of_one_batch_is_told_with_its_name_and_what_passes_is_not() {
        let mut report = Report::new(Utc::now(), Utc::now(), false, Sides::default());
        let batch = BatchId::new();
        let asleep = LoadFailure::of_batch(ErrorClass::Incomplete, "InvalidObjectState");
        left(&mut report, batch, "it is loaded, and cannot be put away", &asleep);
        left(
            &mut report,
            batch,
            "it is loaded, and cannot be put away",
            &LoadFailure::of_all(ErrorClass::Passing, "503", ""),
        );
        assert_eq!((report.decide.count, report.agree.under_way), (1, 1));
        let said = serde_json::to_string(&report).unwrap();
        assert!(said.contains("cannot be put away: InvalidObjectState"), "{said}");
    }
}
