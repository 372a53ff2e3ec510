//! What connections are sent, without any connection.

use super::*;
use crate::{
    livestream::delivery::partition,
    records::{Generator, Plan},
};

const ANY: Wishes = Wishes { max_connections: 1, reset: None };

fn claim(group: &mut Group, member: u64, most: u64) -> Claim {
    match group.next(member, most, Instant::now()) {
        Next::Write(claim) => claim,
        other => panic!("{other:?}"),
    }
}

fn read(group: &mut Group, member: u64, most: u64) -> Range<u64> {
    let claim = claim(group, member, most);
    let sent: Vec<u64> = claim.ticks.clone().collect();
    assert!(group.commit(&claim, &all_of(&claim), &sent, Counts::default()));
    claim.ticks
}

/// Everything of the claim is written.
fn all_of(claim: &Claim) -> Reached {
    let generator = Generator::new(Plan { hits: claim.hits, ..Plan::default() });
    let mut walk = claim.walk();
    while walk.next(&generator).is_some() {}
    walk.reached()
}

#[test]
fn a_reconnection_goes_on_where_the_last_one_stopped_unless_it_asks_otherwise() {
    let now = Instant::now();
    let mut group = Group::new(1_000, None, 50);
    let first = group.join(ANY, now).unwrap();
    for start in (0..200).step_by(20) {
        assert_eq!(read(&mut group, first, 20), start..start + 20);
    }
    group.leave(first);
    assert_eq!(group.next(first, 1, now), Next::Gone);
    let second = group.join(ANY, now).unwrap();
    assert_eq!(read(&mut group, second, 10), 200..210);
    group.leave(second);
    let third = group.join(Wishes { reset: Some(Reset::Smallest), ..ANY }, now).unwrap();
    assert_eq!(read(&mut group, third, 10), 160..170);
    group.leave(third);
    let fourth = group.join(Wishes { reset: Some(Reset::Largest), ..ANY }, now).unwrap();
    assert_eq!(read(&mut group, fourth, 10), 210..220);
    assert_eq!(group.distinct_sent(), 220);
}

#[test]
fn what_has_lapsed_is_sent_to_nobody_and_a_replay_reaches_back_to_it_and_no_further() {
    let now = Instant::now();
    let mut group = Group::new(1_000, None, 50);
    let first = group.join(ANY, now).unwrap();
    assert_eq!(read(&mut group, first, 20), 0..20);
    group.lapse(100, now);
    group.leave(first);
    let second = group.join(Wishes { reset: Some(Reset::Smallest), ..ANY }, now).unwrap();
    assert_eq!(read(&mut group, second, 25), 120..145);
    for start in (145..420).step_by(25) {
        assert_eq!(read(&mut group, second, 25), start..start + 25);
    }
    group.leave(second);
    group.replay_next(200);
    let third = group.join(ANY, now).unwrap();
    assert_eq!(read(&mut group, third, 10), 220..230, "further back than it is held");
    group.leave(third);
    group.replay_next(1_000);
    let fourth = group.join(ANY, now).unwrap();
    assert_eq!(read(&mut group, fourth, 10), 120..130);
    assert_eq!(group.lapses().first(), Some(&(20..120)));
    assert!(!group.was_sent(119) && group.was_sent(120));
}

#[test]
fn with_a_rate_hits_happen_by_the_clock_and_are_held_for_late_readers() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut group = Group::new(10_000, Some(100), 500);
    assert_eq!(group.head(at(5)), 0, "the clock starts with the first connection");
    let first = group.join(ANY, at(10)).unwrap();
    assert_eq!(group.next(first, 10, at(10)), Next::Wait);
    assert_eq!(group.head(at(12)), 200);
    group.leave(first);
    let second = group.join(ANY, at(14)).unwrap();
    assert!(matches!(group.next(second, 9, at(14)), Next::Write(c) if c.ticks == (0..9)));
    group.leave(second);
    let third = group.join(ANY, at(20)).unwrap();
    assert!(matches!(group.next(third, 9, at(20)), Next::Write(c) if c.ticks == (500..509)));
    assert_eq!(group.head(at(1_000)), 10_000);
}

#[test]
fn with_a_backlog_the_clock_starts_where_it_ends() {
    let start = Instant::now();
    let mut group = Group::new(10_000, Some(100), 500).after(2_000);
    let smallest = Wishes { max_connections: 2, reset: Some(Reset::Smallest) };
    let first = group.join(smallest, start).unwrap();
    assert!(matches!(group.next(first, 9, start), Next::Write(c) if c.ticks == (1_500..1_509)));
    assert_eq!(group.head(start + Duration::from_secs(1)), 2_100);
    assert!(!group.is_last_of_all(first));
    let second = group.join(smallest, start).unwrap();
    assert!(group.is_last_of_all(second) && !group.is_last_of_all(first));
}

#[test]
fn connections_beyond_the_maximum_or_with_another_maximum_conflict() {
    let now = Instant::now();
    let two = Wishes { max_connections: 2, reset: None };
    let mut group = Group::new(1_000, None, 50);
    group.join(two, now).unwrap();
    assert_eq!(group.join(ANY, now).unwrap_err().status, StatusCode::CONFLICT);
    group.join(two, now).unwrap();
    assert_eq!(group.join(two, now).unwrap_err().status, StatusCode::CONFLICT);
}

#[test]
fn every_partition_is_read_by_exactly_one_connection_and_a_stale_claim_is_void() {
    let now = Instant::now();
    let wishes = Wishes { max_connections: 3, reset: None };
    let mut group = Group::new(1_000, None, 200);
    let first = group.join(wishes, now).unwrap();
    let stale = claim(&mut group, first, 10);
    assert_eq!(stale.mask, 0xff);
    let others = [group.join(wishes, now).unwrap(), group.join(wishes, now).unwrap()];
    assert!(!group.commit(&stale, &all_of(&stale), &[], Counts::default()));
    let masks: Vec<Mask> =
        [first, others[0], others[1]].iter().map(|member| claim(&mut group, *member, 10).mask).collect();
    assert_eq!(masks.iter().map(|mask| mask.count_ones()).sum::<u32>(), 8);
    assert_eq!(masks.iter().fold(0, |all, mask| all | mask), 0xff);
    read(&mut group, first, 100);
    assert_eq!(group.next(first, 10, now), Next::Wait, "it does not run away from its neighbours");
}

#[test]
fn partitions_that_lag_come_later_and_each_keeps_its_place_when_the_skew_goes() {
    let now = Instant::now();
    let generator = Generator::new(Plan { hits: 1_000, ..Plan::default() });
    let mut group = Group::new(1_000, None, 100_000);
    group.deliver(InHits { lags: [0, 0, 0, 0, 0, 0, 300, 300], ..InHits::default() });
    let member = group.join(ANY, now).unwrap();
    let mut found = Vec::new();
    let mut turns = 0;
    while let Next::Write(claim) = group.next(member, 70, now) {
        let mut walk = claim.walk();
        let mut sent = Vec::new();
        // Not to the end: a turn may end between two lanes of a tick.
        while let Some(index) = (sent.len() < 41).then(|| walk.next(&generator)).flatten() {
            sent.push(index);
        }
        assert!(group.commit(&claim, &walk.reached(), &sent, Counts::default()));
        found.extend(sent);
        turns += 1;
        if turns == 20 {
            group.deliver(InHits::default());
        }
    }
    assert_eq!(group.next(member, 1, now), Next::Over);
    let lags = |index: &u64| partition(&generator, *index) >= 6;
    let first = found.iter().position(lags).unwrap();
    let apart = found[..first].iter().max().unwrap() - found[first];
    assert!((290..=300).contains(&apart), "{apart}");
    for wanted in 0..PARTITIONS {
        let own: Vec<u64> =
            found.iter().copied().filter(|index| partition(&generator, *index) == wanted).collect();
        assert!(own.is_sorted(), "partition {wanted}");
    }
    found.sort_unstable();
    assert_eq!(found, (0..1_000).collect::<Vec<_>>(), "each once");
}

#[test]
fn with_a_rate_a_partition_that_lags_goes_on_when_the_others_are_done() {
    let start = Instant::now();
    let mut group = Group::new(1_000, Some(100), 100_000);
    group.deliver(InHits { lags: [0, 500, 0, 0, 0, 0, 0, 0], ..InHits::default() });
    let member = group.join(ANY, start).unwrap();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut read_until = |seconds| {
        while let Next::Write(claim) = group.next(member, 4_096, at(seconds)) {
            assert!(group.commit(&claim, &all_of(&claim), &[], Counts::default()));
        }
        (group.positions[0], group.positions[1])
    };
    assert_eq!(read_until(4), (400, 0));
    assert_eq!(read_until(10), (1_000, 500));
    assert_eq!(read_until(15), (1_000, 1_000));
    assert_eq!(group.head(at(20)), 1_000);
}

#[test]
fn the_visitors_of_a_broken_connection_are_handed_on_with_what_it_was_sent_last() {
    let now = Instant::now();
    let wishes = Wishes { max_connections: 2, reset: None };
    let mut group = Group::new(10_000, None, 4_000);
    group.deliver(InHits { handover: 150, ..InHits::default() });
    let (first, second) = (group.join(wishes, now).unwrap(), group.join(wishes, now).unwrap());
    let own = claim(&mut group, first, 1).mask;
    assert_eq!(read(&mut group, first, 600), 0..600);
    assert_eq!(read(&mut group, second, 700), 0..700);
    group.leave(first);
    for (p, position) in group.positions.iter().enumerate() {
        assert_eq!(*position, if own & (1 << p) != 0 { 450 } else { 700 }, "partition {p}");
    }
    assert_eq!(claim(&mut group, second, 1).mask, Mask::MAX);
    group.leave(second);
    assert_eq!(group.positions[usize::from(own & 1 == 0)], 450, "nobody is left to hand it to");
}

#[test]
fn hits_sent_twice_come_on_the_other_connection_too_and_on_none_if_there_is_no_other() {
    let now = Instant::now();
    let wishes = Wishes { max_connections: 2, reset: None };
    let generator = Generator::new(Plan { hits: 1_000, ..Plan::default() });
    let mut group = Group::new(1_000, None, 4_000);
    group.deliver(InHits { twice_per_mille: 100, ..InHits::default() });
    let first = group.join(wishes, now).unwrap();
    assert_eq!(claim(&mut group, first, 1).echo, 0);
    let second = group.join(wishes, now).unwrap();
    let mut times = vec![0; 1_000];
    for member in [first, second] {
        let claim = claim(&mut group, member, 1_000);
        let mut walk = claim.walk();
        while let Some(index) = walk.next(&generator) {
            times[index as usize] += 1;
        }
    }
    let twice = times.iter().filter(|times| **times == 2).count();
    assert!(times.iter().all(|times| (1..=2).contains(times)) && (60..150).contains(&twice), "{twice}");
}
