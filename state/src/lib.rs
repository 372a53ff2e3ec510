//! Everything durable on local disk: the producer's log and the ingester's load store, the socket on which their
//! services answer questions, and what `state` shows of them. Each module uses only those below it.

pub mod cli;
mod tap;
mod watch;
pub mod inspect;
pub mod alerts;
pub mod reload;
pub mod status;
pub mod log;
pub mod loads;
mod verdict;
mod limits;
pub mod store;
pub mod failpoints;

pub use status::service::{Part, Silent};
pub use store::lock::{holder, in_use};
pub use verdict::{Checked, Fault};
