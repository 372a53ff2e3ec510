//! What the calls to AWS have in common: the credential, the HTTP client, and requests signed without an SDK.

mod api;
mod credentials;

mod connector;

mod https_only;

pub use api::{Api, ApiError, Reply};
pub(crate) use credentials::{load, not_built_in};
