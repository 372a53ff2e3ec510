//! What a key of the configuration is.

/// Environment variables of this prefix override keys: `LIVESTREAM__REDSHIFT__PASSWORD`.
pub const ENV_PREFIX: &str = "LIVESTREAM__";

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Type {
    Text,
    /// A text that never prints; also readable from a file by the key with `_file` appended.
    Secret,
    Path,
    Integer,
    Number,
    /// `true` or `false`.
    Boolean,
    /// A number with its unit: `"50ms"`, `"2h"`.
    Duration,
    /// A number with its unit: `"64MiB"`.
    Size,
    Texts,
}

impl Type {
    /// The name of the type in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Path => "path",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Texts => "list of text",
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Key {
    /// `section.key`.
    pub path: &'static str,
    pub kind: Type,
    /// The default as TOML, or None when the key must be given (an empty text, or nothing, means "not set").
    pub default: Option<&'static str>,
    pub example: &'static str,
    pub help: &'static str,
    pub(super) range: Option<(&'static str, &'static str)>,
}

impl Key {
    pub(super) const fn within(self, least: &'static str, greatest: &'static str) -> Self {
        Self { range: Some((least, greatest)), ..self }
    }
}

pub(super) const fn key(
    kind: Type,
    default: Option<&'static str>,
    example: &'static str,
    help: &'static str,
) -> Key {
    Key { path: "", kind, default, example, help, range: None }
}
