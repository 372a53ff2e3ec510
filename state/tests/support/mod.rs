//! What the tests of the log share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use shared::ids::Instance;
use shared::layout::Compression;
use state::log::Settings;

/// A log of small files and batches in `dir`, whose ages never end anything.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("test".to_owned()).unwrap(),
        schema: "0123456789abcdef".to_owned(),
        compression: Compression::None,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 50,
        commit_interval: Duration::from_millis(50),
        records_per_file: 150,
        max_file_bytes: 1 << 30,
        max_file_age: Duration::from_secs(24 * 3600),
        files_per_batch: 3,
        max_batch_age: Duration::from_secs(24 * 3600),
        max_bytes: 1 << 40,
        cache: 32 << 20,
        dedup_window: Duration::from_secs(24 * 3600),
        dedup_hits: 5_000_000,
    }
}

/// This same test binary once more, as the child whose test is called `name`.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A number from the environment, so that the long run and the short one are the same tests.
pub(crate) fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// A directory that is removed after the test, and kept to be looked at when the test has failed.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            println!("kept: {}", self.0.path().display());
        }
    }
}
