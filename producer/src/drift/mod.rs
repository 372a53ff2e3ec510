//! What of the stream is not as it was. In: what the transforms of all connections counted and looked at. Out: the fields
//! that the stream brings, and changes, for snapshots, figures and alerts.
//!
//! ```text
//! tallies of the transforms ─► window of the latest 8,192 rows ─┐
//!   └─ records looked at ─► fields, their values ──────────────┴─► judge ─► what drifted, for a day
//!                                    rows that left the window ─► baseline ┘
//! ```
//! Memory is bounded: by the columns, 512 fields beside them, 32 values of each, 256 changes. The baseline, the fields and
//! what drifted are in a file of the log's directory, written every few minutes and when a change is told, so that a restart neither tells the same
//! again nor takes a stream that has changed meanwhile for the usual one. Without the file everything is learned anew.

mod keeper;
mod watch;
mod kept;
mod window;
mod fields;
mod values;
mod drifted;
mod usual;
mod judge;
#[cfg(test)]
mod tests;

pub(crate) use keeper::keep;
pub(crate) use watch::Drift;
