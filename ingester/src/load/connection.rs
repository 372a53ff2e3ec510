//! Keeps one connection, and verifies before the first load over it: the tables are as they should be, the tables and the
//! prefixes belong together, and no earlier session holds the lock. Columns that the table lacks are added then, if the
//! configuration says so.

use std::time::Duration;

use shared::exit::Failure;
use shared::human::time;
use state::loads::{ErrorClass, LedgerMark, LoadDatabase};
use tokio::sync::watch;

use crate::failure::{LoadFailure, StepError};
use crate::identity::Identity;
use crate::load_store::LoadStore;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::{Connector, Session, Target, add_columns, catalog, ledger_mark, orphan_session, stage};
use crate::services::Services;

/// An earlier version made the ledger.
const NO_LOCK: &str = "create it: `ingester ddl --diff` prints the statement";

pub(super) struct Connection {
    connector: Connector,
    identity: Identity,
    load_store: LoadStore,
    /// The target of now. It is taken between two attempts, never within one.
    targets: watch::Receiver<Target>,
    pub(super) target: Target,
    session: Option<Session>,
    /// The tables are verified once at start, even with nothing to load: a fault is better known early.
    pub(super) connected_before: bool,
}

impl Connection {
    pub(super) fn new(
        services: &Services,
        mut targets: watch::Receiver<Target>,
        connector: Connector,
    ) -> Self {
        let target = targets.borrow_and_update().clone();
        let (identity, load_store) =
            (Identity::new(&services.config, services.store.clone()), services.load_store.clone());
        Self { connector, identity, load_store, targets, target, session: None, connected_before: false }
    }

    /// The session, and the tables as they were when it began.
    pub(super) fn get(&self) -> Result<(&Session, &Target), LoadFailure> {
        let none = || LoadFailure::of_all(ErrorClass::Passing, "not connected", "");
        Ok((self.session.as_ref().ok_or_else(none)?, &self.target))
    }

    /// The next session verifies the tables again.
    pub(super) fn close(&mut self) {
        self.session = None;
    }

    pub(super) async fn cancel(&mut self, within: Duration) {
        if let Some(session) = self.session.take()
            && let Ok(Err(error)) = tokio::time::timeout(within, session.cancel()).await
        {
            tracing::debug!(%error, "CANCEL could not be sent");
        }
    }

    /// Connects, unless there is a usable connection. True if it is a new one. Another target needs one: it verifies the tables
    /// again.
    pub(super) async fn ensure(&mut self) -> Result<bool, StepError> {
        if self.targets.has_changed().unwrap_or(false) {
            self.target = self.targets.borrow_and_update().clone();
            self.session = None;
        }
        if self.session.as_ref().is_some_and(Session::usable) {
            return Ok(false);
        }
        self.session = None;
        let session = self.connector.open().await.doing(Doing::Connect)?;
        if let Some(before) = self.load_store.on_disk(LoadDatabase::session).await? {
            orphan_session::end(&session, &before).await.doing(Doing::EndEarlierSession)?;
        }
        // Noted before it locks anything.
        let began = orphan_session::identify(&session).await;
        self.load_store.on_disk(move |loads| loads.note_session(began.as_ref())).await?;
        let adds = add_columns::needed(&session, &self.target).await?;
        if !adds {
            verify_columns(&session, &self.target).await?;
        }
        let mark = verify_ledger(&session, &self.target).await?;
        self.identity.claim(&mark).await.map_err(LoadFailure::from)?;
        if adds {
            // Not earlier: the table of another pipeline is not ours to alter.
            self.add_columns(&session).await?;
        }
        let not_null = stage::not_null(&session, &self.target).await;
        self.target.not_null = not_null.doing(Doing::ReadColumns)?;
        self.report(&mark);
        self.note_mark(mark).await?;
        self.session = Some(session);
        self.connected_before = true;
        Ok(true)
    }

    /// Batches that waited for a column are due at once.
    async fn add_columns(&self, session: &Session) -> Result<(), LoadFailure> {
        add_columns::add(session, &self.target).await?;
        verify_columns(session, &self.target).await?;
        self.load_store.retry_now(ErrorClass::Configuration);
        Ok(())
    }

    fn report(&self, mark: &LedgerMark) {
        let target = &self.target;
        let knows_from = mark.knows_from.map(time);
        tracing::info!(table = %target.table, ledger = %target.ledger, knows_from, "connected to Redshift");
        if self.connected_before {
            return;
        }
        if target.comparable().is_none() {
            tracing::warn!(
                "the schema lacks hitIdHigh, hitIdLow or receivedTimeGMT: hits cannot be compared with the table, so one \
                 that several producers or runs have received is there several times"
            );
        } else if mark.knows_from.is_none() {
            tracing::warn!(
                "the table has rows that the ledger knows nothing of, so every load is compared with the table; when the \
                 tool that loaded them has stopped, say so: `ingester ledger knows-from <time>`"
            );
        }
    }

    /// Keeps what the mark of the ledger says for `state dump`, which has no connection.
    pub(super) async fn note_mark(&self, mark: LedgerMark) -> Result<(), Failure> {
        self.load_store.on_disk(move |loads| loads.note_ledger_mark(&mark)).await
    }
}

async fn verify_columns(session: &Session, target: &Target) -> Result<(), LoadFailure> {
    session.run(&target.check_table()).await.doing(Doing::CheckTable).map(drop)
}

async fn verify_ledger(session: &Session, target: &Target) -> Result<LedgerMark, LoadFailure> {
    session.run(&target.check_ledger()).await.doing(Doing::CheckLedger)?;
    // By the catalog: reading the table itself would wait for whoever holds the lock.
    let lock = catalog::fetch(session, &target.lock).await;
    if lock.doing(Doing::FindLockTable)?.is_empty() {
        let why = format!("there is no table {}, or redshift.user may not see it", target.lock);
        return Err(LoadFailure::of_all(ErrorClass::Configuration, why, NO_LOCK));
    }
    ledger_mark::ensure(session, target).await
}
