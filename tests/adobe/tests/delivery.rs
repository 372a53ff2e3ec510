//! In what order a reader gets the hits, and how often.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{HashMap, HashSet},
    thread,
};

use adobe::{Adobe, Delivery, Fault, Options, Plan};
use common::{Stage, Stream};

const HITS: u64 = 4_000;
/// Seconds of stream time from hit to hit.
const STEP: u64 = 10;

fn options(delivery: Delivery) -> Options {
    let plan = Plan {
        hits: HITS,
        duplicates_per_mille: 0,
        malformed_per_mille: 0,
        hits_per_second: 1,
        step_seconds: STEP,
        ..Plan::default()
    };
    Options { plan, delivery, ..Options::default() }
}

/// Which hit a line is.
fn indexes(adobe: &Adobe) -> HashMap<Vec<u8>, u64> {
    let line = |index| {
        let mut line = Vec::new();
        adobe.generator().write_hit(index, &mut line);
        line.truncate(line.len() - 2);
        (line, index)
    };
    (0..HITS).map(line).collect()
}

/// The hits until nothing more comes: two empty lines in a row, a second apart, and perhaps one of the plan.
fn read_to_the_end(stream: &mut Stream, of: &HashMap<Vec<u8>, u64>) -> Vec<u64> {
    let (mut found, mut quiet) = (Vec::new(), 0);
    while quiet < 3 {
        let line = stream.next().unwrap().unwrap();
        quiet = if line.is_empty() { quiet + 1 } else { 0 };
        found.extend(of.get(line));
    }
    found
}

fn two_hours_behind() -> Delivery {
    Delivery { skew: [0, 0, 0, 7_200, 0, 0, 0, 7_200], ..Delivery::default() }
}

#[test]
fn partitions_of_one_connection_run_hours_apart_and_the_same_seed_gives_the_same_order() {
    let read = || {
        let stage = Stage::new(options(two_hours_behind()));
        let of = indexes(&stage.adobe);
        let found = read_to_the_end(&mut stage.connect(&stage.token(), ""), &of);
        assert_eq!(stage.adobe.distinct_sent(), HITS);
        let apart = 7_200 / STEP;
        let mut foremost = 0;
        for index in &found {
            match stage.adobe.partition(*index) {
                // The foremost few may be of the partitions behind.
                3 | 7 => assert!(index + apart <= foremost + 60 || foremost + 60 >= HITS, "{index}"),
                _ => foremost = foremost.max(*index),
            }
        }
        found
    };
    let found = read();
    assert!(!found.is_sorted());
    let mut all = found.clone();
    all.sort_unstable();
    assert_eq!(all, (0..HITS).collect::<Vec<_>>(), "each once");
    assert_eq!(found, read());
}

#[test]
fn a_skew_begins_with_a_connection_and_ends_when_it_is_told_to() {
    let stage = Stage::new(options(Delivery::default()));
    let of = indexes(&stage.adobe);
    stage.adobe.faults().push(Fault::End { after: 1_000 });
    stage.adobe.faults().push(Fault::Deliver(two_hours_behind()));
    stage.adobe.faults().push(Fault::End { after: 1_500 });
    stage.adobe.faults().push(Fault::Deliver(Delivery::default()));
    let mut parts = Vec::new();
    for _ in 0..2 {
        let (mut stream, mut found) = (stage.connect(&stage.token(), ""), Vec::new());
        while let Some(line) = stream.next().unwrap() {
            found.extend(of.get(line).copied());
        }
        parts.push(found);
    }
    parts.push(read_to_the_end(&mut stage.connect(&stage.token(), ""), &of));
    assert_eq!(parts[0], (0..1_000).collect::<Vec<_>>());
    assert!(!parts[1].is_sorted(), "skewed");
    assert!(parts[2].is_sorted(), "those behind catch up");
    let all: HashSet<u64> = parts.iter().flatten().copied().collect();
    assert_eq!((all.len() as u64, parts.iter().map(Vec::len).sum::<usize>() as u64), (HITS, HITS));
}

#[test]
fn visitors_of_a_broken_connection_go_on_at_another_which_is_sent_some_hits_again() {
    let delivery = Delivery { handover: 600 * STEP, ..Delivery::default() };
    let stage = Stage::new(Options { rate: Some(1_500), ..options(delivery) });
    let of = indexes(&stage.adobe);
    let token = stage.token();
    let mut stays = stage.connect(&token, "?maxConnections=2");
    let mut breaks = stage.connect(&token, "?maxConnections=2");
    let (broken, stayed) = thread::scope(|scope| {
        let stayed = scope.spawn(|| read_to_the_end(&mut stays, &of));
        let lines = breaks.lines(700);
        drop(breaks);
        let broken: HashSet<u64> = lines.iter().filter_map(|line| of.get(line)).copied().collect();
        (broken, stayed.join().unwrap())
    });
    let stayed: HashSet<u64> = stayed.into_iter().collect();
    assert_eq!(stage.adobe.distinct_sent(), HITS);
    assert_eq!(broken.union(&stayed).count() as u64, HITS, "nothing of the broken one is missing");
    // The visitors of the other had been its own for a while, until the other came.
    let last = broken.iter().max().unwrap();
    let again = broken.intersection(&stayed).filter(|index| **index + 700 > *last && **index > 300).count();
    assert!(again > 100, "{again}");
    assert!(broken.iter().any(|index| !stayed.contains(index)), "not everything is sent again");
}

#[test]
fn hits_come_twice_on_two_connections_as_often_as_wanted() {
    let delivery = Delivery { twice_per_mille: 200, ..Delivery::default() };
    let stage = Stage::new(options(delivery));
    let of = indexes(&stage.adobe);
    let token = stage.token();
    let mut streams: Vec<_> = (0..2).map(|_| stage.connect(&token, "?maxConnections=2")).collect();
    let found: Vec<HashSet<u64>> = thread::scope(|scope| {
        let of = &of;
        let readers: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(move || read_to_the_end(stream, of).into_iter().collect()))
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert_eq!(found[0].union(&found[1]).count() as u64, HITS);
    assert_eq!(stage.adobe.distinct_sent(), HITS);
    // The second came when the first had been sent some hits alone.
    let twice = found[0].intersection(&found[1]).filter(|index| **index > HITS / 2).count();
    assert!((HITS / 20..HITS).contains(&(twice as u64)), "{twice}");
}
