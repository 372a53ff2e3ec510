//! The token of Adobe IMS: one for all connections of the process, and by its file for all producers of the machine.
//!
//! In: the credential. Out: the current [`Token`]. The token in its file survives a crash.

mod tokens;
mod cache;
mod ims;
mod advice;
mod sign;
mod value;

pub(crate) use tokens::NewCredential;
pub use tokens::Tokens;
pub(crate) use value::{NOT_ACCEPTED, Token};
pub use value::{NoToken, TokenError};
