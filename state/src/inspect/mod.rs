//! What `state` shows, the page of each service, `dump` and `verify`, and the metrics of both services. In: what the status of the services tells.
//! Nothing is stored here.

pub mod board;
pub mod dump;
pub mod verify;
pub mod metrics;
pub mod status_line;
pub mod columns;
