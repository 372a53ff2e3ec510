//! The commands beside `producer run`.

pub(crate) mod check;
pub(crate) mod schema;
pub(crate) mod replay;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod files;
