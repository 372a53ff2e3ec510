//! A process that keeps a log is killed again and again, at every named point and at any moment between them; after
//! that everything the log promises is checked. `make crash-test` does it for longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod judge;
mod producer;
mod records;
mod standin;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use judge::Judge;
use producer::{ARRIVAL, COMMITS, DIR, FIRST_HIT, POINT, RUN, SEED};
use records::settings;
use shared::clock::Clock;
use standin::Objects;
use state::failpoints;
use state::log::Log;
use support::{Scratch, now, number_from_env};

/// After so many kills a new log is begun.
const KILLS_OF_A_LOG: u64 = 60;

/// Not a test of its own: the child of the tests below, in this same binary.
#[test]
fn child() {
    producer::run();
}

/// How a child ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// At an arrival at a point.
    At(&'static str, u64),
    /// So long after it was started.
    After(Duration),
    /// So long after so many commits were accepted.
    AfterCommits(u64, Duration),
    /// In order, after so many commits.
    Stop(u64),
}

struct History {
    scratch: Scratch,
    objects: Objects,
    judge: Judge,
    runs: u64,
    kills: u64,
    random: fastrand::Rng,
}

impl History {
    fn new(random: fastrand::Rng) -> Self {
        let scratch = Scratch::new();
        let objects = Objects::new(&scratch.join("objects"));
        Self { scratch, objects, judge: Judge::default(), runs: 0, kills: 0, random }
    }

    /// Lets a child run until it ends so; false when it has stopped in order, because it never came to its point.
    fn run(&mut self, end: &End) -> bool {
        self.runs += 1;
        let mut command: Command = support::child("child");
        // Adobe sends again what came shortly before, or long before; or something is missing.
        let first_hit = match self.random.u8(..4) {
            0 => self.judge.next_hit + self.random.u64(..600),
            1 => self.judge.next_hit.saturating_sub(self.random.u64(..4_000)),
            _ => self.judge.next_hit.saturating_sub(self.random.u64(..400)),
        };
        let commits = match end {
            End::Stop(commits) => *commits,
            End::At(..) => 60,
            End::After(_) | End::AfterCommits(..) => u64::MAX,
        };
        command.env(DIR, self.scratch.path()).env(SEED, self.random.u64(..).to_string());
        command.env(RUN, self.runs.to_string()).env(FIRST_HIT, first_hit.to_string());
        command.env(COMMITS, commits.to_string());
        if let End::At(point, arrival) = end {
            command.env(POINT, point).env(ARRIVAL, arrival.to_string());
        }
        let mut child = command.spawn().unwrap();
        self.listen(&mut child, end);
        let status = child.wait().unwrap();
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "the child ended by itself: {status}");
        self.kills += u64::from(killed);
        killed
    }

    fn listen(&mut self, child: &mut Child, end: &End) {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        match end {
            End::At(..) | End::Stop(_) => {}
            End::After(time) => {
                std::thread::sleep(*time);
                child.kill().unwrap();
            }
            End::AfterCommits(commits, time) => {
                let mut accepted = 0;
                while accepted < *commits {
                    let line = lines.next().unwrap().unwrap();
                    accepted += u64::from(line.starts_with("accepted "));
                    self.judge.hear(&line);
                }
                std::thread::sleep(*time);
                child.kill().unwrap();
            }
        }
        for line in lines {
            self.judge.hear(&line.unwrap());
        }
    }

    /// Opens the log and checks every promise.
    fn check(&mut self, all: bool) {
        let started = Clock::system().steady();
        let (mut log, resumed) = Log::open(settings(&self.scratch.join("log")), now()).unwrap();
        let micros = started.until(Clock::system().steady()).as_micros();
        self.judge.opened(u64::try_from(micros).unwrap(), log.totals());
        if all {
            self.judge.check_all(&mut log, &resumed, &self.objects);
        } else {
            self.judge.check(&log, &resumed, &self.objects);
        }
        assert!(is_empty(&self.scratch.join("log/sled/blobs")), "sled has left blobs behind");
    }

    fn random_end(&mut self) -> End {
        let random = &mut self.random;
        match random.u8(..4) {
            0 | 1 => End::At(random.choice(failpoints::ALL).unwrap(), random.u64(1..15)),
            2 => End::After(Duration::from_micros(random.u64(..40_000))),
            _ => End::AfterCommits(random.u64(1..40), Duration::from_micros(random.u64(..3_000))),
        }
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut items| items.next().is_none())
}

#[test]
fn every_promise_holds_after_every_kill() {
    let kills = number_from_env("CRASH_KILLS", 40);
    let seed = number_from_env("CRASH_SEED", fastrand::u64(..));
    println!("CRASH_SEED={seed} repeats the records and the kinds of kills, not their moments");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut killed, mut opens, mut rows, mut slowest, mut again, mut gaps) = (0, 0, 0, 0, 0, 0);
    while killed < kills {
        let mut history = History::new(random.fork());
        // The points first: the first ones are only met by a log that is made.
        let mut points = failpoints::ALL.into_iter();
        while history.kills < KILLS_OF_A_LOG && killed + history.kills < kills {
            let kills_before = history.kills;
            match points.next() {
                Some(point) => {
                    let reached = (0..20).any(|_| history.run(&End::At(point, 1)));
                    assert!(reached, "{point} is never reached");
                }
                None => {
                    let end = history.random_end();
                    history.run(&end);
                }
            }
            // Now and then the next child meets what the last one left, untouched. To look is to open: the making of
            // a log is killed four times in a row.
            if history.runs > 4 && history.random.u8(..4) > 0 {
                history.check(false);
            }
            let so_far = killed + history.kills;
            if history.kills > kills_before && so_far.is_multiple_of(50) {
                println!("{so_far} kills, {} rows accepted in this log", history.judge.rows.len());
            }
        }
        history.check(true);
        killed += history.kills;
        opens += history.judge.opens;
        rows += history.judge.rows.len();
        again += history.judge.again;
        gaps += history.judge.gaps;
        slowest = slowest.max(history.judge.slowest_open_micros);
    }
    println!(
        "{killed} kills, {opens} reopens, {rows} rows accepted, {again} hits taken again, {gaps} gaps; slowest reopen {} ms; \
         nothing lost, nothing double",
        slowest / 1000
    );
    assert!(kills < 40 || (again > 0 && gaps > 0), "{again} hits taken again, {gaps} gaps");
}

#[test]
fn every_named_point_is_reached_and_no_other() {
    let mut history = History::new(fastrand::Rng::with_seed(1));
    history.run(&End::Stop(80));
    let reached: BTreeSet<_> = history.judge.points.iter().map(String::as_str).collect();
    assert_eq!(reached, BTreeSet::from(failpoints::ALL));
    history.check(true);
}
