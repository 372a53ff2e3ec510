//! What a running ingester takes of a changed configuration: the schema, by a new target, which the loader takes between two
//! attempts and reconciling between two comparisons; the credentials of Redshift and S3; the token of the page; the alerts.

use std::sync::Arc;
use std::time::Duration;

use shared::config::{Config, Reloaded};
use shared::exit::Failure;
use shared::object_store::ObjectStore;
use shared::secret::Secret;
use state::alerts::known_names;
use state::reload::Reloads;
use tokio::sync::watch;

use crate::redshift::{Connector, Target, catalog};
use crate::services::Services;

/// A Redshift that does not tell its columns within this time is taken for away: a service manager waits for a reload.
const ASKING: Duration = Duration::from_secs(30);

/// The parts of an ingester that take something of a new configuration.
pub(crate) struct Ingester {
    pub(crate) targets: watch::Sender<Target>,
    /// Those of loading and of reconciling.
    pub(crate) connectors: [Connector; 2],
    pub(crate) services: Services,
    pub(crate) page_token: watch::Sender<Secret>,
    pub(crate) alerts: watch::Sender<Arc<Config>>,
}

/// What a new configuration needs.
pub(crate) struct Ready {
    connector: Connector,
    store: ObjectStore,
}

impl Reloads for Ingester {
    type Ready = Ready;

    async fn prepare(&self, new: &Reloaded) -> Result<Ready, Failure> {
        let Reloaded { config, schema, .. } = new;
        let Services { pauses, clock, .. } = &self.services;
        known_names(config)?;
        let connector = Connector::new(config, "livestream ingester reload", clock.clone())?;
        // A pause may be for Redshift's sake: then the loader verifies the tables before its first load. Without another
        // schema nobody is asked: a password may be changed here before it is changed there.
        if new.takes("schema") && pauses.present().is_none() {
            let verified = catalog::refuse_reload(config, schema, &connector);
            match tokio::time::timeout(ASKING, verified).await {
                Ok(verified) => verified?,
                Err(_) => tracing::warn!(
                    "Redshift does not tell the columns of the table: the loader compares later"
                ),
            }
        }
        Ok(Ready { connector, store: ObjectStore::connect(&config.s3).await })
    }

    fn take(&mut self, new: &Reloaded, Ready { connector, store }: Ready) {
        if new.takes("schema") {
            let loader = self.targets.borrow().loader.clone();
            self.targets.send_replace(Target::new(&new.config, &new.schema, loader));
        }
        // Passwords that AWS gives out are asked for with the credential of S3.
        if new.takes("redshift") || new.takes("s3") {
            self.connectors.iter().for_each(|ours| ours.take_login(connector.login()));
        }
        if new.takes("s3") {
            self.services.store.take_credential(&store);
        }
        if new.takes("metrics") {
            self.page_token.send_replace(new.config.metrics.token.clone());
        }
        if new.takes("alerts") || new.takes("alert_target") {
            self.alerts.send_replace(Arc::new(new.config.clone()));
        }
        if ["schema", "redshift", "s3"].iter().any(|section| new.takes(section)) {
            self.services.reloads.taken();
        }
    }
}
