//! The token of Adobe IMS: one for all connections of the process, and by its file for all producers of the machine.
//!
//! In: the credential. Out: the current [`Token`]. The token in its file survives a crash.

mod tokens;
mod cache;
mod ims;
mod advice;
mod service_account;
mod sign;
mod value;
mod error;

pub(crate) use error::NOT_ACCEPTED;
pub use error::{NoToken, TokenError};
pub use tokens::Tokens;
pub(crate) use value::Token;
