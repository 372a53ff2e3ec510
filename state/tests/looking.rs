//! Looking at a database while its service starts. A child process looks; it is killed, and the service goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use state::loads::LoadDatabase;
use state::store::{Change, Kind, Store, StoreError, Table};
use support::copy;

const DIR: &str = "LOOKING_CHILD_DIR";

/// Not a test of its own: the child of the test below, in this same binary.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let _loads = LoadDatabase::open_to_read(Path::new(&dir)).unwrap();
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
    drop(LoadDatabase::open(dir.path()).unwrap());
    let mut child = looker(dir.path());
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| LoadDatabase::open(dir.path()));
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
    let _owner = LoadDatabase::open(dir.path()).unwrap();
    // A second one that looks, in vain, is no reason to wait either.
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| LoadDatabase::open_to_read(dir.path()));
        let starting = scope.spawn(|| LoadDatabase::open(dir.path()));
        for outcome in [looking.join().unwrap(), starting.join().unwrap()] {
            let Err(StoreError::InUse { owner, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(owner, Some(std::process::id()));
        }
    });
}

/// A database with free segments between others, of which nothing says that they are free: it is tried as a copy.
fn make_doubtful(dir: &Path) {
    let put = |store: &Store, keys: std::ops::Range<u32>| {
        let mut change = Change::new();
        keys.for_each(|key| change.put_bytes(Table::Chunks, &key.to_be_bytes(), &[key as u8 | 1; 5_000]));
        store.commit(change).unwrap();
    };
    let store = Store::open(dir, Kind::Ingester, "ingester", 8 << 20, |_| Ok(())).unwrap();
    (0..60).for_each(|part| put(&store, part * 50..part * 50 + 50));
    for key in 200..2_400_u32 {
        let mut change = Change::new();
        change.remove(Table::Chunks, &key.to_be_bytes());
        store.apply(change).unwrap();
    }
    put(&store, 3_000..3_050);
    drop(store);
    drop(Store::open(dir, Kind::Ingester, "ingester", 8 << 20, |_| Ok(())).unwrap());
    std::fs::remove_file(dir.join("spare")).unwrap();
}

#[test]
fn a_service_that_starts_and_several_that_look_do_not_meet_in_a_database_that_is_tried_as_a_copy() {
    let root = tempfile::tempdir().unwrap();
    let made = root.path().join("made");
    make_doubtful(&made);
    for round in 0..8 {
        let dir = root.path().join(round.to_string());
        copy(&made, &dir);
        std::thread::scope(|scope| {
            let looking = [(); 3]
                .map(|()| scope.spawn(|| Store::open_to_read(&dir, Kind::Ingester, |_| Ok(())).map(drop)));
            std::thread::sleep(Duration::from_millis(round * 3));
            let service = Store::open(&dir, Kind::Ingester, "ingester", 8 << 20, |_| Ok(()));
            assert!(service.is_ok(), "round {round}: {service:?}");
            for looking in looking {
                let looked = looking.join().unwrap();
                assert!(
                    matches!(looked, Ok(()) | Err(StoreError::InUse { .. })),
                    "round {round}: {looked:?}"
                );
            }
        });
        assert!(!dir.join("copy-to-check").exists());
    }
}
