//! What needs an operator, told in time. In: what a service knows of itself, every few seconds. Out: the alerts that
//! stand, for snapshots, and what is sent to each target of `[[alert_target]]`. What was sent is in a file of the
//! service's directory, so that a restart sends nothing twice; an alert is sent twice only if the process dies between
//! the answer of the target and the note of it.

mod trial;
mod task;

mod heartbeat;
mod target;
mod send;
mod message;

mod kept;
mod outbox;
mod judge;

pub mod rules;
mod growth;

// For the simulation.
pub use judge::{Before, Judge};
pub use outbox::{Due, Event, Outbox};
pub use task::{Watch, known_names, start};
pub use trial::trial;
