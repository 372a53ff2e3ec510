//! What must not come to rest as it was sent (`[protect]`). The walk notes where each protected value lies; before the row
//! is written, each gets its replacement. Columns, the JSON around a value, rejects and taps all read that.
//!
//! ```text
//! [protect] + schema ─► fields ─► places in the plan's tree ─walk─► found values ─► replacements ─► row, reject, tap
//! ```
//! What has not the form that its mask expects is dropped, and counted: nothing is kept on a guess. Filters and the
//! identity of the hit read the record as it was sent; neither comes to rest. Nothing here survives a crash.

mod protection;
mod field;
mod replace;
mod how;
mod ip;
mod email;
mod parameters;
mod query;
mod pseudonym;

#[cfg(test)]
mod check;

pub(crate) use how::How;
pub(crate) use protection::ProtectedCounts;
pub(super) use protection::Protection;
pub(super) use pseudonym::{Pseudonyms, hex};
