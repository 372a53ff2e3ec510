//! What the ingester judges its alerts by.

use std::sync::Arc;

use shared::boxed::Boxed;
use shared::clock::Steady;
use shared::config::Config;
use shared::exit::Failure;
use state::alerts::rules::IngesterFigures;
use state::alerts::{self, Watch};
use state::status::feed::Owner;
use tokio::sync::watch;

use crate::loads_owner::LoadsOwner;
use crate::services::Services;

/// The task that tells what needs an operator, until shutdown. `listed` is when S3 was last listed completely.
pub(crate) fn start(
    owner: LoadsOwner,
    configs: watch::Receiver<Arc<Config>>,
    listed: watch::Receiver<Steady>,
) -> Result<Boxed<'static, ()>, Failure> {
    let Services { config, activity, clock, shutdown, .. } = owner.services.clone();
    let look = move || figures(&owner, *listed.borrow());
    let watch = Watch { dir: config.ingester.dir.clone(), activity, look };
    alerts::start(configs, watch, &clock, &shutdown)
}

/// What the rules look at. `listed` is when S3 was last listed completely.
pub fn figures(owner: &LoadsOwner, listed: Steady) -> Result<IngesterFigures, Failure> {
    let Services { config, activity, clock, .. } = &owner.services;
    Ok(IngesterFigures {
        snapshot: owner.snapshot()?,
        failures: activity.failures(),
        since_listing: listed.until(clock.steady()),
        list_interval: config.ingester.list_interval.0,
        alert_after: config.ingester.alert_after,
    })
}
