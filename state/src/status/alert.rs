//! An alert that stands: what needs an operator, as a service judges itself. Snapshots carry them, so that the dump, its
//! JSON, the metrics and the page show the same as what is sent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::config::Severity;
use shared::ids::BatchId;

/// Something that needs an operator, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule that it stands by, such as `log_full`: a service has one alert of a name at most.
    pub name: String,
    /// How bad it is. It never falls while the alert stands.
    pub severity: Severity,
    /// Since when it is so.
    pub since: DateTime<Utc>,
    /// How often something was added to it: targets are told again when it grows.
    #[serde(default, skip_serializing_if = "is_first")]
    pub rounds: u64,
    /// The batch that has waited longest for it, if it concerns batches.
    pub batch: Option<BatchId>,
    /// What is wrong, in a few words.
    pub says: String,
    /// What was met, with figures of this moment.
    pub detail: String,
    /// What to do.
    pub todo: String,
    /// The heading of docs/OPERATIONS.md that explains it, as it stands in a link.
    pub docs: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_first(rounds: &u64) -> bool {
    *rounds == 0
}
