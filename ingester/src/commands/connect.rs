//! Connects a command to Redshift, and names the code that it ends with.

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::StoreError;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::{Connector, Session, errors};

/// A connection for a command that ends.
pub(crate) async fn connect(config: &Config, clock: &Clock) -> Result<Session, Failure> {
    let connector = Connector::new(config, "livestream ingester", clock.clone())?;
    let opened = connector.open().await;
    opened.map_err(|error| failed(&errors::load_failure(&error, "connecting to Redshift")))
}

/// The failure of a command: 78 for a fault of the configuration, else 69.
pub(crate) fn failed(failure: &LoadFailure) -> Failure {
    let exit = match failure.class {
        ErrorClass::Configuration => Exit::Config,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, anyhow::anyhow!("{failure}"))
}

/// The failure of a command that S3 ends.
pub(crate) fn store_failed(error: StoreError) -> Failure {
    failed(&error.into())
}
