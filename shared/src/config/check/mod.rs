//! The rules beyond a value's type: ranges, addresses, and keys that need each other.

mod rules;
mod s3;
mod secrets;

mod address;

pub(super) use rules::sections;
