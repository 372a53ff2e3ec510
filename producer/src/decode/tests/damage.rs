//! Damage that shows in the records only, and hits the log has.

use super::*;
use shared::clock::Clock;
use state::log::KnownHits;

use crate::decode::damage::{DamageDetector, DamageHistory};

/// With this limit on unreadable records.
fn damaged_after(limit: u32) -> Reading {
    Reading { damage: DamageDetector::new(limit, MAX), ..Reading::from(MAX) }
}

/// With these hits in the log.
fn resuming(known: KnownHits, reading: Reading) -> Reading {
    Reading { resume: Some(Resume::new(known, Clock::system())), ..reading }
}

/// A session of a connection, with its threads: its records, and how it ended.
fn session(history: &mut DamageHistory, sent: &[u8]) -> (u64, Ended) {
    let counters = Arc::new(Counters::new(&[]));
    let (to_thread, input) = mpsc::channel(10);
    let (out, mut blocks) = mpsc::channel(10);
    let reading = Reading { damage: history.next_session(20, MAX), ..Reading::from(MAX) };
    let thread = start(0, transform(), reading, counters.clone(), input, out).unwrap();
    let sending = std::thread::spawn({
        let pieces: Vec<Bytes> = sent.chunks(10_000).map(Bytes::copy_from_slice).collect();
        move || pieces.into_iter().all(|piece| to_thread.blocking_send(Piece::Bytes(piece)).is_ok())
    });
    while blocks.blocking_recv().is_some() {}
    sending.join().unwrap();
    let Finished { ended, damage, .. } = thread.join().unwrap();
    history.session_ended(&damage, false);
    (counters.records.load(Ordering::Relaxed), ended)
}

/// How many sessions it takes to read this to its end.
fn sessions_to_the_end(lines: &[Vec<u8>]) -> Option<u64> {
    let mut history = DamageHistory::default();
    let sent = endless(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    (1..20).find(|_| match session(&mut history, &sent) {
        (records, Ended::Input) => records == lines.len() as u64,
        _ => false,
    })
}

#[test]
fn long_lines_that_adobe_sends_are_read_past_however_many_and_however_long() {
    let (good, end) = (b"{\"pageName\":\"a\"}\n".to_vec(), b"\n".to_vec());
    let long = |bytes: usize, byte: u8| [vec![byte; bytes], end.clone()].concat();
    // One line as long as so many records, and so long that it comes in many pieces.
    for bytes in [25 * MAX, 400_000] {
        let lines = [good.clone(), long(bytes, b'x'), good.clone()];
        assert_eq!(sessions_to_the_end(&lines), Some(4), "{bytes}");
    }
    // More lines in a row than make damage, each longer than a piece of text.
    let mut lines: Vec<_> = (0..30).map(|number| long(MAX + (70 << 10), b'a' + number)).collect();
    lines.push(good.clone());
    assert_eq!(sessions_to_the_end(&lines), Some(4));
    // And so short that each lies in one.
    let lines: Vec<_> = (0..60).map(|number| long(MAX + 1, b'0' + number)).chain([good.clone()]).collect();
    assert_eq!(sessions_to_the_end(&lines), Some(4));
}

/// Damage of deflate in another place each time, behind records that Adobe sends unreadable: never is it gone over.
#[test]
fn damage_behind_what_is_gone_over_ends_every_session() {
    let poison: Vec<u8> =
        (0..30).flat_map(|number| format!("a new format {number}\n").into_bytes()).collect();
    let good: Vec<u8> =
        (0..50).flat_map(|number| format!("{{\"pageName\":\"{number}\"}}\n").into_bytes()).collect();
    let mut history = DamageHistory::default();
    (0..3)
        .for_each(|_| assert!(matches!(session(&mut history, &endless(&[&poison])).1, Ended::Unreadable(_))));
    assert_eq!(session(&mut history, &endless(&[&poison, &good])), (80, Ended::Input));
    for time in 0..5 {
        let garbage: Vec<u8> =
            (0..5_000).flat_map(|number| format!("garbage {time} {number}\n").into_bytes()).collect();
        let (records, ended) = session(&mut history, &endless(&[&poison, &good, &garbage]));
        assert!(matches!(ended, Ended::Unreadable(_)), "{ended:?}");
        assert_eq!(records, 80 + 20, "those before the damage was certain");
    }
}

#[test]
fn a_damaged_record_that_bears_a_known_id_does_not_count_as_readable() {
    let sent = |record: &[u8]| {
        let run = [&b"garbage\n".repeat(4)[..], record, b"\n"].concat().repeat(20);
        let known = [HitId { high: 1, low: 2 }].into_iter().collect();
        decoded_by(resuming(known, damaged_after(20)), &[&endless(&[&run])]).1
    };
    let ended = sent(b"{\"hitIdHigh\":1,\"hitIdLow\":2,\"pageName\":tr{}ue}");
    assert!(matches!(ended, Ended::Unreadable(_)), "{ended:?}");
    let ended = sent(b"{\"hitIdHigh\":1,\"hitIdLow\":2,\"pageName\":true}");
    assert!(matches!(ended, Ended::Within(_)), "{ended:?}");
}

#[test]
fn a_log_that_was_asked_in_vain_is_asked_again_when_it_has_what_comes() {
    let hits = |from: u64, to: u64| {
        let hit = |low| format!("{{\"hitIdHigh\":1,\"hitIdLow\":{low}}}\n").into_bytes();
        (from..to).flat_map(hit).collect::<Vec<u8>>()
    };
    let known = (5_000..6_000).map(|low| HitId { high: 1, low }).collect();
    let sent = gzip(&hits(0, 6_000));
    let (records, _) = decoded_by(resuming(known, Reading::from(MAX)), &[&sent]);
    let again = records.iter().filter(|became| matches!(became, Became::Known(_))).count();
    assert!((1_000 - 64..=1_000).contains(&again), "{again}");
}

#[test]
fn a_run_of_unreadable_records_ends_the_session_and_is_kept_as_rejects() {
    let text = [&b"{\"pageName\":\"a\"}\n"[..], &b"garbage\n".repeat(30), b"{\"pageName\":\"b\"}\n"].concat();
    for pieces in [1, 7, text.len()] {
        let sent = endless(&[&text]);
        let pieces: Vec<_> = sent.chunks(pieces).collect();
        let (records, ended) = decoded_by(damaged_after(20), &pieces);
        assert_eq!((records.len(), &records[0]), (21, &row("a")));
        assert!(
            matches!(&ended, Ended::Unreadable(why) if why.starts_with("damaged: 20 records in a row")),
            "{ended:?}"
        );
        assert_eq!(decoded_by(damaged_after(0), &pieces).0.len(), 32, "0 is never");
    }
}

#[test]
fn a_line_that_does_not_end_is_damage_when_it_is_as_long_as_so_many_records() {
    let text = [&b"{\"pageName\":\"a\"}\n"[..], &[b'x'; 30 * MAX]].concat();
    let (records, ended) = decoded_by(damaged_after(20), &[&endless(&[&text])]);
    assert_eq!(records, [row("a")]);
    assert!(matches!(ended, Ended::Unreadable(_)), "{ended:?}");
    let (_, ended) = decoded_by(damaged_after(40), &[&endless(&[&text])]);
    assert!(matches!(ended, Ended::Within(_)), "{ended:?}");
}

/// One bit is wrong in one of many places of a member that goes on: wherever deflate goes on too, to lines that cannot
/// be read, the session ends.
#[test]
fn damage_that_deflate_does_not_notice_ends_the_session() {
    let lines: Vec<u8> = (0..6_000_u64)
        .flat_map(|n| {
            let page = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{{\"pageName\":\"page {page:x}\",\"hitIdHigh\":{n},\"hitIdLow\":{page}}}\n").into_bytes()
        })
        .collect();
    let good = endless(&[&lines]);
    let unreadable =
        |records: &[Became]| records.iter().filter(|became| matches!(became, Became::Rejected(..))).count();
    let mut unnoticed = 0;
    for place in (1_000..good.len() / 2).step_by(good.len() / 150) {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        let (records, ended) = decoded_by(damaged_after(0), &[&bad]);
        if unreadable(&records) < 500 || matches!(ended, Ended::Damaged(_)) {
            continue;
        }
        unnoticed += 1;
        let (records, ended) = decoded_by(damaged_after(50), &[&bad]);
        assert!(matches!(ended, Ended::Unreadable(_)), "bit of byte {place}: {ended:?}");
        assert!(unreadable(&records) < 150, "{} kept as rejects", unreadable(&records));
    }
    println!("{unnoticed} of 75 wrong bits go unnoticed by deflate");
    assert!(unnoticed > 0, "nothing was proved");
}

#[test]
fn a_hit_that_the_log_has_is_recognised_by_its_id_and_nothing_is_made_of_it() {
    let known = [HitId { high: 1, low: 2 }].into_iter().collect();
    let hits = b"{\"pageName\":\"a\",\"hitIdHigh\":1,\"hitIdLow\":2}\n{\"pageName\":\"b\",\"hitIdHigh\":1,\"hitIdLow\":3}\n";
    let (records, _) = decoded_by(resuming(known, Reading::from(MAX)), &[&gzip(hits)]);
    assert_eq!(records, [Became::Known(HitId { high: 1, low: 2 }), hit("b", 3)]);
}
