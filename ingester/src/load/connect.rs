//! A connection, and what must be known before the first load over it: that the tables are as they should be, that they
//! and the prefixes belong together, and that no session of before holds the lock.

use std::time::Instant;

use crate::redshift::table;
use shared::exit::{Exit, Failure};
use state::loads::{ErrorClass, LedgerMark, Loads};
use state::store::StoreError;

use crate::failure::LoadFailure;
use crate::load::Loader;
use crate::redshift::mark::{self, Mark};
use crate::redshift::{Session, SqlFailure, errors, orphan, stage};

/// What to do about a ledger that an earlier version made.
const NO_LOCK: &str = "`ingester ddl --diff` prints the statement that creates it";

impl Loader {
    /// Makes a connection, if there is none that is usable. The outer error is the bookkeeping's.
    pub(super) async fn connect(&mut self) -> Result<Result<(), LoadFailure>, Failure> {
        if self.session.as_ref().is_some_and(Session::usable) {
            return Ok(Ok(()));
        }
        self.session = None;
        let session = match self.connector.open().await {
            Ok(session) => session,
            Err(failure) => return Ok(Err(errors::trouble(&failure, "connecting to Redshift"))),
        };
        if let Err(failure) = self.end_orphan(&session).await? {
            return Ok(Err(errors::trouble(&failure, "ending an earlier session")));
        }
        let mark = match self.look_at_tables(&session).await {
            Ok(mark) => mark,
            Err(trouble) => return Ok(Err(trouble)),
        };
        if let Err(why) = self.identity.claim(&mark).await {
            return Ok(Err(why.into()));
        }
        self.target.shape = match stage::shape(&session, &self.target).await {
            Ok(shape) => shape,
            Err(failure) => return Ok(Err(errors::trouble(&failure, "looking at the columns of the table"))),
        };
        let target = &self.target;
        let knows_from = mark.knows_from.map(|at| tracing::field::display(at.format("%F %T UTC")));
        tracing::info!(table = %target.table, ledger = %target.ledger, knows_from, "connected to Redshift");
        if target.comparable().is_none() && !self.greeted {
            tracing::warn!(
                "the schema lacks hitIdHigh, hitIdLow or receivedTimeGMT: hits cannot be compared with the table, so one \
                 that several producers or runs have received is there several times"
            );
        } else if mark.knows_from.is_none() && !self.greeted {
            tracing::warn!(
                "the table has rows that the ledger knows nothing of, so every load is compared with the table; when the \
                 tool that loaded them has stopped, say so: `ingester ledger knows-from <time>`"
            );
        }
        self.note_mark(mark).await?;
        self.session = Some(session);
        self.greeted = true;
        self.next_look = Instant::now();
        Ok(Ok(()))
    }

    /// Ends the session of before, if it has not ended, and notes this one before it locks anything.
    async fn end_orphan(&self, session: &Session) -> Result<Result<(), SqlFailure>, Failure> {
        if let Some(before) = self.kept(Loads::session).await?
            && let Err(failure) = orphan::end(session, &before).await
        {
            return Ok(Err(failure));
        }
        let began = orphan::identify(session).await;
        self.kept(move |loads| loads.note_session(began.as_ref())).await?;
        Ok(Ok(()))
    }

    async fn look_at_tables(&self, session: &Session) -> Result<Mark, LoadFailure> {
        let target = &self.target;
        for (sql, doing) in [(target.check_table(), "the table"), (target.check_ledger(), "the ledger")] {
            session.run(&sql).await.map_err(|error| errors::trouble(&error, doing))?;
        }
        // By the catalog: reading the table itself would wait for whoever holds the lock.
        let lock = table::look(session, &target.lock).await;
        let lock = lock.map_err(|error| errors::trouble(&error, "looking for the table of the lock"))?;
        if lock.is_empty() {
            let why = format!("there is no table {}, or redshift.user may not see it", target.lock);
            return Err(LoadFailure::of_all(ErrorClass::Configuration, why, NO_LOCK));
        }
        mark::ensure(session, target).await
    }

    /// Keeps what the mark of the ledger says for those who ask without a connection.
    pub(super) async fn note_mark(&self, mark: Mark) -> Result<(), Failure> {
        let Mark { knows_from, pipeline, table } = mark;
        self.kept(move |loads| loads.note_ledger_mark(&LedgerMark { pipeline, table, knows_from })).await
    }

    async fn kept<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Loads) -> Result<T, StoreError> + Send + 'static,
    {
        let loads = self.load_store.loads();
        let done = tokio::task::spawn_blocking(move || work(&loads)).await;
        Ok(done.map_err(|error| Failure::new(Exit::Software, error))??)
    }
}
