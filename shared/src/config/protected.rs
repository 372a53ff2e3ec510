//! What follows from `[protect]` and `rejects.keep`.

use crate::config::choices::KeepRejects;
use crate::config::keys::{Config, Protect};
use crate::schema::{JsonPath, PathError};
use crate::secret::Secret;

/// Before a path that a column is called like.
const RECORD: &str = "$.";
/// So short a key could be guessed.
const KEY_BYTES: usize = 32;
pub(super) const KEY_RULE: &str = "must have 32 bytes or more, such as `openssl rand -hex 32` makes";

impl Protect {
    /// Each list of fields, by the name of its key.
    pub fn lists(&self) -> [(&'static str, &[String]); 6] {
        [
            ("drop", &self.drop),
            ("mask_ip", &self.mask_ip),
            ("mask_email", &self.mask_email),
            ("mask_query", &self.mask_query),
            ("mask_parameters", &self.mask_parameters),
            ("pseudonym", &self.pseudonym),
        ]
    }

    /// Whether no field is protected.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, fields)| fields.is_empty())
    }

    /// The name of the column that a field may be: one with `$.` before it is a path.
    pub fn column(field: &str) -> Option<&str> {
        (!field.starts_with(RECORD)).then_some(field)
    }

    /// The path that a field is, unless it names a column.
    pub fn path(field: &str) -> Result<JsonPath, PathError> {
        field.strip_prefix(RECORD).unwrap_or(field).parse()
    }
}

impl Config {
    /// What is kept of a reject.
    pub fn kept_rejects(&self) -> KeepRejects {
        match self.rejects.keep {
            KeepRejects::ByProtection if self.protect.is_empty() => KeepRejects::Full,
            KeepRejects::ByProtection => KeepRejects::Protected,
            keep => keep,
        }
    }
}

pub(super) fn is_key(key: &Secret) -> bool {
    key.reveal().len() >= KEY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_path_unless_a_column_is_called_so() {
        assert_eq!(Protect::column("ip"), Some("ip"));
        assert_eq!(Protect::column("$.ip"), None);
        for field in ["ip", "$.ip"] {
            assert_eq!(Protect::path(field).unwrap(), JsonPath::of(["ip"]));
        }
        assert!(Protect::path("$").unwrap().is_record());
        assert!(Protect::path("$.products[].name").is_err());
    }

    #[test]
    fn a_key_has_32_bytes_or_more() {
        assert!(!is_key(&Secret::new("k".repeat(31))) && is_key(&Secret::new("k".repeat(32))));
    }
}
