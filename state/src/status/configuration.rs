//! Which configuration a service runs with: snapshots carry it, so that nobody has to guess whether a changed file counts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The configuration of a running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// When the service took it: at its start, or at the latest reload that succeeded.
    pub taken: DateTime<Utc>,
    /// How often it was reloaded since the start.
    pub reloads: u64,
    /// The latest reload, if it failed: the service runs with the configuration it had before.
    pub failed: Option<FailedReload>,
    /// The keys whose values in the file wait for a restart, as of the latest reload that succeeded.
    pub waiting: Vec<String>,
}

/// A reload that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReload {
    /// When it was tried.
    pub at: DateTime<Utc>,
    /// What is wrong with the configuration.
    pub why: String,
}

impl ConfigurationStatus {
    pub(crate) fn of_start(taken: DateTime<Utc>) -> Self {
        Self { taken, reloads: 0, failed: None, waiting: Vec::new() }
    }
}
