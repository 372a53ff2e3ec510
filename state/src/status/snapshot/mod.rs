//! What a service tells about its database: plain data, made from what the log and the loads tell. It is the same
//! whether a service answers for its database or somebody else opens it. `state dump --json` prints these types, so
//! they are an interface: see docs/STATE.md.

mod ingester;
mod producer;
mod batch;

pub use batch::{BatchDetail, BatchSnapshot, FileDetail, Matching};
pub use ingester::IngesterSnapshot;
pub use producer::{GapSnapshot, GapsSnapshot, ProducerSnapshot};

/// Version of the JSON; it grows when the meaning of a field changes or a field goes.
pub const SNAPSHOT_FORMAT: u32 = 2;
