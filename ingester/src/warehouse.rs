//! What is said to Redshift about batches, and what its answers mean. How it is reached stands in
//! [`shared::redshift`].

pub mod errors;
pub mod load;
pub mod load_errors;
pub mod statements;

pub use shared::redshift::{Connector, Rows, Session, SqlFailure, session, table};
pub use statements::Target;
