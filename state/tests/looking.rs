//! Looking at a database while its service starts. A child process looks; it is killed, and the service goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use state::loads::Loads;
use state::store::StoreError;

const DIR: &str = "LOOKING_CHILD_DIR";

/// Not a test of its own: the child of the test below, in this same binary.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let _loads = Loads::look(Path::new(&dir)).unwrap();
    std::io::stdout().write_all(b"\nlooking\n").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn looker(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(DIR, dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).find(|line| line == "looking").expect("the child does not look");
    child
}

#[test]
fn a_service_that_starts_waits_for_one_that_looks_also_when_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    drop(Loads::open(dir.path()).unwrap());
    let mut child = looker(dir.path());
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| Loads::open(dir.path()));
        // Longer than an owner is waited for.
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(!starting.is_finished(), "{:?}", starting.join());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(starting.join().unwrap().is_ok());
    });
}

#[test]
fn an_owner_is_not_waited_for_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _owner = Loads::open(dir.path()).unwrap();
    // A second one that looks, in vain, is no reason to wait either.
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| Loads::look(dir.path()));
        let starting = scope.spawn(|| Loads::open(dir.path()));
        for outcome in [looking.join().unwrap(), starting.join().unwrap()] {
            let Err(StoreError::InUse { owner, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(owner, Some(std::process::id()));
        }
    });
}
