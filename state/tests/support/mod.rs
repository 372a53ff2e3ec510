//! What the tests of the log share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::ids::Instance;
use shared::layout::Compression;
use state::log::{HitId, Log, LogError, Settings};

/// The time at which a test begins that makes up time.
pub(crate) fn start() -> DateTime<Utc> {
    "2026-03-02T12:00:00Z".parse().unwrap()
}

/// The present, for what must last as long as real processes and disks take.
pub(crate) fn now() -> DateTime<Utc> {
    Clock::system().wall()
}

/// Copies a directory with everything in it; what stands there stays, but for files of the same names.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

/// A log of small files and batches in `dir`, whose ages never end anything.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("test".to_owned()).unwrap(),
        schema: "0123456789abcdef".to_owned(),
        columns: Vec::new(),
        compression: Compression::None,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 50,
        commit_interval: Duration::from_millis(50),
        records_per_file: 150,
        min_file_bytes: 0,
        max_file_bytes: 1 << 30,
        max_file_age: Duration::from_secs(24 * 3600),
        files_per_batch: 3,
        min_batch_age: Duration::ZERO,
        max_batch_age: Duration::from_secs(24 * 3600),
        max_bytes: 1 << 40,
        cache: 32 << 20,
        dedup_window: Duration::from_secs(24 * 3600),
        dedup_hits: 5_000_000,
        gap_tolerance: Duration::from_secs(60),
        connections: 1,
        pseudonym_key: None,
        pseudonym_spelling: None,
    }
}

/// Files of 25 rows, batches of two files, commits of 10 rows, and the ages people see.
pub(crate) fn few_rows(dir: &Path) -> Settings {
    Settings {
        compression: Compression::Zstd,
        commit_rows: 10,
        records_per_file: 25,
        max_file_bytes: 1 << 20,
        max_file_age: Duration::from_secs(60),
        files_per_batch: 2,
        max_batch_age: Duration::from_secs(300),
        max_bytes: 1 << 30,
        cache: 8 << 20,
        dedup_window: Duration::from_secs(7200),
        dedup_hits: 1_000_000,
        ..settings(dir)
    }
}

/// This same test binary once more, as the child whose test is called `name`.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The command that starts a process in a mount namespace of its own, as far as this user may.
pub(crate) fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-r", "-m"]];
    ways.into_iter().find(|way| {
        let mut try_it = Command::new(way[0]);
        try_it.args(&way[1..]).args(["sh", "-c", "mount -t tmpfs none /mnt"]).stderr(Stdio::null());
        try_it.status().is_ok_and(|status| status.success())
    })
}

/// Says that something cannot be tested here, past the capture of the test's output, so that it shows.
pub(crate) fn skipped(what: &str) {
    std::io::stderr().write_all(format!("SKIPPED {what}\n").as_bytes()).unwrap();
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

const PAGES: [&str; 8] = [
    "/",
    "/search?q=running+shoes&page=2",
    "/product/1284-trail-runner-gtx",
    "/cart",
    "/checkout/payment",
    "/help/returns",
    "/account/orders",
    "/blog/how-to-choose-a-tent",
];
const BROWSERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
];

/// Replaces `row` by the row of a hit, about 300 bytes: what repeats on a web site repeats, the rest is random.
pub(crate) fn realistic_row(number: u64, random: &mut fastrand::Rng, row: &mut Vec<u8>) {
    row.clear();
    writeln!(
        row,
        "{}~{}~{}~www.shop.example~{}~\"{}\"~{}.{}.{}.0~{}~{}x{}~{:016x}~campaign {}~~~1~{}~~~{}",
        1_800_000_000 + number / 500,
        number,
        random.u64(..),
        random.choice(PAGES).unwrap(),
        random.choice(BROWSERS).unwrap(),
        random.u8(1..224),
        random.u8(..),
        random.u8(..),
        random.choice(["de", "fr", "us", "jp"]).unwrap(),
        random.choice([360, 390, 1280, 1920]).unwrap(),
        random.choice([780, 844, 720, 1080]).unwrap(),
        random.u64(..),
        random.u8(..40),
        random.u16(..),
        random.u32(..),
    )
    .unwrap();
}

/// The hit id of the row of this number.
pub(crate) fn hit(number: u64) -> HitId {
    HitId { high: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: number }
}

/// Appends realistic rows numbered from `first`, a commit to each `commit` rows, and returns the files closed and
/// batches sealed.
pub(crate) fn append(
    log: &mut Log,
    rows: Range<u64>,
    commit: u64,
    now: DateTime<Utc>,
    random: &mut fastrand::Rng,
) -> Result<(Vec<u64>, Vec<u64>), LogError> {
    let (mut closed, mut sealed, mut row) = (Vec::new(), Vec::new(), Vec::new());
    let end = rows.end;
    for number in rows {
        realistic_row(number, random, &mut row);
        log.stage_row(0, Some(hit(number)), Some(now), &row, now);
        if (number + 1) % commit == 0 || number + 1 == end {
            let done = log.commit(now)?;
            closed.extend(done.closed);
            sealed.extend(done.sealed);
        }
    }
    Ok((closed, sealed))
}
