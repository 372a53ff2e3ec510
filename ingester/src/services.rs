//! What the tasks of a running ingester share. Clones share it too; it has no state of its own.

use std::sync::Arc;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::status::activity::Activity;

use crate::load_store::LoadStore;
use crate::pauses::Pauses;
use crate::reload_notifier::ReloadNotifier;

/// What every task of an ingester may use.
#[derive(Debug, Clone)]
pub struct Services {
    pub(crate) config: Arc<Config>,
    pub(crate) store: ObjectStore,
    pub(crate) load_store: LoadStore,
    pub(crate) pauses: Pauses,
    /// Told when a changed configuration is taken: what needed one may go now.
    pub(crate) reloads: ReloadNotifier,
    pub(crate) activity: Activity,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
}

impl Services {
    /// Reads the pause by hand that the load store has from before this start.
    pub fn new(
        config: Config,
        store: ObjectStore,
        load_store: LoadStore,
        activity: Activity,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Result<Self, Failure> {
        let pauses = Pauses::new(&config.ingester.pause, load_store.loads(), &clock)?;
        let (config, reloads) = (Arc::new(config), ReloadNotifier::default());
        Ok(Self { config, store, load_store, pauses, reloads, activity, clock, shutdown })
    }

    /// What each task is doing.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Tells the tasks that a changed configuration was taken.
    pub fn reloaded(&self) {
        self.reloads.taken();
    }
}
