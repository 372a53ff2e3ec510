//! Refuses prefixes, a ledger or a table of another pipeline. The three belong together: two pipelines that share one of
//! them would load each other's batches.
//!
//! The mark of the ledger ([`crate::redshift::ledger_mark`]) holds an id of the pipeline, made with the ledger, and the
//! table the ledger speaks of. The object `.pipeline.json` directly below each prefix says the same. The first pipeline
//! writes it, and nobody overwrites it; a later one finds its own id in it or is refused. The loader compares them at
//! each connection to Redshift, before it loads or moves anything.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::config::{Archive, Config};
use shared::exit::{Exit, Failure};
use shared::human::shown;
use shared::ids::BatchId;
use shared::json_fault::json_fault;
use shared::layout::IDENTITY;
use shared::object_store::{ObjectStore, ObjectStoreError, ObjectStoreErrorKind, SMALL};
use state::loads::{ErrorClass, LedgerMark};

use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::{Connector, Session, Target, ledger_mark};

/// Version of the object that this program writes, and the newest it reads.
const FORMAT: u32 = 1;

const OTHER_PIPELINE: &str = "give each pipeline prefixes of its own in [s3]; if the ledger was made anew on purpose, and \
    nothing else uses the prefix, delete that object";
const OTHER_TABLE: &str = "give each table a ledger of its own (redshift.ledger); if it is the same table, write \
    redshift.table as the ledger has it";
const REFUSED: &str = "the ingester must get and put the object .pipeline.json below s3.to_ingest, s3.ingested and s3.quarantine \
     (deploy/iam-ingester.json), and the bucket's own policy and that of its KMS key must let it";

/// Why this pipeline must not use what its configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotOurs {
    /// It belongs to another pipeline: why, and advice.
    Foreign(String, &'static str),
    /// S3 or Redshift did not tell.
    Unknown(LoadFailure),
}

impl From<NotOurs> for LoadFailure {
    fn from(why: NotOurs) -> Self {
        match why {
            NotOurs::Foreign(why, advice) => Self::of_all(ErrorClass::Configuration, why, advice),
            NotOurs::Unknown(failure) => failure,
        }
    }
}

impl From<ObjectStoreError> for NotOurs {
    fn from(error: ObjectStoreError) -> Self {
        Self::Unknown(match error.kind() {
            ObjectStoreErrorKind::Configuration if !error.names_the_fault() => {
                LoadFailure::of_all(ErrorClass::Configuration, error, REFUSED)
            }
            _ => error.into(),
        })
    }
}

/// `.pipeline.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PipelineObject {
    pub(crate) format: u32,
    pub(crate) pipeline: String,
    /// Table and ledger are for people.
    pub(crate) table: String,
    pub(crate) ledger: String,
    pub(crate) made: DateTime<Utc>,
}

/// What a pipeline owns, by its configuration. Clones share one client of S3.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    store: ObjectStore,
    prefixes: Vec<String>,
    table: String,
    ledger: String,
}

impl Identity {
    pub(crate) fn new(config: &Config, store: ObjectStore) -> Self {
        let (s3, redshift) = (&config.s3, &config.redshift);
        let archive = (config.ingester.archive == Archive::Move).then_some(&s3.ingested);
        let prefixes = [Some(&s3.to_ingest), archive, Some(&s3.quarantine)];
        Self {
            store,
            prefixes: prefixes.into_iter().flatten().cloned().collect(),
            table: redshift.table.unquoted(),
            ledger: redshift.ledger.unquoted(),
        }
    }

    /// The same, with the archive whatever `ingester.archive` is: batches may have been moved there before.
    pub(crate) fn with_archive(config: &Config, store: ObjectStore) -> Self {
        let mut identity = Self::new(config, store);
        if !identity.prefixes.contains(&config.s3.ingested) {
            identity.prefixes.push(config.s3.ingested.clone());
        }
        identity
    }

    /// Fails, naming both sides, unless ledger, table and prefixes belong together. Claims the prefixes that nobody owns.
    pub(crate) async fn claim(&self, mark: &LedgerMark) -> Result<(), NotOurs> {
        self.claim_these(mark, |_| true).await
    }

    /// As [`Self::claim`], but of those that nobody owns, claims only some; the others are left to an ingester.
    pub(crate) async fn claim_these(
        &self,
        mark: &LedgerMark,
        these: impl Fn(&str) -> bool,
    ) -> Result<(), NotOurs> {
        let ours = self.of_ledger(mark)?;
        // Before the first claim: a pipeline that is refused at one prefix claims none.
        let free = self.free_prefixes(mark).await?;
        let json = serde_json::to_vec_pretty(&ours)
            .map_err(|error| NotOurs::Unknown(LoadFailure::of_all(ErrorClass::Unknown, error, "")))?;
        let json = Bytes::from(json);
        for prefix in free.into_iter().filter(|prefix| these(prefix)) {
            let key = format!("{prefix}{IDENTITY}");
            match self.store.put_new(&key, json.clone()).await? {
                Some(_) => tracing::info!(key, pipeline = ours.pipeline, "this prefix is ours now"),
                // Another ingester was faster.
                None => self.is_free(&key, &ours).await.map(drop)?,
            }
        }
        Ok(())
    }

    /// As [`Self::claim`], with exit 78. While Redshift or S3 does not answer, the loader waits: it claims with each
    /// connection.
    pub(crate) async fn refuse_start(&self, connector: &Connector, target: &Target) -> Result<(), Failure> {
        let claim = async || {
            let session = connector.open().await.doing(Doing::Connect).map_err(NotOurs::Unknown)?;
            let mark = ledger_mark::ensure(&session, target).await.map_err(NotOurs::Unknown)?;
            self.claim(&mark).await
        };
        match claim().await {
            Ok(()) => Ok(()),
            Err(NotOurs::Foreign(why, advice)) => {
                Err(Failure::new(Exit::Config, anyhow::anyhow!("{why}: {advice}")))
            }
            Err(NotOurs::Unknown(failure)) => {
                tracing::warn!("cannot compare the owner of the prefixes before the start: {failure}");
                Ok(())
            }
        }
    }

    /// For a command that moves or writes batches. No ingester of this version has used a ledger without a mark yet.
    pub(crate) async fn refuse_foreign(&self, session: &Session, target: &Target) -> Result<(), LoadFailure> {
        if let Some(mark) = ledger_mark::read(session, target).await.doing(Doing::ReadLedger)? {
            self.free_prefixes(&mark).await?;
        }
        Ok(())
    }

    /// As [`Self::claim`], but changes nothing. Returns the prefixes that belong to nobody yet.
    pub(crate) async fn free_prefixes(&self, mark: &LedgerMark) -> Result<Vec<&str>, NotOurs> {
        let ours = self.of_ledger(mark)?;
        let mut free = Vec::new();
        for prefix in &self.prefixes {
            if self.is_free(&format!("{prefix}{IDENTITY}"), &ours).await? {
                free.push(prefix.as_str());
            }
        }
        Ok(free)
    }

    /// Whether no pipeline owns the prefix of this object; fails when another one does.
    async fn is_free(&self, key: &str, ours: &PipelineObject) -> Result<bool, NotOurs> {
        let place = format!("s3://{}/{key}", self.store.bucket());
        match self.store.get_at_most(key, SMALL).await {
            Ok(json) => compare(&place, &json, ours).map(|()| false),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) if error.is_too_large() => {
                Err(NotOurs::Foreign(format!("{place} cannot be read: {error}"), OTHER_PIPELINE))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What we write. Fails unless the ledger speaks of our table.
    fn of_ledger(&self, mark: &LedgerMark) -> Result<PipelineObject, NotOurs> {
        let ours = PipelineObject {
            format: FORMAT,
            pipeline: mark.pipeline.clone(),
            table: self.table.clone(),
            ledger: self.ledger.clone(),
            // The id is of the moment the mark was made, so all claims write the same.
            made: mark.pipeline.parse::<BatchId>().map_or(DateTime::UNIX_EPOCH, |id| id.opened_at()),
        };
        same_table(&mark.table, &self.table, &self.ledger)?;
        Ok(ours)
    }
}

/// For a command that alters the table without S3: fails when the ledger speaks of another one.
pub(crate) fn refuse_other_table(config: &Config, mark: &LedgerMark) -> Result<(), LoadFailure> {
    let (table, ledger) = (config.redshift.table.unquoted(), config.redshift.ledger.unquoted());
    Ok(same_table(&mark.table, &table, &ledger)?)
}

/// Names fold to small letters.
fn same_table(theirs: &str, table: &str, ledger: &str) -> Result<(), NotOurs> {
    if theirs.eq_ignore_ascii_case(ledger_mark::as_marked(table)) {
        return Ok(());
    }
    let why = format!("the ledger {ledger} speaks of the table {theirs}, redshift.table is {table}");
    Err(NotOurs::Foreign(why, OTHER_TABLE))
}

/// Fails unless the object at `place` names our pipeline.
pub(crate) fn compare(place: &str, json: &[u8], ours: &PipelineObject) -> Result<(), NotOurs> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |error: serde_json::Error| {
        NotOurs::Foreign(format!("{place} cannot be read: {}", json_fault(&error)), OTHER_PIPELINE)
    };
    let Format { format } = serde_json::from_slice(json).map_err(unreadable)?;
    if format > FORMAT {
        let why = format!("{place} has format {format}, this version knows {FORMAT}");
        return Err(NotOurs::Foreign(why, "update the ingester"));
    }
    let theirs: PipelineObject = serde_json::from_slice(json).map_err(unreadable)?;
    if theirs.pipeline == ours.pipeline {
        return Ok(());
    }
    let side = |PipelineObject { pipeline, table, ledger, .. }: &PipelineObject| {
        format!("pipeline {} with table {} and ledger {}", shown(pipeline), shown(table), shown(ledger))
    };
    let why = format!("{place} says that the prefix belongs to {}; this is {}", side(&theirs), side(ours));
    Err(NotOurs::Foreign(why, OTHER_PIPELINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(pipeline: &str, table: &str) -> PipelineObject {
        let (pipeline, table) = (pipeline.to_owned(), table.to_owned());
        PipelineObject {
            format: FORMAT,
            pipeline,
            table,
            ledger: "public.ledger".to_owned(),
            made: DateTime::UNIX_EPOCH,
        }
    }

    fn said(why: NotOurs) -> String {
        assert!(matches!(why, NotOurs::Foreign(..)), "{why:?}");
        LoadFailure::from(why).to_string()
    }

    fn compared(theirs: &PipelineObject, ours: &PipelineObject) -> Result<(), String> {
        let json = serde_json::to_vec(theirs).unwrap();
        compare("s3://b/ToIngest/.pipeline.json", &json, ours).map_err(said)
    }

    #[test]
    fn a_prefix_is_ours_by_the_id_of_the_pipeline_whatever_tables_are_called_by_now() {
        let ours = object("1", "public.hits");
        assert_eq!(compared(&ours, &ours), Ok(()));
        assert_eq!(compared(&object("1", "public.old_name"), &ours), Ok(()));
    }

    #[test]
    fn a_prefix_of_another_pipeline_is_refused_and_both_sides_are_named() {
        let said = compared(&object("1", "public.other"), &object("2", "public.hits")).unwrap_err();
        let odd =
            compared(&object("\x1b[2J", &"x\n".repeat(100_000)), &object("2", "public.hits")).unwrap_err();
        assert!(odd.len() < 800 && !odd.contains(char::is_control), "{odd}");
        for part in [
            "s3://b/ToIngest/.pipeline.json",
            "belongs to pipeline 1 with table public.other and ledger public.ledger",
            "this is pipeline 2 with table public.hits",
            "delete that object",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_nobodys_to_take() {
        let ours = object("1", "t");
        let refused = |json: &[u8]| said(compare("p", json, &ours).unwrap_err());
        assert!(refused(b"{}").contains("p cannot be read"));
        let newer = PipelineObject { format: FORMAT + 1, ..object("1", "t") };
        let said = refused(&serde_json::to_vec(&newer).unwrap());
        assert!(said.contains("format 2, this version knows 1: update the ingester"), "{said}");
    }

    #[test]
    fn a_ledger_speaks_of_one_table() {
        let ours = |theirs| same_table(theirs, "public.hits", "public.ledger");
        assert_eq!(ours("Public.Hits"), Ok(()), "names fold to small letters");
        let said = said(ours("public.other").unwrap_err());
        assert!(
            said.contains("public.ledger speaks of the table public.other, redshift.table is public.hits"),
            "{said}"
        );
    }
}
