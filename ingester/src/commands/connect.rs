//! Connects a command to Redshift, and names the code that it ends with.

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::{ObjectStore, ObjectStoreError};
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::redshift::doing::Doing;
use crate::redshift::{Connector, Session, SqlFailure, Target, errors};

pub(crate) async fn connect(config: &Config, clock: &Clock) -> Result<Session, Failure> {
    let connector = Connector::new(config, "livestream ingester", clock.clone())?;
    connector.open().await.map_err(sql_failed(Doing::Connect))
}

/// A connection for a command that moves or writes batches: fails when they belong to another pipeline.
pub(crate) async fn connect_as_owner(
    config: &Config,
    clock: &Clock,
    store: &ObjectStore,
    target: &Target,
) -> Result<Session, Failure> {
    let session = connect(config, clock).await?;
    Identity::new(config, store.clone()).refuse_foreign(&session, target).await?;
    Ok(session)
}

/// A command ends with 78 for a fault of the configuration, else with 69.
impl From<LoadFailure> for Failure {
    fn from(failure: LoadFailure) -> Self {
        let exit = match failure.class {
            ErrorClass::Configuration => Exit::Config,
            _ => Exit::Unavailable,
        };
        Self::new(exit, anyhow::anyhow!("{failure}"))
    }
}

pub(crate) fn store_failed(error: ObjectStoreError) -> Failure {
    LoadFailure::from(error).into()
}

pub(crate) fn sql_failed(doing: Doing) -> impl Fn(SqlFailure) -> Failure {
    move |error| errors::load_failure(&error, doing).into()
}
