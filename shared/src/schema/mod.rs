//! The table schema: which field of a record goes into which column, and as what.
//!
//! One `Schema` decides the transform, the CREATE TABLE and the column list of COPY, so that the three cannot
//! disagree. It is either the built-in one, which covers every documented field, or a user's TOML file, which takes its
//! place or adds to it.

mod read;

mod built_in;

mod table;

mod encoding;
mod error;
mod name;
mod rule;

mod kind;
mod path;
mod sql_type;

mod words;

pub(crate) use built_in::EVENTS;
pub use encoding::Encoding;
pub use error::SchemaError;
pub use kind::Kind;
pub use name::ROW_NUMBER;
pub(crate) use name::valid_name;
pub use path::{JsonPath, PathError};
pub use rule::Rule;
pub use sql_type::{SqlType, SqlTypeError};
pub(crate) use table::MAX_COLUMNS;
pub use table::{Column, MAX_DELIMITER_BYTES, MAX_ROW_BYTES, Schema};
