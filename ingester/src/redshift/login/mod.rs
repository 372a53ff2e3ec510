//! Who the ingester is to Redshift: a user with a password of its own, or with one that AWS gives out for a while.
//!
//! A password of AWS only opens connections: an open connection outlives it. It is in memory only: after a crash AWS is
//! asked for another.

mod password;
mod api;
mod signed;

pub(crate) use api::{Credential, login_address};
pub(crate) use password::Login;
pub use signed::Api;
