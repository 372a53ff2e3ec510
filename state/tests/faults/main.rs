//! Input and output that fails at the n-th call. A child process keeps a log, another one a load store, and a shim lets the n-th
//! call of a kind go wrong, for n = 1, 2, 3 … until a run has no such call: it fails, does half, takes long, or the process
//! is killed around it. The child must go on or end with the code for a failed disk, and the next start must find everything
//! that was accepted, once.
//!
//! `make io-faults` does it in every way for every n. Without `FAULTS_ALL` some ways are left out, and of the kinds with many
//! calls each way meets every seventh.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../crash/judge.rs"]
#[allow(dead_code, reason = "the crash test counts more")]
mod judge;
mod loads;
mod memory;
#[path = "../crash/records.rs"]
mod records;
mod shim;
#[path = "../crash/standin.rs"]
mod standin;
#[path = "../support/mod.rs"]
mod support;
mod tail;
mod together;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shared::exit::Exit;
use shim::{Ended, Fault, How, Kind};
use support::{Scratch, number_from_env};

/// Not a test of its own: the children of the tests below, in this same binary.
#[test]
fn child() {
    writer::run();
    loads::run();
    tail::run();
    together::run();
}

/// Whether every call is to go wrong in every way.
fn all() -> bool {
    std::env::var_os("FAULTS_ALL").is_some()
}

/// What keeps a database, and how its promises are checked.
trait Keeper: Sync {
    /// Makes what the child begins with, in a new directory.
    fn begin(&self, dir: &Path);
    /// The environment variable that tells the child its directory.
    fn variable(&self) -> &'static str;
    /// Calls that the child may never make.
    fn never(&self) -> &'static [Kind] {
        &[]
    }
    /// The code that the child ends with when nothing goes wrong.
    fn code(&self) -> Exit {
        Exit::Done
    }
    /// Opens the database without the shim and checks every promise. Panics if one is broken.
    fn check(&self, dir: &Path, ended: &Ended);
}

/// One run of a child with a fault, judged: what came of it, or why a promise is broken. None when it had no such call.
fn try_one(keeper: &dyn Keeper, fault: Fault) -> Option<Result<&'static str, String>> {
    let scratch = Scratch::new();
    keeper.begin(scratch.path());
    let mut command = support::child("child");
    command.env(keeper.variable(), scratch.path());
    let ended = shim::run(command, &scratch.join("state"), &scratch.join("counts"), Some(fault));
    let judged = judged(keeper, scratch, &ended, || outcome(keeper.code(), fault, &ended));
    match judged {
        Err(why) if ended.struck() == 0 => {
            panic!("it is broken without a fault too: {why}: {:?}", ended.said)
        }
        Err(why) => Some(Err(format!("{fault:?}: {why}"))),
        Ok(word) => (ended.struck() > 0).then_some(Ok(word)),
    }
}

/// What came of a run, which `outcome` says, if every promise is kept; or why not.
fn judged(
    keeper: &dyn Keeper,
    scratch: Scratch,
    ended: &Ended,
    outcome: impl FnOnce() -> &'static str,
) -> Result<&'static str, String> {
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // Here, so that it is kept when a promise is broken.
        let scratch = scratch;
        let word = outcome();
        keeper.check(scratch.path(), ended);
        word
    }));
    judged.map_err(|why| {
        let text = why.downcast_ref::<String>().map(String::as_str);
        text.or(why.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
    })
}

/// What came of it; panics if that is none of the ends a program may come to.
fn outcome(untouched: Exit, fault: Fault, ended: &Ended) -> &'static str {
    assert!(!ended.hung, "it hangs: {:?}", ended.said);
    let panicked = ended.said.iter().find(|line| line.starts_with("panicked "));
    assert_eq!(panicked, None, "a thread has panicked");
    if ended.struck() == 0 {
        assert_eq!(ended.code, Some(untouched as i32), "it ended by itself: {:?}", ended.failed());
        return "untouched";
    }
    match (fault.how, ended.code) {
        (How::Before | How::After, None) if ended.signal == Some(9) => "killed",
        (_, Some(code)) if code == untouched as i32 => "went on",
        (How::Eio | How::Enospc | How::Edquot, Some(code)) if code == Exit::Io as i32 => "ended with 74",
        (_, code) => panic!("ended with {code:?}, signal {:?}: {:?}", ended.signal, ended.failed()),
    }
}

/// Lets every n-th call of these kinds go wrong until there are no more, on several threads, and prints what came of it.
fn try_all(keeper: &dyn Keeper, faults: &[(Kind, How, bool)]) {
    let tally: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let broken: Mutex<Vec<String>> = Mutex::default();
    for (at, &(kind, how, on)) in (1..).zip(faults) {
        // There are few calls of the other kinds. Each way begins elsewhere, so that together they meet every call.
        let many = matches!(kind, Kind::Read | Kind::Write | Kind::Sync | Kind::Open);
        let step = if all() || !many { 1 } else { 7 };
        let (next, struck) = (AtomicU64::new(1 + at % step), AtomicBool::new(false));
        let one_after_the_other = || {
            loop {
                let n = next.fetch_add(step, Ordering::Relaxed);
                let tried = try_one(keeper, Fault { kind, at: n, how, on });
                struck.fetch_or(tried.is_some(), Ordering::Relaxed);
                match tried {
                    None => break,
                    Some(Ok(word)) => {
                        *tally.lock().unwrap().entry(format!("{kind:?} {word}")).or_default() += 1;
                    }
                    Some(Err(why)) => broken.lock().unwrap().push(why),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..number_from_env("FAULTS_THREADS", 3) {
                scope.spawn(one_after_the_other);
            }
        });
        assert!(struck.into_inner() || keeper.never().contains(&kind), "{kind:?} {how:?} never struck");
    }
    let (tally, broken) = (tally.into_inner().unwrap(), broken.into_inner().unwrap());
    println!("{} faults: {tally:?}", tally.values().sum::<u64>());
    assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), broken.join("\n"));
}

/// In the short form each kind meets what disks do most; the long form lets each kind go wrong in every way.
fn ways() -> Vec<(Kind, How, bool)> {
    if !all() {
        return vec![
            (Kind::Write, How::Eio, false),
            (Kind::Write, How::Enospc, true),
            (Kind::Write, How::Short, false),
            (Kind::Write, How::After, false),
            (Kind::Sync, How::Eio, false),
            (Kind::Sync, How::Before, false),
            (Kind::Read, How::Eio, false),
            (Kind::Read, How::Short, false),
            (Kind::Open, How::Eio, false),
            (Kind::Rename, How::Eio, false),
            (Kind::Rename, How::After, false),
            (Kind::Unlink, How::Eio, false),
            (Kind::Unlink, How::After, false),
            (Kind::Truncate, How::Eio, false),
            (Kind::Mkdir, How::Enospc, true),
        ];
    }
    let hows = [How::Eio, How::Enospc, How::Edquot, How::Short, How::Slow, How::Before, How::After];
    let mut ways = Vec::new();
    for kind in Kind::ALL {
        for how in hows {
            let transfers = matches!(kind, Kind::Read | Kind::Write);
            if how != How::Short || transfers {
                ways.push((kind, how, false));
            }
            if matches!(how, How::Eio | How::Enospc) || how == How::Short && transfers {
                ways.push((kind, how, true));
            }
        }
    }
    ways
}

#[test]
fn whatever_call_of_the_log_goes_wrong_nothing_accepted_is_lost_or_doubled() {
    try_all(&writer::Writer, &ways());
}

#[test]
fn whatever_call_of_the_load_store_goes_wrong_every_change_that_returned_is_there() {
    try_all(&loads::Loads::default(), &ways());
}

#[test]
fn a_read_that_fails_anywhere_in_a_long_log_does_not_pass_for_its_end() {
    let mut ways = vec![(Kind::Read, How::Eio, false), (Kind::Read, How::Short, false)];
    if all() {
        ways.extend([
            (Kind::Read, How::Eio, true),
            (Kind::Read, How::After, false),
            (Kind::Write, How::Eio, false),
        ]);
        ways.extend([(Kind::Write, How::Enospc, true), (Kind::Write, How::After, false)]);
    }
    try_all(&tail::Tail::default(), &ways);
}

#[test]
fn a_write_that_fails_while_two_threads_write_ends_both() {
    let mut ways = vec![(Kind::Write, How::Eio, false), (Kind::Sync, How::Eio, false)];
    if all() {
        ways.extend((0..10).map(|_| (Kind::Write, How::Eio, false)));
        ways.extend([(Kind::Write, How::Enospc, true), (Kind::Write, How::After, false)]);
    }
    try_all(&together::Together, &ways);
}

#[test]
fn a_log_that_is_refused_is_put_back_whatever_goes_wrong_meanwhile() {
    let few = [
        (Kind::Write, How::After, false),
        (Kind::Write, How::Eio, false),
        (Kind::Rename, How::Before, false),
        (Kind::Truncate, How::Eio, false),
        (Kind::Truncate, How::After, false),
    ];
    let ways = if all() { ways() } else { few.to_vec() };
    try_all(&tail::Refused::default(), &ways);
}

#[test]
fn the_shim_sees_every_kind_of_call_and_an_untouched_run_ends_well() {
    let keepers: [&dyn Keeper; 2] = [&writer::Writer, &loads::Loads::default()];
    for keeper in keepers {
        let scratch = Scratch::new();
        keeper.begin(scratch.path());
        let mut command = support::child("child");
        command.env(keeper.variable(), scratch.path());
        let ended = shim::run(command, &scratch.join("state"), &scratch.join("counts"), None);
        assert_eq!((ended.code, ended.hung, ended.struck()), (Some(0), false, 0), "{:?}", ended.said);
        let kinds = Kind::ALL.into_iter().chain([Kind::Memory]);
        let calls: Vec<_> = kinds.map(|kind| (kind, ended.calls(kind))).collect();
        println!("{calls:?}");
        let missed = calls.iter().find(|(kind, calls)| *calls == 0 && !keeper.never().contains(kind));
        assert_eq!(missed, None, "{calls:?}");
        keeper.check(scratch.path(), &ended);
    }
}
