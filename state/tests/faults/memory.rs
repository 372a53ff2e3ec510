//! Memory that runs out. Rust ends a process by a signal when an allocation fails, as the kernel does when there is no memory left:
//! either may happen between any two instructions. The next start must find everything that was accepted, once.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use shared::exit::Exit;

use super::shim::{self, Ended, Fault, How, Kind};
use super::support::{self, Scratch, number_from_env};
use super::{Keeper, all, judged, loads, writer};

/// SIGABRT and SIGSEGV.
const ABORTED: i32 = 6;
const FAULT: i32 = 11;
/// The code of a test that panics, as the child is one: a thread could not be started.
const PANICKED: i32 = 101;

/// What came of it. Whoever notices that memory is short may end in order, with a code of its own.
fn outcome(ended: &Ended) -> &'static str {
    match (ended.code, ended.signal) {
        _ if ended.hung => "hung",
        (Some(0), _) => "went on",
        (None, Some(ABORTED)) => "aborted",
        // sled does not check each of its allocations, and a stack may not grow any more.
        (None, Some(FAULT)) => "ended by a segmentation fault",
        (Some(PANICKED), _) => "panicked",
        (Some(code), _) if code == Exit::Io as i32 || code == Exit::Software as i32 => "ended with a code",
        (code, signal) => panic!("ended with {code:?}, signal {signal:?}: {:?}", ended.failed()),
    }
}

fn command(keeper: &dyn Keeper, scratch: &Scratch) -> Command {
    let mut command = support::child("child");
    command.env(keeper.variable(), scratch.path());
    command
}

/// Counts what came of many runs, and fails if a promise was broken in one.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
    broken: Vec<String>,
}

impl Tally {
    fn add(&mut self, about: &str, judged: Result<&'static str, String>) {
        match judged {
            Ok(word) => *self.outcomes.entry(word).or_default() += 1,
            Err(why) => self.broken.push(format!("{about}: {why}")),
        }
    }

    fn end(self, what: &str) -> BTreeMap<&'static str, u64> {
        println!("{what}: {:?}", self.outcomes);
        assert!(self.broken.is_empty(), "{} broken promises:\n{}", self.broken.len(), self.broken.join("\n"));
        self.outcomes
    }
}

/// Lets allocations fail, evenly spread over a run, each in a run of its own.
fn try_allocations(keeper: &dyn Keeper, cases: u64) {
    let run = |fault: Option<Fault>| {
        let scratch = Scratch::new();
        keeper.begin(scratch.path());
        let (command, counts) = (command(keeper, &scratch), scratch.join("counts"));
        let ended = shim::run(command, &scratch.join("state"), &counts, fault);
        assert!(!ended.hung, "{fault:?}: it hangs: {:?}", ended.said);
        (judged(keeper, scratch, &ended, || outcome(&ended)), ended.calls(Kind::Memory))
    };
    let (untouched, all) = run(None);
    assert_eq!(untouched, Ok("went on"));
    let mut random = fastrand::Rng::with_seed(number_from_env("FAULTS_SEED", 1));
    let mut tally = Tally::default();
    for case in 0..cases {
        let at = (all * case + random.u64(..all)) / cases + 1;
        let fault = Fault { kind: Kind::Memory, at, how: How::Eio, on: false };
        tally.add(&format!("{fault:?}"), run(Some(fault)).0);
    }
    let outcomes = tally.end(&format!("{cases} of {all} allocations"));
    let aborted = outcomes.get("aborted").copied().unwrap_or_default();
    assert!(aborted > cases / 2, "{outcomes:?}");
}

#[test]
fn after_any_allocation_that_fails_everything_accepted_is_there() {
    let cases = if all() { 1_000 } else { 40 };
    let (log, loads) = (writer::Writer, loads::Loads::default());
    std::thread::scope(|scope| {
        scope.spawn(|| try_allocations(&log, cases));
        scope.spawn(|| try_allocations(&loads, cases));
    });
}

/// Runs the child with so many KiB of address space. None when not even the program found room.
fn run_within(keeper: &dyn Keeper, kibibytes: u64) -> Option<Result<&'static str, String>> {
    let scratch = Scratch::new();
    keeper.begin(scratch.path());
    let child = command(keeper, &scratch);
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -v "$0" && exec "$@""#]).arg(kibibytes.to_string());
    limited.arg(child.get_program()).args(child.get_args());
    // With an arena for each thread the first allocation of a thread would take 64 MiB, and everything else nothing.
    limited.env("MALLOC_ARENA_MAX", "1").env(keeper.variable(), scratch.path());
    // sled waits for ever for threads that could not be started, as a service does until its manager ends it.
    let ended = shim::run_to_end(limited, Duration::from_secs(5));
    (!ended.said.is_empty()).then(|| judged(keeper, scratch, &ended, || outcome(&ended)))
}

#[test]
fn within_any_budget_of_memory_everything_accepted_is_there() {
    let step = if all() { 128 } else { 3 * 1024 };
    let (log, loads) = (writer::Writer, loads::Loads::default());
    let keepers: [&dyn Keeper; 2] = [&log, &loads];
    for keeper in keepers {
        let (mut tally, mut enough) = (Tally::default(), 0);
        // From too little to so much that several runs in a row have enough.
        for budget in (8 * 1024..).step_by(step) {
            let Some(judged) = run_within(keeper, budget) else { continue };
            enough = if judged == Ok("went on") { enough + 1 } else { 0 };
            tally.add(&format!("{budget} KiB"), judged);
            if enough == 5 {
                let outcomes = tally.end(&format!("budgets up to {budget} KiB"));
                assert!(outcomes.values().sum::<u64>() > 8, "{outcomes:?}");
                break;
            }
        }
    }
}
