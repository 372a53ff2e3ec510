//! Why a schema cannot be used.

/// Why a schema cannot be used: names the file, the column and the rule.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The text is not TOML.
    #[error("{origin}: {source}")]
    Syntax {
        /// The file, as the user knows it.
        origin: String,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// One column breaks a rule.
    #[error("{origin}: column {column}: {rule}")]
    Column {
        /// The file, as the user knows it.
        origin: String,
        /// The column's name, or its number if it has none.
        column: String,
        /// What is wrong and what would be right.
        rule: String,
    },
    /// The schema as a whole breaks a rule.
    #[error("{origin}: {rule}")]
    Whole {
        /// The file, as the user knows it.
        origin: String,
        /// What is wrong and what would be right.
        rule: String,
    },
}
