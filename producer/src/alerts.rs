//! What the producer judges its alerts by.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::boxed::Boxed;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::shutdown::Shutdown;
use state::alerts::rules::ProducerFigures;
use state::alerts::{self, Watch};
use state::log::LogReader;
use state::status::activity::Activity;
use state::status::feed::Owner;
use state::status::snapshot::ProducerSnapshot;

use crate::counters::Counters;

/// The task that tells what needs an operator, until shutdown.
pub(crate) fn start(
    config: &Config,
    log: LogReader,
    counters: Arc<Counters>,
    activity: Activity,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Boxed<'static, ()>, Failure> {
    let (dir, components) = (config.log.dir.clone(), activity.clone());
    let look = move || {
        let snapshot = ProducerSnapshot { components: components.components(), ..Owner::snapshot(&log)? };
        let nulled = counters.by_column().into_iter().map(|(column, counts)| (column, counts.nulled));
        Ok(ProducerFigures {
            snapshot,
            damaged_sessions: counters.damaged.load(Ordering::Relaxed),
            nulled: nulled.filter(|(_, count)| *count > 0).collect(),
        })
    };
    alerts::start(config, Watch { dir, activity, look }, clock, shutdown)
}
