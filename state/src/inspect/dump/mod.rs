//! `state dump`. In: what both services answer, or what their databases hold. Out: a table for people, JSON for programs.

mod table;
mod stream_table;
mod batch_table;
mod overview;
mod batch;
mod timeline;

pub use batch::BatchDump;
pub use overview::{Dump, Pending, ask_ingester, ask_producer};
pub use timeline::{Event, Happening};
