//! S3, or any store that speaks it: the few calls this product makes, each of which may be repeated.

mod list;
mod read;
mod write;

mod store;

mod error;
mod send;

#[cfg(test)]
mod tests;

pub use error::{ObjectStoreError, ObjectStoreErrorKind};
pub use list::{Next, Object};
pub use read::{Opened, SMALL};
pub use store::ObjectStore;
pub use write::Stored;
pub use write::{base64, crc32, from_base64};
