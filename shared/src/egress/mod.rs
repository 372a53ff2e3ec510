//! How HTTPS requests leave this machine: through which proxy, and which authorities are trusted. The environment says
//! it, once for every client of a program: Adobe's (reqwest) and those of AWS (the SDK's own).
//!
//! Plain http is accepted towards loopback only, and the AWS chain uses it for the metadata of an instance or container.
//! None of these may leave the machine through a proxy. So only `https` is ever proxied.

mod client;

mod environment;

mod proxy;

#[cfg(test)]
mod tests;

pub use environment::Egress;
pub(crate) use environment::VARIABLES;
pub(crate) use proxy::may_be_plain;
