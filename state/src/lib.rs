//! Everything durable on local disk: the producer's log, the ingester's bookkeeping, the socket on which their
//! owners answer questions, and what `state` shows of them.

mod as_owner;
mod ask;
pub mod cli;
pub mod columns;
pub mod dump;
pub mod feed;
pub mod hit_set;
mod leftovers;
pub mod loads;
mod lock;
pub mod log;
pub mod metrics;
mod owners;
pub mod pausing;
mod pieces;
pub mod points;
pub mod snapshot;
mod snapshots;
pub mod store;
pub mod verify;

pub use ask::Part;
pub use lock::{holder, in_use};
