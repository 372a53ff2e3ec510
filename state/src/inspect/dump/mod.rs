//! `state dump`. In: what both services answer, or what their databases hold. Out: a table for people, JSON for programs.

mod table;
mod components;
mod batch_table;
mod overview;
mod batch;
mod load;

pub use batch::{BatchDump, Event, Happening};
pub use overview::{Dump, Pending, ask_ingester, ask_producer};
