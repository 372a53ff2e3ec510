//! Redshift: how to reach it, how to log in, and what its catalog says of the table. What is said to it about batches is
//! the ingester's business.
//!
//! Only the simple-query protocol is spoken: tokio-postgres asks for binary results otherwise, which Redshift gets
//! wrong for some types.

pub mod connect;
pub mod login;
pub mod said;
pub mod session;
pub mod table;

pub use connect::Connector;
pub use login::login_address;
pub use session::{Rows, Session, SqlFailure};
