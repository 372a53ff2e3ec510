use super::*;

const RECORD: usize = 1_000;

/// Feeds a record for each character: a letter is an unreadable one, which is the same one in the same place.
fn feed(tracker: &mut DamageDetector, records: &str) -> Option<usize> {
    records.chars().enumerate().position(|(number, record)| {
        match record {
            '.' => tracker.readable(),
            _ => tracker.unreadable(format!("{record}{number}").as_bytes()),
        }
        tracker.damage().is_some()
    })
}

fn first() -> DamageDetector {
    DamageDetector::new(20, RECORD)
}

#[test]
fn so_many_in_a_row_are_damage_also_with_one_readable_among_them() {
    assert_eq!(feed(&mut first(), &"X".repeat(40)), Some(19));
    assert_eq!(feed(&mut first(), &"XXXXXXXXXX.".repeat(5)), Some(29));
}

#[test]
fn a_wrong_record_now_and_then_is_no_damage_however_many_there_are() {
    for stream in ["X.", "XXX.", "XXXX.", ".....X"] {
        assert_eq!(feed(&mut first(), &stream.repeat(1_000)), None, "{stream}");
    }
    assert_eq!(feed(&mut DamageDetector::new(0, RECORD), &"X".repeat(10_000)), None, "0 is never");
}

#[test]
fn a_line_without_end_counts_by_its_length_and_once() {
    let grown = |before: &str, bytes| {
        let mut tracker = first();
        assert_eq!(feed(&mut tracker, before), None);
        for bytes in (0..=bytes).step_by(500) {
            tracker.line_grew(b"x", bytes);
        }
        tracker
    };
    assert!(grown("", 19_500).damage().is_none() && grown("", 20_000).damage().is_some());
    assert!(grown("XXXXX", 14_500).damage().is_none() && grown("XXXXX", 15_000).damage().is_some());
    assert!(!grown("", 1_000).is_in_doubt(), "its end may follow");
    let mut never = DamageDetector::new(0, 1);
    never.line_grew(b"x", u64::MAX);
    assert!(never.damage().is_none());
    // When it ends, what was counted of it is not counted again.
    for counted in [0, 5_000, 19_000] {
        let mut tracker = grown("", counted);
        tracker.too_long(b"x", 19_999);
        assert_eq!((tracker.count, tracker.damage().is_some()), (19, false));
        tracker.unreadable(b"x");
        assert!(tracker.damage().is_some());
    }
}

/// One session after the other over a stream in which each place is a run of 30 records, unreadable ones for a letter,
/// which are the same ones each time, and other ones for `?`. How many it takes to read to the end.
fn sessions_to_the_end(stream: &str) -> Option<usize> {
    let mut history = DamageHistory::default();
    (1..50).find(|session| {
        let mut tracker = history.next_session(20, RECORD);
        let ended = stream.chars().any(|run| {
            (0..30).any(|number| {
                match run {
                    '.' => tracker.readable(),
                    '?' => tracker.unreadable(format!("?{session} {number}").as_bytes()),
                    run => tracker.unreadable(format!("{run}{number}").as_bytes()),
                }
                tracker.damage().is_some()
            })
        });
        history.session_ended(&tracker, false);
        !ended
    })
}

#[test]
fn a_stream_is_read_to_its_end_however_much_of_it_adobe_sends_unreadable() {
    assert_eq!(sessions_to_the_end("..."), Some(1));
    assert_eq!(sessions_to_the_end(".X."), Some(4));
    assert_eq!(sessions_to_the_end("XXXXXYYYYYYYYYYYYYYY"), Some(4));
    assert_eq!(sessions_to_the_end(".X..Y.Z."), Some(6));
}

#[test]
fn a_run_of_other_records_each_time_is_tolerated_after_six_sessions_and_no_further_than_its_bound() {
    assert_eq!(sessions_to_the_end("."), Some(1));
    assert_eq!(sessions_to_the_end(".?."), Some(7));
    // 30 of each are unreadable; 20 are before the limit, 200 may follow.
    assert_eq!(sessions_to_the_end(".???????."), Some(7));
    assert_eq!(sessions_to_the_end(".????????."), None);
}

fn damaged(history: &mut DamageHistory, records: &str) -> bool {
    let mut tracker = history.next_session(20, RECORD);
    let damaged = feed(&mut tracker, records).is_some();
    history.session_ended(&tracker, false);
    damaged
}

#[test]
fn damage_after_what_was_tolerated_ends_the_session_and_is_asked_for_again() {
    let poison = format!("{}{}", "X".repeat(30), ".".repeat(30));
    let mut history = DamageHistory::default();
    (0..3).for_each(|_| assert!(damaged(&mut history, &poison)));
    assert!(!damaged(&mut history, &poison), "tolerated");
    // Behind the same run, something breaks, in another way each time.
    for run in ["A", "B", "C", "D"] {
        assert!(damaged(&mut history, &format!("{poison}{}", run.repeat(30))), "{run} is no run of Adobe");
        assert!(!damaged(&mut history, &poison), "and the run of Adobe still is one");
    }
}

#[test]
fn a_few_records_that_are_always_wrong_make_no_run_of_the_damage_behind_them() {
    let mut history = DamageHistory::default();
    for run in ["A", "B", "C", "D", "E"] {
        assert!(damaged(&mut history, &format!("XXXXXXXXX{}", run.repeat(30))), "{run}");
    }
}

#[test]
fn a_session_that_reads_well_forgets_what_it_takes_to_tolerate_a_run() {
    let run = "X".repeat(30);
    let mut history = DamageHistory::default();
    (0..3).for_each(|_| assert!(damaged(&mut history, &run)));
    let readable = history.next_session(20, RECORD);
    history.session_ended(&readable, false);
    assert!(history.next_session(20, RECORD).tolerates_seen, "it broke too early to tell");
    history.session_ended(&readable, true);
    (0..3).for_each(|_| assert!(damaged(&mut history, &run)));
    assert!(!damaged(&mut history, &run));
}

#[test]
fn connections_share_what_they_saw() {
    let (seen, run) = (SeenRecords::default(), "X".repeat(30));
    let (mut one, mut other) = (DamageHistory::new(seen.clone()), DamageHistory::new(seen));
    (0..3).for_each(|_| assert!(damaged(&mut one, &run)));
    (0..3).for_each(|_| assert!(damaged(&mut other, &"Y".repeat(30))));
    assert!(!damaged(&mut other, &run), "its visitor was the other one's before");
}

#[test]
fn the_latest_are_remembered_and_by_their_first_bytes() {
    let seen = SeenRecords::default();
    for number in 0..REMEMBERED as u64 + 10 {
        seen.add(&[number, number]);
    }
    assert!(!seen.contains(9) && seen.contains(10) && seen.contains(REMEMBERED as u64 + 9));
    assert_eq!(seen.lock().all.len(), REMEMBERED);
    assert_eq!(seen.hash(&[b'x'; HEAD_BYTES]), seen.hash(&[b'x'; HEAD_BYTES + 1]));
    assert_ne!(seen.hash(b"a"), seen.hash(b"b"));
}
