//! A hit that is recognised before its record is read changes the log as one whose row comes and is found to be known.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use state::log::{HitId, Log, Settings, Staged};
use support::Scratch;

fn settings(dir: &Path) -> Settings {
    Settings {
        connections: 2,
        gap_tolerance: std::time::Duration::from_secs(60),
        dedup_hits: 50,
        ..support::settings(dir)
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

/// What comes over one of two connections.
#[derive(Debug, Clone, Copy)]
enum Event {
    Hit { connection: u8, hit: u64, received: i64 },
    Commit,
    Again { connection: u8 },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => (0_u8..2, 0_u64..120, 0_i64..5).prop_map(|(connection, hit, late)| {
            // Now and then something is missing: a gap.
            let received = i64::try_from(hit).unwrap() * 10 - late;
            Event::Hit { connection, hit, received }
        }),
        3 => Just(Event::Commit),
        2 => (0_u8..2).prop_map(|connection| Event::Again { connection }),
        1 => Just(Event::Restart),
    ]
}

/// Runs the events; with `first` every hit is looked up before it is staged. What the log tells in the end.
fn run(events: &[Event], first: bool) -> String {
    let scratch = Scratch::new();
    let mut log = Log::open(settings(scratch.path()), at(0)).unwrap().0;
    let mut staged = HashSet::new();
    for (now, event) in (2_000..).zip(events) {
        let now = at(now);
        match *event {
            Event::Hit { connection, hit, received } => {
                let (id, received) = (HitId { high: 1, low: hit }, Some(at(received)));
                let known = log.known();
                assert!(!known.contains(id) || staged.contains(&hit), "it was never staged");
                if first && known.contains(id) {
                    log.stage_known(connection, id, received, now);
                } else {
                    let row = format!("{hit}\n");
                    let new =
                        log.stage_row(connection, Some(id), received, row.as_bytes(), now) == Staged::New;
                    assert!(log.known().contains(id), "known from the moment it is staged");
                    assert!(new || !first, "what was asked for is not known a moment later");
                    staged.insert(hit);
                }
            }
            Event::Commit => drop(log.commit(now).unwrap()),
            Event::Again { connection } => {
                log.session_ended(connection, "again", now).unwrap();
                log.session_started(connection, now).unwrap();
            }
            Event::Restart => {
                drop(log.close(now).unwrap());
                log = Log::open(settings(scratch.path()), now).unwrap().0;
            }
        }
    }
    log.commit(at(100_000)).unwrap();
    let sessions = log.reader().sessions(1_000).unwrap();
    format!("{:?} {:?} {sessions:#?}", log.totals(), log.gaps())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_hit_that_is_looked_up_first_moves_the_log_as_one_that_is_staged(
        events in prop::collection::vec(event(), 1..120),
    ) {
        prop_assert_eq!(run(&events, true), run(&events, false));
    }
}
