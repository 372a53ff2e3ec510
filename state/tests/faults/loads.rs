//! A child that keeps a load store: every change that the ingester makes of it, one after the other. Their times and ids are
//! always the same, so the test knows what must be there after each.

use std::path::Path;
use std::sync::OnceLock;

use chrono::{DateTime, TimeDelta, Utc};
use shared::exit::Failure;
use shared::ids::{BatchId, Instance};
use state::loads::{
    Entered, ErrorClass, LedgerMark, Listed, Load, LoadDatabase, LoadDatabaseError, LoadEvent, Pause,
    RedshiftSession,
};

use super::shim::{Ended, Kind};
use super::writer::{end_with, say, tell_panics};
use super::{Keeper, Scratch};

const DIR: &str = "FAULTS_LOADS_DIR";
const CHANGES: usize = 26;
/// After so many the store is closed and opened again.
const FIRST_LIFE: usize = 15;

fn at(second: i64) -> DateTime<Utc> {
    super::support::start() + TimeDelta::seconds(second)
}

fn batch(number: usize) -> BatchId {
    format!("01890000-0000-7000-8000-{number:012}").parse().unwrap()
}

/// The change of this number.
fn change(loads: &LoadDatabase, number: usize) -> Result<(), LoadDatabaseError> {
    let now = at(number.try_into().unwrap());
    let (of, step) = (batch(number / 13), number % 13);
    match step {
        0 => {
            let instance = Instance::try_from("web-1".to_owned()).unwrap();
            loads.discovered(Load::new(of, instance, 2, 1_000, 50_000, now))?;
        }
        1 => loads.note_listed(&Listed { whole: now, pages: 3, from: at(0) })?,
        2 => {
            let mark = LedgerMark { pipeline: "p".to_owned(), table: "t".to_owned(), knows_from: Some(now) };
            loads.note_ledger_mark(&mark)?;
        }
        3 => loads.note_session(Some(&RedshiftSession { pid: 4711, began: now.to_string() }))?,
        4 | 6 => drop(loads.note(of, LoadEvent::Attempt, now)?),
        5 => {
            let why = "1023".repeat(300);
            drop(loads.note(of, LoadEvent::Failed { next: now, class: ErrorClass::Passing, why }, now)?);
        }
        7 => drop(loads.search_began(of)?),
        8 => drop(loads.quarantined(of, 3, None, now)?),
        9 => drop(loads.entered(of, Entered { known: 7, staged: true, entered_as: None })?),
        10 => drop(loads.note_all(vec![(of, LoadEvent::Loaded)], now)?),
        11 => {
            let pause = Pause { since: now, until: None, reason: Some("vacuum".to_owned()) };
            loads.set_pause((number < 13).then_some(&pause))?;
        }
        _ => {
            loads.note_session(None)?;
            drop(loads.note(of, LoadEvent::Archived, now)?);
        }
    }
    Ok(())
}

/// Everything that the store tells.
fn contents(loads: &LoadDatabase) -> String {
    let settings = (loads.listed().unwrap(), loads.ledger_mark().unwrap(), loads.session().unwrap());
    format!(
        "{:?} {settings:?} {:?} {:?}",
        loads.all().unwrap(),
        loads.pause().unwrap(),
        loads.sums().unwrap()
    )
}

/// The child; returns at once when this process is not one.
pub(super) fn run() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    tell_panics();
    let dir = Path::new(&dir).join("state/loads");
    if let Err(error) = live(&dir, 0..FIRST_LIFE).and_then(|()| live(&dir, FIRST_LIFE..CHANGES)) {
        end_with(&Failure::from(error));
    }
}

fn live(dir: &Path, changes: std::ops::Range<usize>) -> Result<(), LoadDatabaseError> {
    let loads = LoadDatabase::open(dir)?;
    for number in changes {
        change(&loads, number)?;
        say(&format!("changed {number}"));
    }
    Ok(())
}

/// The load store, and what it tells after each change.
#[derive(Default)]
pub(super) struct Loads(OnceLock<Vec<Vec<String>>>);

impl Loads {
    /// What the store tells before any change and after each; the last step of a batch is two changes.
    fn expected(&self) -> &[Vec<String>] {
        self.0.get_or_init(|| {
            let scratch = Scratch::new();
            let loads = LoadDatabase::open(scratch.path()).unwrap();
            let mut expected = vec![vec![contents(&loads)]];
            for number in 0..CHANGES {
                let mut after = Vec::new();
                if number % 13 == 12 {
                    loads.note_session(None).unwrap();
                    after.push(contents(&loads));
                }
                change(&loads, number).unwrap();
                after.push(contents(&loads));
                expected.push(after);
            }
            expected
        })
    }
}

impl Keeper for Loads {
    fn never(&self) -> &'static [Kind] {
        // sled makes its file shorter only when the last segments of a large one are free.
        &[Kind::Truncate]
    }

    fn begin(&self, dir: &Path) {
        std::fs::create_dir(dir.join("state")).unwrap();
    }

    fn variable(&self) -> &'static str {
        DIR
    }

    fn check(&self, dir: &Path, ended: &Ended) {
        let expected = self.expected();
        let changed = ended.said.iter().filter(|line| line.starts_with("changed ")).count();
        // The change that was under way when it ended is there or not.
        let last = expected[changed].last();
        let possible: Vec<_> =
            last.into_iter().chain(expected.get(changed + 1).into_iter().flatten()).collect();
        let mut found = None;
        for _ in 0..2 {
            let opened = LoadDatabase::open(&dir.join("state/loads"));
            let loads = opened.unwrap_or_else(|error| panic!("the next start: {error}"));
            let now = contents(&loads);
            assert!(possible.contains(&&now), "after change {changed} it tells {now}, not {possible:?}");
            let before = found.get_or_insert_with(|| now.clone());
            assert_eq!(*before, now, "another start finds something else");
            for checked in loads.verify().unwrap() {
                assert!(checked.faults.is_empty(), "{:?}", checked.faults);
            }
        }
    }
}
