//! What a service tells about its database. In: the log or the loads, and questions on a socket. Out: snapshots, plain
//! data that `state`, the other service and the metrics show. Nothing here survives a restart; a pause that is asked for
//! is durable in the loads before it is answered.

pub(crate) mod service;
pub mod feed;
mod overdue;
pub mod batch_detail;
pub mod snapshot;
pub mod history;
pub mod activity;
pub mod tap;
pub mod alert;
pub mod drift;
pub mod configuration;

pub use service::{note_replayed, set_pause};
