//! The commands beside `producer run`.

pub mod check;
pub mod schema;
pub mod replay;
pub mod import;
