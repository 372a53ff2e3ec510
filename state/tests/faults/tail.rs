//! A log of many segments, as a kill leaves it: all of it was written since sled's last snapshot, so that sled reads it again as
//! it opens. One child opens it and goes on: a read that fails in there must not pass for the end of the log, or for free space.
//! Another one opens it under the name of another instance, is refused, and must leave it as it was.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use shared::exit::Exit;
use state::log::{Log, LogError, Settings, Staged};

use super::judge::Judge;
use super::records::{CONNECTIONS, Token, settings};
use super::shim::Ended;
use super::standin::Objects;
use super::support::{copy, now};
use super::writer::{end_with, say, tell_panics};
use super::{Keeper, Scratch};

const DIR: &str = "FAULTS_TAIL_DIR";
/// The same, of the child that is refused.
const REFUSED: &str = "FAULTS_REFUSED_DIR";
/// Bytes of a segment of sled's file.
const SEGMENT: u64 = 512 << 10;

fn log_settings(dir: &Path) -> Settings {
    Settings { records_per_file: 2_000, cache: 8 << 20, ..settings(&dir.join("state/log")) }
}

/// Opens the log, and says so; commits some hits.
fn live(dir: &Path, commits: std::ops::Range<u64>, mut say: impl FnMut(String)) -> Result<Log, LogError> {
    let (mut log, _) = Log::open(log_settings(dir), now())?;
    say(format!("opened 0 {}", serde_json::to_string(&log.totals()).unwrap()));
    for connection in 0..CONNECTIONS {
        say("session".to_owned());
        log.session_started(connection, now())?;
        say("started".to_owned());
    }
    for commit in commits {
        let mut tokens = String::new();
        for token in (commit * 500..(commit + 1) * 500).map(Token::Hit) {
            let staged =
                log.stage_row(token.connection(), token.hit(), token.received(), &token.text(), now());
            assert_eq!(staged, Staged::New);
            tokens += &format!(" {token}");
        }
        say(format!("try {tokens}"));
        log.commit(now())?;
        say(format!("accepted {}", serde_json::to_string(&log.totals()).unwrap()));
    }
    Ok(log)
}

/// The child; returns at once when this process is not one.
pub(super) fn run() {
    if let Some(dir) = std::env::var_os(REFUSED) {
        tell_panics();
        let instance = "other".to_owned().try_into().unwrap();
        let opened = Log::open(Settings { instance, ..log_settings(Path::new(&dir)) }, now());
        end_with(&opened.map(drop).unwrap_err().into());
    }
    let Some(dir) = std::env::var_os(DIR) else { return };
    tell_panics();
    let ended =
        live(Path::new(&dir), COMMITS..COMMITS + 1, |line| say(&line)).and_then(|log| log.close(now()));
    if let Err(error) = ended {
        end_with(&error.into());
    }
}

/// Commits of the process that was killed.
const COMMITS: u64 = 60;

/// The log that each case gets a copy of, and what its process had said.
#[derive(Default)]
pub(super) struct Tail(OnceLock<(Scratch, Vec<String>)>);

impl Tail {
    fn killed(&self) -> &(Scratch, Vec<String>) {
        self.0.get_or_init(|| {
            let (scratch, mut said) = (Scratch::new(), Vec::new());
            let log = live(scratch.path(), 0..COMMITS, |line| said.push(line)).unwrap();
            // What a kill leaves is what stands there now: everything accepted has been flushed.
            copy(&scratch.join("state"), &scratch.join("killed"));
            drop(log);
            let len = fs::metadata(scratch.join("killed/log/sled/db")).unwrap().len();
            assert!(len > 12 * SEGMENT, "{len} bytes are too few segments");
            (scratch, said)
        })
    }
}

/// The same log, which is opened under another name.
#[derive(Default)]
pub(super) struct Refused(Tail);

impl Keeper for Refused {
    fn begin(&self, dir: &Path) {
        self.0.begin(dir);
    }

    fn variable(&self) -> &'static str {
        REFUSED
    }

    fn code(&self) -> Exit {
        Exit::Data
    }

    fn check(&self, dir: &Path, ended: &Ended) {
        self.0.check(dir, ended);
    }
}

impl Keeper for Tail {
    fn begin(&self, dir: &Path) {
        copy(&self.killed().0.join("killed"), &dir.join("state"));
    }

    fn variable(&self) -> &'static str {
        DIR
    }

    fn check(&self, dir: &Path, ended: &Ended) {
        let mut judge = Judge::default();
        self.killed().1.iter().chain(&ended.said).for_each(|line| judge.hear(line));
        let objects = Objects::new(&dir.join("objects"));
        let opened = Log::open(log_settings(dir), now());
        let (mut log, resumed) = opened.unwrap_or_else(|error| panic!("the next start: {error}"));
        judge.opened(0, log.totals());
        judge.check_all(&mut log, &resumed, &objects);
    }
}
