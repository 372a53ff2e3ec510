//! Accepted means durable. A child process writes a real log and says what it has accepted; strace sees whether each
//! of these words came after an fdatasync. What a kill leaves is the matter of the crash test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::layout::Compression;
use state::log::{HitId, Log, LogError, Settings};

const DIR: &str = "DURABILITY_CHILD_DIR";
const COMMITS: &str = "DURABILITY_CHILD_COMMITS";
const ROWS_PER_COMMIT: u64 = 20;

/// Only the child decides when to commit.
fn settings(dir: &Path) -> Settings {
    Settings {
        compression: Compression::Zstd,
        commit_rows: 1_000_000,
        commit_interval: Duration::from_secs(60),
        records_per_file: 1_000,
        max_file_age: Duration::from_secs(3600),
        files_per_batch: 1_000_000,
        max_batch_age: Duration::from_secs(3600),
        cache: 8 << 20,
        dedup_window: Duration::from_secs(3600),
        dedup_hits: 1_000_000,
        ..support::settings(dir)
    }
}

fn row(n: u64) -> String {
    format!("{n}~{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Not a test of its own: the child of the test below, in this same binary.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let commits: u64 = std::env::var(COMMITS).unwrap().parse().unwrap();
    let (mut log, _) = Log::open(settings(Path::new(&dir)), support::start()).unwrap();
    let mut out = std::io::stdout();
    let first = log.totals().rows;
    for commit in 0..commits {
        for n in 0..ROWS_PER_COMMIT {
            let n = first + commit * ROWS_PER_COMMIT + n;
            log.stage_row(0, Some(HitId { high: 1, low: n }), None, row(n).as_bytes(), support::start());
        }
        log.commit(support::start()).unwrap();
        // One write, so that strace shows it as one call.
        out.write_all(format!("\naccepted {}\n", log.totals().rows).as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

fn child_command(program: &mut Command, dir: &Path, commits: u64) {
    program.args(["--exact", "child", "--nocapture"]);
    program.env(DIR, dir).env(COMMITS, commits.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
}

#[test]
fn nothing_is_accepted_before_its_fdatasync_has_returned() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let log = dir.path().join("log");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-o"])
        .arg(&trace)
        .args(["-e", "trace=write,pwrite64,fdatasync,sync_file_range"]);
    command.arg(std::env::current_exe().unwrap());
    child_command(&mut command, &log, 25);
    let status =
        command.stdout(Stdio::null()).status().expect("strace is missing: .ci/prerequisites installs it");
    assert!(status.success(), "{status}");

    let database = format!("{}", log.join("sled").join("db").display());
    // Calls of several threads may be cut in two lines: the second one tells the result.
    let mut unfinished: BTreeMap<String, String> = BTreeMap::new();
    let (mut unsynced, mut accepts) = (true, 0);
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let call = match rest.trim_start() {
            rest if rest.ends_with("<unfinished ...>") => {
                // A write may take effect at any time from now on.
                unsynced |= rest.starts_with("pwrite64") && rest.contains(&database);
                unfinished.insert(pid.to_owned(), rest.to_owned());
                continue;
            }
            rest if rest.starts_with("<...") => unfinished.remove(pid).unwrap_or_default() + rest,
            rest => rest.to_owned(),
        };
        // With it sled would take for stable what a power cut can still undo.
        assert!(!call.starts_with("sync_file_range"), "{call}");
        if call.contains(&database) {
            if call.starts_with("pwrite64") || call.starts_with("write") {
                unsynced = true;
            } else if call.starts_with("fdatasync") && call.ends_with("= 0") {
                unsynced = false;
            }
        } else if call.starts_with("write") && call.contains("accepted ") {
            assert!(!unsynced, "accepted with writes that were not synced: {call}");
            accepts += 1;
            // The next accept needs writes and a sync of its own.
            unsynced = true;
        }
    }
    assert_eq!(accepts, 25);
}

#[tokio::test]
async fn a_thread_of_the_log_that_dies_ends_the_log_at_once_and_nothing_is_accepted_after_it() {
    static ARMED: AtomicBool = AtomicBool::new(false);
    state::failpoints::watch(|name| {
        assert!(!(name == "commit.applied" && ARMED.load(Ordering::Relaxed)), "dies here");
    });
    let hit = |low| Some(HitId { high: 2, low });
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(settings(dir.path()), support::start()).unwrap();
    log.stage_row(0, hit(1), None, b"1~accepted\n", support::start());
    log.commit(support::start()).unwrap();
    ARMED.store(true, Ordering::Relaxed);
    log.stage_row(0, hit(2), None, b"2~never accepted\n", support::start());
    log.submit(support::start()).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), log.next_durable()).await;
    assert!(matches!(told, Ok(Err(LogError::Ended))), "{told:?}");
    log.stage_row(0, hit(3), None, b"3~never accepted\n", support::start());
    assert!(matches!(log.commit(support::start()), Err(LogError::Ended)));
}

/// Runs the child under strace, which lets calls fail as `inject` says: whether it ended well, and what it said.
fn traced(log: &Path, trace: &Path, calls: &str, inject: Option<&str>) -> (bool, String) {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-o"]).arg(trace).args(["-e", &format!("trace={calls}")]);
    command.args(inject.iter().flat_map(|inject| ["-e", inject]));
    command.arg(std::env::current_exe().unwrap());
    child_command(&mut command, log, 25);
    let output = command.output().expect("strace is missing: .ci/prerequisites installs it");
    let accepted = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), accepted)
}

#[test]
fn after_a_failed_fdatasync_the_next_start_reads_the_database_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, trace) = (dir.path().join("log"), dir.path().join("trace"));
    // The second life: the first one makes the files.
    let calls = "fdatasync,preadv,read,fadvise64";
    assert!(traced(&log, &trace, calls, None).0);
    let database = format!("{}", log.join("sled").join("db").display());
    let drops = |trace: &Path| {
        let text = fs::read_to_string(trace).unwrap();
        text.lines().filter(|line| line.contains("fadvise64(") && line.contains("DONTNEED")).count()
    };
    assert_eq!(drops(&trace), 0, "nothing had failed");

    let (well, accepted) = traced(&log, &trace, calls, Some("inject=fdatasync:error=EIO:when=20+"));
    assert!(!well && accepted.contains("accepted "), "{accepted}");
    let last = accepted.lines().filter_map(|line| line.strip_prefix("accepted ")).next_back().unwrap();
    let last: u64 = last.parse().unwrap();
    assert!(log.join("disk-error").exists());

    // The disk is well again, and has everything here: what was accepted is there.
    let (well, accepted) = traced(&log, &trace, calls, None);
    assert!(well, "{accepted}");
    let first = accepted.lines().find_map(|line| line.strip_prefix("accepted ")).unwrap();
    assert!(first.parse::<u64>().unwrap() >= last + ROWS_PER_COMMIT, "{first} after {last}");
    assert!(!log.join("disk-error").exists(), "it was opened well");
    assert!(drops(&trace) >= 4, "sled's files, the mark and the spare segments");
    let text = fs::read_to_string(&trace).unwrap();
    let at = |what: &str| {
        let mut lines = text.lines();
        lines.position(|line| line.contains(what) && line.contains(&database)).unwrap()
    };
    assert!(
        at("fdatasync(") < at("fadvise64(") && at("fadvise64(") < at("preadv("),
        "read before it was dropped"
    );
    traced(&log, &trace, calls, None);
    assert_eq!(drops(&trace), 0, "once is enough");
}

#[test]
fn a_disk_that_fails_as_the_log_is_opened_stops_the_start_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, trace) = (dir.path().join("log"), dir.path().join("trace"));
    assert!(traced(&log, &trace, "fdatasync", None).0);
    // What failed behind a process that was killed is told to the first fdatasync of the next one.
    let (well, said) = traced(&log, &trace, "fdatasync,preadv", Some("inject=fdatasync:error=EIO:when=1"));
    assert!(!well && !said.contains("accepted "), "{said}");
    let database = format!("{}", log.join("sled").join("db").display());
    let text = fs::read_to_string(&trace).unwrap();
    assert!(!text.lines().any(|line| line.contains("preadv(") && line.contains(&database)), "{text}");
    assert!(log.join("disk-error").exists());
    assert!(traced(&log, &trace, "fdatasync", None).0, "the next start goes on");
}
