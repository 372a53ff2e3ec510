//! What a running producer takes of a changed configuration: the schema, filters and protections, by a new transform, which
//! each connection takes between two blocks and without connecting anew; the credentials of Adobe and S3; the token of the
//! page; the alerts.

use std::sync::Arc;

use shared::config::{Config, Reloaded};
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::secret::Secret;
use state::alerts::known_names;
use state::reload::Reloads;
use tokio::sync::watch;

use crate::configured::{to_run, transform};
use crate::counters::Counters;
use crate::source::token::{NewCredential, Tokens};
use crate::transform::Transform;

/// The parts of a producer that take something of a new configuration.
pub(crate) struct Producer {
    pub(crate) transforms: watch::Sender<Transform>,
    /// What the log has rows say in place of the id of their batch.
    pub(crate) batch_placeholder: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tokens: Tokens,
    pub(crate) store: ObjectStore,
    pub(crate) page_token: watch::Sender<Secret>,
    pub(crate) alerts: watch::Sender<Arc<Config>>,
}

/// What a new configuration needs.
pub(crate) struct Ready {
    transform: Transform,
    credential: NewCredential,
    store: ObjectStore,
}

impl Reloads for Producer {
    type Ready = Ready;

    async fn prepare(&self, new: &Reloaded) -> Result<Ready, Failure> {
        known_names(&new.config)?;
        let transform = transform(&new.config, &new.schema)?;
        let transform = to_run(transform, &new.schema, &self.batch_placeholder);
        let credential = self.tokens.prepare(&new.config.adobe);
        let credential = credential.map_err(|error| Failure::new(Exit::Config, error))?;
        Ok(Ready { transform, credential, store: ObjectStore::connect(&new.config.s3).await })
    }

    fn take(&mut self, new: &Reloaded, ready: Ready) {
        let transforms = ["schema", "filter", "protect", "rejects"].iter().any(|section| new.takes(section));
        if transforms || new.taken.iter().any(|key| key == "adobe.invalid_text") {
            self.counters.follow(ready.transform.filter_names(), ready.transform.protected_fields());
            self.transforms.send_replace(ready.transform);
        }
        if new.taken.iter().any(|key| key.starts_with("adobe.client_secret") || key.starts_with("adobe.jwt"))
        {
            self.tokens.replace(ready.credential);
        }
        if new.takes("s3") {
            self.store.take_credential(&ready.store);
        }
        if new.takes("metrics") {
            self.page_token.send_replace(new.config.metrics.token.clone());
        }
        if new.takes("alerts") || new.takes("alert_target") {
            self.alerts.send_replace(Arc::new(new.config.clone()));
        }
    }
}
