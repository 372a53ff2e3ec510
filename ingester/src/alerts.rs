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
    let (list_interval, alert_after) = (config.ingester.list_interval.0, config.ingester.alert_after);
    let now = clock.clone();
    let look = move || {
        Ok(IngesterFigures {
            snapshot: owner.snapshot()?,
            failures: owner.services.activity.failures(),
            since_listing: listed.borrow().until(now.steady()),
            list_interval,
            alert_after,
        })
    };
    let watch = Watch { dir: config.ingester.dir.clone(), activity, look };
    alerts::start(configs, watch, &clock, &shutdown)
}
