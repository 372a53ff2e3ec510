//! Why a transform cannot be built.

use shared::schema::{PathError, SchemaError};

/// Why a transform cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The schema breaks a rule.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A filter's path is none.
    #[error("filter \"{}\": filter.field: {source}", name.escape_debug())]
    FilterPath {
        /// The filter.
        name: String,
        /// What is wrong with its path.
        source: PathError,
    },
    /// One of a filter's regular expressions is none.
    #[error("filter \"{}\": filter.matches: {source}", name.escape_debug())]
    FilterPattern {
        /// The filter.
        name: String,
        /// What is wrong with it.
        source: regex::Error,
    },
}
