//! Why a schema cannot be used.

/// Why a schema cannot be used: names the file, the column and the rule.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SchemaError {
    /// The text is not TOML.
    #[error("{origin}: {source}")]
    Syntax {
        origin: String,
        source: Box<toml::de::Error>,
    },
    #[error("{origin}: column {column}: {rule}")]
    Column {
        origin: String,
        /// The column's name, or its number if it has none.
        column: String,
        rule: String,
    },
    #[error("{origin}: {rule}")]
    Whole {
        origin: String,
        rule: String,
    },
}
