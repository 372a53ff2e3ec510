//! What a restart must know of the stream: a file of the log's directory, replaced as a whole. Without it, or with one that
//! cannot be used, the stream is learned anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::private;
use state::status::drift::Drifted;

use crate::drift::fields::Fields;
use crate::drift::window::UsualColumn;

const FILE: &str = "drift.json";
pub(super) const FORMAT: u32 = 1;
/// A longer file is none of ours.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) format: u32,
    pub(super) since: DateTime<Utc>,
    /// What is usual, by column with its kind and type.
    pub(super) columns: BTreeMap<String, UsualColumn>,
    pub(super) fields: Fields,
    pub(super) drifted: Vec<Drifted>,
    pub(super) rounds: u64,
    /// The filters by which it was counted; None: it was not counted yet.
    #[serde(default)]
    pub(super) filters: Option<u32>,
}

impl Kept {
    /// Reads the file in `dir`.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path(dir))?.take(MAX_BYTES).read_to_end(&mut text)?;
        let kept: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if kept.format == FORMAT { Ok(kept) } else { Err(io::Error::other("it is of another version")) }
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        private::replace(&path(dir), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}
