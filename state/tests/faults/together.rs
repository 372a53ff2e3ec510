//! A child with two threads that write to one database, as a producer commits rows and notes uploads. In sled a write of the one may
//! carry out what the other waits for.

use std::path::Path;
use std::sync::mpsc;

use shared::exit::Failure;
use state::store::{Change, Kind, Store, StoreError, Table};

use super::Keeper;
use super::shim::Ended;
use super::writer::{end_with, say, tell_panics};

const DIR: &str = "FAULTS_TOGETHER_DIR";
const COMMITS: u32 = 25;

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(&dir.join("state/store"), Kind::Producer, "test", 8 << 20, |_| Ok(()))
}

fn change(table: Table, number: u32) -> Change {
    let mut change = Change::new();
    change.put_bytes(table, &number.to_be_bytes(), &[number as u8; 300]);
    change
}

/// The child; returns at once when this process is not one.
pub(super) fn run() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    tell_panics();
    if let Err(error) = live(Path::new(&dir)) {
        end_with(&Failure::from(error));
    }
}

fn live(dir: &Path) -> Result<(), StoreError> {
    let store = open(dir)?;
    let other = store.clone();
    let (begins, begun) = mpsc::channel();
    // Writes once with each commit, and then nothing until the next.
    let uploads = std::thread::spawn(move || {
        for number in begun {
            for part in 0..4 {
                other.apply(change(Table::Files, number * 4 + part))?;
            }
        }
        Ok(())
    });
    for number in 0..COMMITS {
        // It may have ended with an error, as the next commit does.
        let _ended = begins.send(number);
        store.commit(change(Table::Chunks, number))?;
        say("kept");
    }
    drop(begins);
    uploads.join().unwrap()
}

/// The database, in which every commit that returned must be.
pub(super) struct Together;

impl Keeper for Together {
    fn begin(&self, dir: &Path) {
        std::fs::create_dir(dir.join("state")).unwrap();
    }

    fn variable(&self) -> &'static str {
        DIR
    }

    fn check(&self, dir: &Path, ended: &Ended) {
        let store = open(dir).unwrap_or_else(|error| panic!("the next start: {error}"));
        let kept = ended.said.iter().filter(|line| *line == "kept").count();
        for number in 0..u32::try_from(kept).unwrap() {
            let value = store.get_bytes(Table::Chunks, &number.to_be_bytes()).unwrap();
            assert!(
                value.is_some_and(|value| value == [number as u8; 300]),
                "commit {number} of {kept} is gone"
            );
        }
    }
}
