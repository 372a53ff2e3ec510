//! What `state` shows, `dump` and `verify`, and the metrics of both services. In: what the status of the services tells.
//! Nothing is stored here.

pub mod dump;
pub mod verify;
pub mod metrics;
pub mod columns;
