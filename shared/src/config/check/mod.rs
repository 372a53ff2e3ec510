//! The rules beyond a value's type: ranges, addresses, and keys that need each other.

mod rules;

mod adobe;
mod alerts;
mod protect;
mod redshift;
mod s3;

pub(super) use rules::{TOKEN_RULE, is_token, sections};
