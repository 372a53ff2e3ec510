//! What a configuration was made of: the table of all its keys, and the secrets that came from files. It is compared with what
//! the file says later. It never prints, since both hold secrets.

use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::config::choices::Secrets;
use crate::secret::Secret;

/// The origin of a configuration.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Which secrets were read; None: nothing was read from a file.
    pub(super) used: Option<Secrets>,
    /// Every key, with defaults and the environment.
    pub(super) table: Table,
    /// Each secret that came from a file, by its key.
    pub(super) in_files: Vec<(String, Secret)>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// The value of `section.key`.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        let (section, key) = path.split_once('.')?;
        self.table.get(section)?.get(key)
    }

    /// The content of the secret file that a key names.
    pub(super) fn in_file(&self, key: &str) -> Option<&Secret> {
        self.in_files.iter().find(|(known, _)| known == key).map(|(_, secret)| secret)
    }
}
