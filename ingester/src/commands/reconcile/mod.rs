//! Log × S3 × ledger: compares every batch that any of the three knows, mends what needs no decision, and reports the
//! rest.
//!
//! ```text
//! gather (a day at a time) ──Facts──► judge (pure) ──Verdict──► mend ──► report
//! ```
//! `ingester run` does it at start and at an interval ([`task`]), `ingester reconcile` when asked ([`mod@command`]). All it
//! does may be repeated, and done by several at once. It keeps nothing over a crash: the next comparison finds what is left.

mod command;
mod task;
mod compare;
mod mend;
mod report;

pub(crate) use command::{Args, command};
pub(crate) use task::Reconciler;
