//! One batch of a replay.

use std::time::Duration;

use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::retry::Backoff;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::quarantine::pieces::{File, Pieces, url};
use crate::quarantine::search::{How, Sift};
use crate::quarantine::set::{self, BadSet, REASONS, Refusal, Set};
use crate::quarantine::{MAX_BYTES, Quarantine, tidy};
use crate::redshift::release::{Entry, Release, Released, look, release};
use crate::redshift::{Connector, Session, Target, errors, stage};

/// Tries of one batch while the trouble is one that passes; a person waits for the answer.
const TRIES: u32 = 8;

/// Times the ledger may have changed while one batch is replayed.
const LOOKS: u32 = 100;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Ending {
    /// Nothing of it is in quarantine any more.
    Loaded {
        /// Rows this replay has loaded.
        rows: u64,
        /// Rows that the table had already.
        known: u64,
        /// Why what is left of it in S3 could not be deleted, if so.
        untidy: Option<LoadFailure>,
    },
    /// Nothing of it was in quarantine any more.
    Nothing,
    /// The ledger does not know it.
    NotLoaded,
    /// Some rows are still refused.
    Refused {
        /// Rows this replay has loaded.
        loaded: u64,
        /// Rows that the table had already.
        known: u64,
        /// Those that are left.
        left: Vec<Refusal>,
        /// Key of the object with their reasons.
        reasons: String,
    },
}

/// How one try ended.
enum Tried {
    Done(Ending),
    /// So many rows were loaded, the table had so many already, and nothing is left.
    Applied(u64, u64),
    /// The ledger has changed meanwhile: look again.
    Again,
}

/// Left-overs are no reason to say that nothing was loaded.
fn untidy(batch: BatchId, tidied: Result<(), LoadFailure>) {
    if let Err(trouble) = tidied {
        tracing::warn!(%batch, "left-overs in quarantine stay until `ingester reconcile` deletes them: {trouble}");
    }
}

/// What a replay works with.
pub(super) struct Replaying {
    target: Target,
    connector: Connector,
    store: ObjectStore,
    quarantine: Quarantine,
    backoff: (Duration, Duration),
    session: Option<Session>,
}

impl Replaying {
    pub(super) fn new(
        target: Target,
        connector: Connector,
        store: ObjectStore,
        quarantine: Quarantine,
        backoff: (Duration, Duration),
    ) -> Self {
        Self { target, connector, store, quarantine, backoff, session: None }
    }

    pub(super) fn url(&self, key: &str) -> String {
        url(self.store.bucket(), key)
    }

    /// Replays a batch, again while the trouble passes.
    pub(super) async fn batch(&mut self, batch: BatchId) -> Result<Ending, LoadFailure> {
        let mut backoff = Backoff::new(self.backoff.0, self.backoff.1);
        let (mut applied, mut known, mut looks) = (0, 0, 0);
        loop {
            let tried = match self.connected().await {
                Ok(session) => {
                    let tried = self.attempt(&session, batch).await;
                    self.session = Some(session).filter(Session::usable);
                    tried
                }
                Err(trouble) => Err(trouble),
            };
            match tried {
                Ok(Tried::Done(Ending::Nothing)) if applied + known > 0 => {
                    return Ok(Ending::Loaded { rows: applied, known, untidy: None });
                }
                Ok(Tried::Done(ending)) => return Ok(ending),
                Ok(Tried::Applied(new, there)) => {
                    applied += new;
                    known += there;
                }
                // Each time another has changed it; that ends.
                Ok(Tried::Again) => {
                    looks += 1;
                    if looks > LOOKS {
                        let why = format!("its ledger row has changed {looks} times while it was replayed");
                        return Err(LoadFailure::of_batch(ErrorClass::Passing, why));
                    }
                }
                Err(trouble) => {
                    let passes = matches!(trouble.class, ErrorClass::Passing | ErrorClass::Incomplete);
                    if !passes || backoff.failures() >= TRIES {
                        let loaded = Ending::Loaded { rows: applied, known, untidy: Some(trouble.clone()) };
                        return if applied + known > 0 { Ok(loaded) } else { Err(trouble) };
                    }
                    let wait = backoff.failed();
                    tracing::warn!(%batch, "not replayed yet, again in {:.1} s: {trouble}", wait.as_secs_f64());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<Session, LoadFailure> {
        match self.session.take() {
            Some(session) if session.usable() => Ok(session),
            _ => {
                let session = self.connector.open().await;
                let session =
                    session.map_err(|failure| errors::trouble(&failure, "connecting to Redshift"))?;
                let shape = stage::shape(&session, &self.target).await;
                self.target.shape = shape
                    .map_err(|failure| errors::trouble(&failure, "looking at the columns of the table"))?;
                Ok(session)
            }
        }
    }

    async fn attempt(&self, session: &Session, batch: BatchId) -> Result<Tried, LoadFailure> {
        let mut entries = look(session, &self.target, &[batch]).await?;
        if entries.len() > 1 {
            let why = format!(
                "the ledger has {} rows of it; `ingester audit` tells which rows are in the table",
                entries.len()
            );
            return Err(LoadFailure::of_batch(ErrorClass::Data, why));
        }
        let Some(entry) = entries.pop() else {
            return Ok(Tried::Done(Ending::NotLoaded));
        };
        let name = match &entry.set {
            Some(name) if entry.rows > 0 => name,
            None if entry.rows > 0 => {
                let rows = entry.rows;
                let why = format!("the ledger counts {rows} rows in quarantine and does not say which");
                return Err(LoadFailure::of_batch(ErrorClass::Data, why));
            }
            _ => {
                tidy(session, &self.target, &self.store, &self.quarantine, batch).await?;
                return Ok(Tried::Done(Ending::Nothing));
            }
        };
        let set = match Set::get(&self.store, &self.quarantine.prefix, batch, name).await {
            Ok(set) => set,
            Err(BadSet::Store(error)) if error.is_not_found() => {
                // Another replay may have been faster.
                if look(session, &self.target, &[batch]).await?.pop().as_ref() != Some(&entry) {
                    return Ok(Tried::Again);
                }
                let advice = "restore it from an older version or a copy: the ledger counts its rows";
                return Err(LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Data, error) });
            }
            Err(bad) => return Err(bad.into()),
        };
        if set.description.rows != entry.rows {
            let (there, said) = (set.description.rows, entry.rows);
            let why = format!("the ledger counts {said} rows in quarantine, its set {name} holds {there}");
            return Err(LoadFailure::of_batch(ErrorClass::Data, why));
        }
        self.load(session, &entry, &set).await
    }

    /// Loads the rows of a set: all, or those that are not refused.
    async fn load(&self, session: &Session, entry: &Entry, set: &Set) -> Result<Tried, LoadFailure> {
        let batch = entry.batch;
        let description = &set.description;
        // Rows of another schema are loaded into the columns they were made for.
        let target = Target { columns: description.columns.clone(), ..self.target.clone() };
        let key = set.rows_key(&self.quarantine.prefix);
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        let file = File { name, key, rows: entry.rows, bytes: MAX_BYTES, crc32: None };
        let scratch = self.quarantine.scratch(batch);
        let pieces = Pieces::of(&self.store, vec![file], description.compression, scratch);
        let mut sift = Sift::new(session, &target, pieces, None);
        for how in [None, Some(How::NoLoad), Some(How::RolledBack)] {
            if let Some(how) = how {
                sift.search(how).await?;
            }
            let left = self.still_refused(&mut sift, set).await?;
            let rows = entry.rows.saturating_sub(sift.refused());
            if rows == 0 {
                // The old set stays, with the reasons of then; those of now are shown.
                untidy(
                    batch,
                    tidy(session, &self.target, &self.store, &self.quarantine, batch).await.map(drop),
                );
                return Ok(Tried::Done(self.refused((0, 0), left, &set.name, batch)));
            }
            let put_left = async || match &left {
                Some(left) => Ok(left.put(&self.store, &self.quarantine.prefix).await?),
                None => Ok(()),
            };
            let manifest = sift.rest().await?;
            let releasing = Release {
                batch,
                from: entry,
                manifest: &manifest,
                compression: description.compression,
                rows,
                left: left.as_ref().map(|left| (left.name.as_str(), left.description.rows)),
            };
            match release(session, &target, &releasing, put_left).await {
                Ok(Released::Changed) => return Ok(Tried::Again),
                Ok(Released::Applied { known }) => {
                    let new = rows.saturating_sub(known);
                    let Some(left) = left else { return Ok(Tried::Applied(new, known)) };
                    // An ingester of an older version that lost the lock in the midst of tidying may have deleted it:
                    // it is there before the old one goes.
                    let tidied = match left.put(&self.store, &self.quarantine.prefix).await {
                        Ok(()) => {
                            tidy(session, &self.target, &self.store, &self.quarantine, batch).await.map(drop)
                        }
                        Err(bad) => Err(bad.into()),
                    };
                    untidy(batch, tidied);
                    let name = left.name.clone();
                    return Ok(Tried::Done(self.refused((new, known), Some(left), &name, batch)));
                }
                Err(trouble) if trouble.class == ErrorClass::Data && how != Some(How::RolledBack) => {}
                Err(trouble) if trouble.class == ErrorClass::Configuration => {
                    return Err(self.explained(trouble, &description.schema));
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(Tried::Again)
    }

    /// The set of what is still refused, where each row stood in its batch; None if nothing is known to be.
    async fn still_refused(&self, sift: &mut Sift<'_>, set: &Set) -> Result<Option<Set>, LoadFailure> {
        let (rows, mut refusals) = sift.outcome().await?;
        if refusals.is_empty() {
            return Ok(None);
        }
        for refusal in &mut refusals {
            let number = usize::try_from(refusal.row.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(Refusal { file, row, line, .. }) = set.refusals.get(number) {
                (refusal.file, refusal.row, refusal.line) = (file.clone(), *row, *line);
            }
        }
        let description = set.description.clone();
        let left = Set::new(
            description.batch,
            description.schema,
            description.columns,
            description.compression,
            (rows.into(), refusals),
        );
        left.map(Some).map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))
    }

    fn refused(&self, (loaded, known): (u64, u64), left: Option<Set>, name: &str, batch: BatchId) -> Ending {
        let reasons = format!("{}{REASONS}", set::folder(&self.quarantine.prefix, batch, name));
        Ending::Refused { loaded, known, left: left.map(|left| left.refusals).unwrap_or_default(), reasons }
    }

    /// Rows made for other columns than the configured ones need these columns in the table, if only for a while.
    fn explained(&self, trouble: LoadFailure, schema: &str) -> LoadFailure {
        if schema == self.target.fingerprint {
            return trouble;
        }
        let why = format!(
            "{} (its rows were made for schema {schema}, and are loaded into the columns of that; the configured one \
             is {})",
            trouble.why, self.target.fingerprint
        );
        let advice = "add the columns that are gone to the table, replay, and drop them again";
        LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Configuration, why) }
    }
}
