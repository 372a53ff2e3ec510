//! What a service tells of its log or its loads: plain data, and the socket on which it is asked for.

pub mod pausing;
pub mod owners;
pub(crate) mod ask;
pub(crate) mod as_owner;
pub mod feed;
pub mod snapshot_cache;
pub mod snapshot;
