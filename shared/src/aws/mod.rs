//! What the calls to AWS have in common: the credential and the HTTP client.

mod credentials;

mod connector;

pub use connector::connector;
pub(crate) use credentials::not_built_in;
pub use credentials::{credential_error, load};
