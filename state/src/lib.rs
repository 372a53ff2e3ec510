//! Everything durable on local disk: the producer's log, the ingester's bookkeeping, the socket on which their
//! owners answer questions, and what `state` shows of them.

pub mod cli;
pub mod inspect;
pub mod status;
pub mod log;
pub mod loads;
mod verdict;
mod limits;
pub mod store;
pub mod failpoints;

pub use status::service::Part;
pub use store::lock::{holder, in_use};
pub use verdict::{Checked, Fault};
