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
use tokio::sync::watch;

use crate::shown::Shown;

/// The task that tells what needs an operator, until shutdown.
pub(crate) fn start(
    configs: watch::Receiver<Arc<Config>>,
    shown: Shown,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Boxed<'static, ()>, Failure> {
    let (dir, activity) = (configs.borrow().log.dir.clone(), shown.activity.clone());
    let look = move || {
        let counters = &shown.counters;
        let nulled = counters.by_column().into_iter().map(|(column, counts)| (column, counts.nulled));
        Ok(ProducerFigures {
            snapshot: shown.snapshot()?,
            damaged_sessions: counters.damaged.load(Ordering::Relaxed),
            nulled: nulled.filter(|(_, count)| *count > 0).collect(),
        })
    };
    alerts::start(configs, Watch { dir, activity, look }, clock, shutdown)
}
