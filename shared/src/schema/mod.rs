//! The table schema: which field of a record goes into which column, and as what.
//!
//! One `Schema` decides the transform, the CREATE TABLE and the column list of COPY, so that the three cannot
//! disagree. It is either the built-in one, which covers every documented field, or a user's TOML file, which takes its
//! place or adds to it.

mod read;

mod built_in;

mod table;

mod words;

mod path;
mod sql_type;

pub(crate) use built_in::EVENTS;
pub use path::{JsonPath, PathError};
pub use sql_type::{SqlType, SqlTypeError};
pub(crate) use table::valid_name;
pub use table::{Column, MAX_COLUMNS, MAX_DELIMITER_BYTES, MAX_ROW_BYTES, ROW_NUMBER, Schema, SchemaError};
pub use words::{Encoding, Kind, Rule};
