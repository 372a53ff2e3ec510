//! What a key of the configuration is: its name, type, default and meaning; and how a section is declared.

/// Declares a section of the file: its name and meaning, and a line a key. A field behind `@` is not in the file.
macro_rules! section {
    ($name:ident($section:literal, $about:literal) {
        $($(#[$attr:meta])* $field:ident: $type:ty = $key:expr;)*
        $(@$skipped:ident: $of:ty;)?
    }) => {
        #[doc = $about]
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "the table of keys documents them")]
        pub struct $name {
            $($(#[$attr])* pub $field: $type,)*
            $(#[serde(skip)] pub $skipped: $of,)?
        }

        impl $name {
            const SECTION: Section =
                ($section, $about, &[$(Key { path: concat!($section, ".", stringify!($field)), ..$key }),*]);
        }
    };
}

pub(super) use section;

/// Name, meaning and keys of a section. The keys of a list belong to each of its tables.
pub(super) type Section = (&'static str, &'static str, &'static [Key]);

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
    /// Whether a running service takes a new value on SIGHUP; otherwise the next start does.
    pub reloads: bool,
    pub(super) range: Option<(&'static str, &'static str)>,
}

impl Key {
    pub(super) const fn within(self, least: &'static str, greatest: &'static str) -> Self {
        Self { range: Some((least, greatest)), ..self }
    }

    /// A running service takes a new value.
    pub(super) const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }
}

pub(super) const fn key(
    kind: Type,
    default: Option<&'static str>,
    example: &'static str,
    help: &'static str,
) -> Key {
    Key { path: "", kind, default, example, help, reloads: false, range: None }
}
