//! From a JSON record to a CSV row, in one pass.
//!
//! ```text
//! bytes ─UTF-8?─► text ─walk─► spans of the values the schema wants ─filters─► protect ─► convert, column by column ─► row
//!   └─ not UTF-8, or raw control characters: a mended copy takes its place ─┘
//! ```
//! The walk validates the whole record and remembers only where each wanted value lies; the values are then
//! converted from there straight into the row. Nothing is copied in between, and a record allocates nothing once the
//! buffers have grown to its size.
//!
//! Redshift stores what Adobe sent, unless the column's type makes that impossible. Then the column's rule decides, and
//! the value is counted by column: see [`ColumnCounts`]. If a key occurs twice in an object, its last value that is not
//! empty counts, as in most JSON readers. Nothing here survives a crash; records that are not in the log are sent again.

mod current;
mod explain;
mod rejects;
mod record;
mod tally;
mod survey;
mod scalar;
mod keeping;
mod identity;
mod mend;
mod walk;
mod row;
mod protect;
mod plan;
mod filter;
mod keys;
mod spans;
mod found;
mod convert;
mod cell;
mod list;
mod event;
mod semi;
mod time;
mod value;
mod text;
mod number;
mod scan;
mod outcome;
#[cfg(test)]
mod tests;

pub use state::log::HitId;

pub use current::CurrentTransform;
pub(crate) use explain::Explained;
pub use filter::{Filter, FilterTest};
pub(crate) use identity::Identity;
pub use identity::identity;
pub(crate) use outcome::ColumnCounts;
pub use outcome::{Outcome, Reject};
pub(crate) use plan::IDENTITY;
pub(crate) use protect::ProtectedCounts;
pub use record::Transform;
pub(crate) use scalar::{JsonType, Scalar};
pub(crate) use scan::is_json;
pub(crate) use survey::Sighting;
pub(crate) use tally::{Columns, LOOK_INTERVAL, Limit, Limits, Taken};
pub(crate) use text::hash;
