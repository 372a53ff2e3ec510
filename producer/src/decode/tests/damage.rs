//! Damage that shows in the records only, and hits the log has.

use super::*;

/// With this limit on unreadable records, of which so many runs are gone over.
fn damaged_after(limit: u32, to_pass: u32) -> Reading {
    Reading { unreadable: Unreadable::new(limit, to_pass), ..Reading::from(MAX) }
}

#[test]
fn a_run_of_unreadable_records_ends_the_session_and_is_kept_as_rejects() {
    let text = [&b"{\"pageName\":\"a\"}\n"[..], &b"garbage\n".repeat(30), b"{\"pageName\":\"b\"}\n"].concat();
    for pieces in [1, 7, text.len()] {
        let sent = endless(&[&text]);
        let pieces: Vec<_> = sent.chunks(pieces).collect();
        let (records, ended) = decoded_by(damaged_after(20, 0), &pieces);
        assert_eq!((records.len(), &records[0]), (21, &row("a")));
        assert!(
            matches!(&ended, Ended::Unreadable(why) if why.starts_with("damaged: 20 records in a row")),
            "{ended:?}"
        );
        let (records, ended) = decoded_by(damaged_after(20, 1), &pieces);
        assert_eq!((records.len(), records.last()), (32, Some(&row("b"))), "gone over");
        assert!(matches!(ended, Ended::Within(_)), "{ended:?}");
        assert_eq!(decoded_by(damaged_after(0, 0), &pieces).0.len(), 32, "0 is never");
    }
}

#[test]
fn a_line_that_does_not_end_is_damage_when_it_is_as_long_as_so_many_records() {
    let text = [&b"{\"pageName\":\"a\"}\n"[..], &[b'x'; 30 * MAX]].concat();
    let (records, ended) = decoded_by(damaged_after(20, 0), &[&endless(&[&text])]);
    assert_eq!(records, [row("a")]);
    assert!(matches!(ended, Ended::Unreadable(_)), "{ended:?}");
    let (_, ended) = decoded_by(damaged_after(40, 0), &[&endless(&[&text])]);
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
        let (records, ended) = decoded_by(damaged_after(0, 0), &[&bad]);
        if unreadable(&records) < 500 || matches!(ended, Ended::Damaged(_)) {
            continue;
        }
        unnoticed += 1;
        let (records, ended) = decoded_by(damaged_after(50, 0), &[&bad]);
        assert!(matches!(ended, Ended::Unreadable(_)), "bit of byte {place}: {ended:?}");
        assert!(unreadable(&records) < 150, "{} kept as rejects", unreadable(&records));
    }
    println!("{unnoticed} of 75 wrong bits go unnoticed by deflate");
    assert!(unnoticed > 0, "nothing was proved");
}

#[test]
fn a_hit_that_the_log_has_is_recognised_by_its_id_and_nothing_is_made_of_it() {
    let known = Some([HitId { high: 1, low: 2 }].into_iter().collect());
    let hits = b"{\"pageName\":\"a\",\"hitIdHigh\":1,\"hitIdLow\":2}\n{\"pageName\":\"b\",\"hitIdHigh\":1,\"hitIdLow\":3}\n";
    let (records, _) = decoded_by(Reading { known, ..Reading::from(MAX) }, &[&gzip(hits)]);
    assert_eq!(records, [Became::Known(HitId { high: 1, low: 2 }), hit("b", 3)]);
}
