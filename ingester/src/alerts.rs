//! What the ingester judges its alerts by.

use shared::boxed::Boxed;
use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::exit::Failure;
use shared::shutdown::Shutdown;
use state::alerts::rules::IngesterFigures;
use state::alerts::{self, Watch};
use state::status::feed::Owner;
use tokio::sync::watch;

use crate::loads_owner::LoadsOwner;

/// The task that tells what needs an operator, until shutdown. `listed` is when S3 was last listed completely.
pub(crate) fn start(
    config: &Config,
    owner: LoadsOwner,
    listed: watch::Receiver<Steady>,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Boxed<'static, ()>, Failure> {
    let (dir, activity) = (config.ingester.dir.clone(), owner.activity.clone());
    let (list_interval, alert_after) = (config.ingester.list_interval.0, config.ingester.alert_after);
    let now = clock.clone();
    let look = move || {
        Ok(IngesterFigures {
            snapshot: owner.snapshot()?,
            failures: owner.activity.failures(),
            since_listing: listed.borrow().until(now.steady()),
            list_interval,
            alert_after,
        })
    };
    alerts::start(config, Watch { dir, activity, look }, clock, shutdown)
}
