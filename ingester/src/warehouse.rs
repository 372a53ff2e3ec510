//! Redshift: how to reach it, what is said to it, and what its answers mean.
//!
//! Only the simple-query protocol is spoken: tokio-postgres asks for binary results otherwise, which Redshift gets
//! wrong for some types.

pub mod connect;
pub mod counts;
pub mod errors;
pub mod file_counts;
pub mod ledger;
pub mod load;
pub mod load_errors;
pub mod release;
pub mod session;
pub mod statements;
pub mod table;

pub use connect::Connector;
pub use session::{Rows, Session, SqlFailure};
pub use statements::Target;
