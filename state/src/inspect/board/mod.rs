//! The page of a service: what `state dump` shows, live. In: the service's own snapshot, and the other's, asked over its
//! socket. Out: the files of the page and the JSON that it reads. The last answers are in memory only.

mod site;
mod neighbour;
mod cache;
mod ready;
mod files;

pub use ready::missing;
pub use site::{Board, Own};
