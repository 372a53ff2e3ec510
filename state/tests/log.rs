//! The log as the producer uses it: what is accepted stays, what is known is recognised, and counts add up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Moment, Steady};
use shared::ids::Instance;
use state::log::{
    BatchStatus, Chosen, ENDED_WITHOUT_A_WORD, FileStatus, Form, Gap, GapTotals, HitId, Log, LogError,
    LogReader, Settings, Staged, Upload,
};
use state::status::snapshot::GapSnapshot;
use state::store::StoreError;
use support::{few_rows as settings, start};

fn row(n: u64) -> Vec<u8> {
    format!("{n}~some~row~of~\"text {n}\"\n").into_bytes()
}

fn hit(n: u64) -> Option<HitId> {
    Some(HitId { high: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: u64::MAX - n })
}

/// Stages and commits as the producer's thread does; returns the files closed and batches sealed.
fn append(log: &mut Log, numbers: impl Iterator<Item = u64>, now: DateTime<Utc>) -> (Vec<u64>, Vec<u64>) {
    let (mut closed, mut sealed) = (Vec::new(), Vec::new());
    for n in numbers {
        log.stage_row(0, hit(n), Some(now), &row(n), now);
        if log.commit_is_due() {
            let done = log.commit(now).unwrap();
            closed.extend(done.closed);
            sealed.extend(done.sealed);
        }
    }
    let done = log.commit(now).unwrap();
    closed.extend(done.closed);
    sealed.extend(done.sealed);
    (closed, sealed)
}

fn stage(log: &mut Log, numbers: impl Iterator<Item = u64>, now: DateTime<Utc>) {
    numbers.for_each(|n| _ = log.stage_row(0, hit(n), Some(now), &row(n), now));
}

fn steady(at: DateTime<Utc>) -> Option<Steady> {
    Some(Moment::from(at).steady)
}

fn upload() -> Upload {
    Upload { bytes: 1, crc32: "AAAAAA==".to_owned(), etag: "e".to_owned(), content: None }
}

#[test]
fn rows_come_back_in_order_after_a_restart_and_the_open_file_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    assert_eq!(append(&mut log, 0..60, now), (vec![0, 1], vec![0]));
    drop(log);
    let (mut log, resumed) = Log::open(settings(dir.path()), now).unwrap();
    assert_eq!((resumed.closed, resumed.sealed, resumed.rows, resumed.hits), (vec![0, 1], vec![0], 60, 60));
    assert_eq!(append(&mut log, 60..75, now), (vec![2], vec![]));
    let mut rows = Vec::new();
    for file in 0..3 {
        assert_eq!(log.reader().rows(file, &mut rows).unwrap().rows, 25);
    }
    assert!(rows == (0..75).flat_map(row).collect::<Vec<_>>());
}

#[test]
fn a_hit_is_known_until_the_stream_has_gone_on_by_the_window_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    append(&mut log, 0..40, now);
    assert_eq!(log.stage_row(0, hit(3), None, &row(3), now), Staged::Duplicate);
    drop(log);
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    assert_eq!(log.stage_row(0, hit(39), None, &row(39), now), Staged::Duplicate);
    assert_eq!(
        log.stage_row(0, None, None, &row(3), now),
        Staged::New,
        "without an id nothing can be recognised"
    );
    let later = now + TimeDelta::hours(3);
    for _ in 0..5 {
        log.commit(later).unwrap();
    }
    assert_eq!(
        log.stage_row(0, hit(3), None, &row(3), later),
        Staged::Duplicate,
        "the clock forgets nothing"
    );
    append(&mut log, 100..110, later);
    append(&mut log, 110..120, later);
    assert_eq!(
        log.stage_row(0, hit(3), Some(now), &row(3), later),
        Staged::New,
        "what is not known is accepted, however old"
    );
    assert_eq!(log.stage_row(0, hit(105), Some(later), &row(105), later), Staged::Duplicate);
}

#[test]
fn more_hits_than_the_window_holds_push_out_the_oldest_only() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(Settings { dedup_hits: 100, ..settings(dir.path()) }, now).unwrap();
    append(&mut log, 0..300, now);
    assert_eq!(log.stage_row(0, hit(299), None, &row(0), now), Staged::Duplicate);
    assert_eq!(log.stage_row(0, hit(210), None, &row(0), now), Staged::Duplicate);
    assert_eq!(log.stage_row(0, hit(0), None, &row(0), now), Staged::New);
}

#[test]
fn the_window_keeps_its_limit_also_when_small_commits_are_followed_by_large_ones() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let large =
        Settings { dedup_hits: 100, commit_rows: 200, records_per_file: 10_000, ..settings(dir.path()) };
    let (mut log, _) = Log::open(large.clone(), now).unwrap();
    for n in 0..60 {
        append(&mut log, n..n + 1, now);
    }
    for n in 1..4 {
        append(&mut log, n * 1_000..n * 1_000 + 50, now);
        let remembered = log.reader().snapshot().unwrap().hits_remembered;
        assert!(remembered <= 100, "{remembered}");
    }
    drop(log);
    // A lower limit holds from the first commits on.
    let (mut log, resumed) = Log::open(Settings { dedup_hits: 60, ..large }, now).unwrap();
    assert_eq!(resumed.hits, 100);
    append(&mut log, 9_000..9_001, now);
    assert!(log.reader().snapshot().unwrap().hits_remembered <= 60);
}

#[test]
fn every_record_is_accounted_for_in_some_seal() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    for n in 0..200 {
        log.stage_row(0, hit(n / 2), None, &row(n), now);
        if n % 10 == 0 {
            log.stage_filtered(0, None, now);
            log.stage_reject(0, b"{broken \xff", "not_json", "not JSON", now);
        }
        if log.commit_is_due() {
            log.commit(now).unwrap();
        }
    }
    log.stage_row(0, hit(1_000), None, &row(1_000), now);
    log.seal_all(now).unwrap();
    let batches = log.reader().batches().unwrap();
    assert!(batches.len() > 1 && batches.iter().all(|(_, batch)| batch.counts.add_up()), "{batches:?}");
    let rows: u64 = batches.iter().map(|(_, batch)| batch.rows).sum();
    let received: u64 = batches.iter().map(|(_, batch)| batch.counts.received).sum();
    assert_eq!((rows, received, log.totals().received), (101, 241, 241));
    assert!(batches.iter().all(|(_, batch)| batch.counts.rows == batch.rows), "{batches:?}");
    let (rejects, _) = log.reader().rejects(1000, 1 << 20).unwrap();
    assert_eq!(rejects.len(), 20);
    log.rejects_uploaded(Chosen { first: rejects[0].0, last: rejects[9].0 }).unwrap();
    assert_eq!(log.reader().rejects(1000, 1 << 20).unwrap().0[..], rejects[10..]);
}

#[test]
fn rows_are_dropped_once_uploaded_and_batches_forgotten_long_after_they_were_published() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let small = Settings { records_per_file: 1, files_per_batch: 1, ..settings(dir.path()) };
    let (mut log, _) = Log::open(small.clone(), now).unwrap();
    let (closed, sealed) = append(&mut log, 0..1_010, now);
    assert_eq!((closed.len(), sealed.len()), (1_010, 1_010));
    let waiting = log.waiting_bytes();
    for file in closed {
        log.uploaded(file, upload()).unwrap();
        assert!(log.uploaded(file, upload()).is_err(), "confirmed twice");
    }
    assert!(waiting > 0 && log.waiting_bytes() == 0);
    let reader = log.reader();
    assert!(matches!(reader.file(1_009).unwrap().status, FileStatus::Uploaded(_)));
    for batch in sealed {
        log.published(batch, now).unwrap();
    }
    let batches = reader.batches().unwrap();
    assert!(
        batches.len() == 1_000 && batches.iter().all(|(_, batch)| batch.status == BatchStatus::Published)
    );
    assert!(reader.file(0).is_err() && reader.file(1_009).is_err() && reader.batch(9).is_err());
    drop((log, reader));
    let (mut log, _) = Log::open(small, now).unwrap();
    append(&mut log, 3_000..3_001, now);
    assert!(log.reader().file(1_010).is_ok(), "numbers go on where they were");
}

#[test]
fn rows_of_two_schemas_never_meet_in_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    append(&mut log, 0..5, now);
    drop(log);
    let other = Settings { schema: "fedcba9876543210".to_owned(), ..settings(dir.path()) };
    let (mut log, resumed) = Log::open(other, now).unwrap();
    assert_eq!((resumed.closed, resumed.sealed), (vec![0], vec![0]));
    append(&mut log, 5..9, now);
    let schemas: Vec<_> =
        log.reader().batches().unwrap().into_iter().map(|(_, b)| (b.schema, b.rows)).collect();
    assert_eq!(schemas, [("0123456789abcdef".to_owned(), 5), ("fedcba9876543210".to_owned(), 4)]);
}

#[test]
fn pseudonyms_of_two_keys_never_meet_in_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let with = |key: Option<&str>| Settings { pseudonym_key: key.map(str::to_owned), ..settings(dir.path()) };
    for (number, key) in
        [None, Some("01234567"), Some("01234567"), Some("76543210"), None].into_iter().enumerate()
    {
        let (mut log, _) = Log::open(with(key), now).unwrap();
        let first = number as u64 * 3;
        append(&mut log, first..first + 3, now);
    }
    let (log, _) = Log::open(with(None), now).unwrap();
    let batches = log.reader().batches().unwrap();
    let keys: Vec<_> =
        batches.iter().map(|(_, batch)| (batch.pseudonym_key.as_deref(), batch.rows)).collect();
    assert_eq!(keys, [(None, 3), (Some("01234567"), 6), (Some("76543210"), 3), (None, 3)]);
}

#[test]
fn pseudonyms_of_two_spellings_never_meet_in_a_batch_nor_with_those_of_a_version_that_did_not_say() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let form = |spelling: Option<&str>| Form {
        schema: settings(dir.path()).schema,
        pseudonym_key: Some("01234567".to_owned()),
        pseudonym_spelling: spelling.map(str::to_owned),
        ..Form::default()
    };
    let with = |spelling| settings(dir.path()).with_pseudonyms_of(&form(spelling));
    // As an earlier version left it: its record has no spelling.
    let (mut log, _) = Log::open(with(None), now).unwrap();
    append(&mut log, 0..3, now);
    drop(log);
    let (mut log, _) = Log::open(with(Some("hex 32")), now).unwrap();
    append(&mut log, 3..5, now);
    drop(log);
    let (mut log, _) = Log::open(with(Some("hex 32")), now).unwrap();
    append(&mut log, 5..7, now);
    for (spelling, rows) in [("hex 32", 7..8), ("base64url 32", 8..10), ("base64url 22", 10..11)] {
        log.begin_form(&form(Some(spelling)), now).unwrap();
        append(&mut log, rows, now);
    }
    drop(log);
    let (log, _) = Log::open(with(Some("hex 32")), now).unwrap();
    let batches = log.reader().batches().unwrap();
    let spellings: Vec<_> =
        batches.iter().map(|(_, batch)| (batch.pseudonym_spelling.as_deref(), batch.rows)).collect();
    let [hex, long, short] = ["hex 32", "base64url 32", "base64url 22"].map(Some);
    assert_eq!(spellings, [(None, 3), (hex, 5), (long, 2), (short, 1)]);
    assert!(batches.iter().all(|(_, batch)| batch.status == BatchStatus::Sealed), "{batches:?}");
}

#[test]
fn a_log_that_goes_on_with_rows_of_another_form_ends_the_batch_and_keeps_the_new_columns_in_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let form = |schema: &str, key: Option<&str>| Form {
        schema: schema.to_owned(),
        columns: vec![format!("column of {schema}")],
        pseudonym_key: key.map(str::to_owned),
        pseudonym_spelling: None,
    };
    let (first, second) = (settings(dir.path()), form("fedcba9876543210", None));
    let (mut log, _) = Log::open(first.clone(), now).unwrap();
    append(&mut log, 0..5, now);
    stage(&mut log, 5..7, now);
    log.begin_form(&second, now).unwrap();
    // The process ends here, and the disk has the one commit or not.
    let done = log.commit(now).unwrap();
    assert_eq!((done.closed, done.sealed), (vec![0], vec![0]));
    drop(log);
    let other = Settings { schema: second.schema.clone(), ..settings(dir.path()) };
    let (mut log, resumed) = Log::open(other, now).unwrap();
    assert_eq!((resumed.sealed, resumed.rows), (vec![0], 7));
    assert_eq!(log.reader().columns(&second.schema).unwrap(), Some(second.columns.clone()));
    append(&mut log, 7..9, now);
    // The form of the open batch again changes nothing; then another key, and back: blocks of a slow connection are late.
    log.begin_form(&second, now).unwrap();
    append(&mut log, 9..11, now);
    for (key, rows) in [(Some("01234567"), 11..13), (None, 13..14), (Some("01234567"), 14..17)] {
        log.begin_form(&form(&second.schema, key), now).unwrap();
        // A hit that the log has stays known whatever the form.
        stage(&mut log, rows.start - 2..rows.end, now);
        log.commit(now).unwrap();
    }
    let batches = log.reader().batches().unwrap();
    let seen: Vec<_> = batches
        .iter()
        .map(|(_, batch)| (&batch.schema[..4], batch.pseudonym_key.as_deref(), batch.rows))
        .collect();
    let key = Some("01234567");
    assert_eq!(
        seen,
        [("0123", None, 7), ("fedc", None, 4), ("fedc", key, 2), ("fedc", None, 1), ("fedc", key, 3)]
    );
    assert_eq!(log.totals().duplicates, 6);
    let verified = log.reader().verify().unwrap();
    assert!(verified.iter().all(|checked| checked.faults.is_empty()), "{verified:?}");
}

#[test]
fn a_form_of_which_no_row_came_leaves_no_batch_behind() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    let form = Form { schema: "fedcba9876543210".to_owned(), ..Form::default() };
    log.begin_form(&form, now).unwrap();
    log.begin_form(&Form { schema: "0123456789abcdef".to_owned(), ..Form::default() }, now).unwrap();
    append(&mut log, 0..2, now);
    let schemas: Vec<_> =
        log.reader().batches().unwrap().into_iter().map(|(_, batch)| batch.schema).collect();
    assert_eq!(schemas, ["0123456789abcdef"]);
}

#[test]
fn a_log_keeps_the_columns_of_what_it_has_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    // More than fits one value of the database.
    let old: Vec<String> = (0..1_400).map(|n| format!("column_{n:0>60}")).collect();
    let new = vec!["a".to_owned(), "b".to_owned()];
    let first = Settings { columns: old.clone(), ..settings(dir.path()) };
    let second =
        Settings { schema: "fedcba9876543210".to_owned(), columns: new.clone(), ..settings(dir.path()) };
    let (mut log, _) = Log::open(first.clone(), now).unwrap();
    append(&mut log, 0..5, now);
    drop(log);
    let (mut log, resumed) = Log::open(second.clone(), now).unwrap();
    assert_eq!(resumed.sealed, [0]);
    let columns = |log: &Log, batch| {
        let reader = log.reader();
        reader.columns(&reader.batch(batch).unwrap().schema).unwrap()
    };
    append(&mut log, 5..9, now);
    assert_eq!((columns(&log, 0), columns(&log, 1)), (Some(old.clone()), Some(new.clone())));
    let meta = log.reader().verify().unwrap();
    assert!(meta.iter().all(|checked| checked.faults.is_empty()), "{meta:?}");
    log.uploaded(0, upload()).unwrap();
    log.published(0, now).unwrap();
    drop(log);
    // Nobody needs them any more, and the next start finds that.
    let (log, _) = Log::open(second, now).unwrap();
    assert_eq!((columns(&log, 0), columns(&log, 1)), (None, Some(new)));
    drop(log);
    // A version that did not keep them wrote this log, say: then they are known from now on.
    let (log, _) = Log::open(Settings { columns: Vec::new(), ..first.clone() }, now).unwrap();
    assert_eq!(columns(&log, 0), None);
    drop(log);
    let (log, _) = Log::open(first, now).unwrap();
    assert_eq!(columns(&log, 0), Some(old));
}

#[test]
fn a_batch_goes_somewhere_else_only_while_none_of_it_has_been_uploaded_and_else_is_finished_there() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    append(&mut log, 0..30, now);
    drop(log);
    let elsewhere = Settings { place: "s3://other/ToIngest/".to_owned(), ..settings(dir.path()) };
    let (mut log, _) = Log::open(elsewhere, now).unwrap();
    assert_eq!(log.reader().batch(0).unwrap().place, "s3://other/ToIngest/");
    log.uploaded(0, upload()).unwrap();
    drop(log);
    let home = settings(dir.path());
    let (log, _) = Log::open(home.clone(), now).unwrap();
    assert_eq!(log.reader().batch(0).unwrap().place, "s3://other/ToIngest/");
    let elsewhere = log.reader().bound_elsewhere(&home.place).unwrap();
    assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
}

#[test]
fn age_closes_a_file_and_seals_a_batch_however_small() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    append(&mut log, 0..3, now);
    log.commit(now + TimeDelta::seconds(10)).unwrap();
    assert_eq!(log.next_commit(), steady(now + TimeDelta::seconds(60)));
    let done = log.commit(now + TimeDelta::seconds(60)).unwrap();
    assert_eq!((done.closed, done.sealed), (vec![0], vec![]));
    let done = log.commit(now + TimeDelta::seconds(300)).unwrap();
    assert_eq!((done.closed, done.sealed), (vec![], vec![0]));
    assert_eq!(log.next_commit(), None);
}

/// Files of 25 rows or more that have the bytes of 40, batches of 50 rows or more that are ten seconds old.
fn growing(dir: &Path) -> Settings {
    let bytes = row(100).len() as u64;
    let (min_file_bytes, max_file_bytes) = (40 * bytes, 100 * bytes);
    Settings { min_file_bytes, max_file_bytes, min_batch_age: Duration::from_secs(10), ..settings(dir) }
}

#[test]
fn a_busy_stream_makes_larger_files_and_a_batch_waits_until_it_is_worth_a_load() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(growing(dir.path()), now).unwrap();
    assert_eq!(append(&mut log, 110..145, now), (vec![], vec![]), "more than 25 rows, and not 40");
    assert_eq!(append(&mut log, 145..162, now), (vec![0], vec![]), "of 40 rows");
    // More rows than two files of 25: it ends with the file that is open, as soon as it is old enough.
    assert_eq!(log.next_commit(), steady(now + TimeDelta::seconds(10)));
    let done = log.commit(now + TimeDelta::seconds(10)).unwrap();
    assert_eq!((done.closed, done.sealed), (vec![1], vec![0]));
    // Two whole files are a batch at any age.
    let later = now + TimeDelta::seconds(11);
    assert_eq!(append(&mut log, 162..242, later), (vec![2, 3], vec![1]));
    let rows = [0, 1, 2, 3].map(|file| log.reader().file(file).unwrap().rows);
    assert_eq!(rows, [40, 12, 40, 40]);
}

#[test]
fn while_batches_wait_for_s3_files_grow_as_large_as_they_may_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(growing(dir.path()), now).unwrap();
    assert_eq!(append(&mut log, 110..270, now), (vec![0, 1, 2, 3], vec![0, 1]));
    let later = now + TimeDelta::seconds(60);
    assert_eq!(append(&mut log, 270..420, now), (vec![4], vec![]), "of 100 rows");
    assert!(log.commit(now + TimeDelta::seconds(59)).unwrap().sealed.is_empty());
    drop(log);
    // Also of another process.
    let (mut log, resumed) = Log::open(growing(dir.path()), later - TimeDelta::seconds(1)).unwrap();
    assert_eq!(resumed.sealed, [0, 1]);
    assert_eq!(log.next_commit(), steady(later));
    for file in [0, 1] {
        log.uploaded(file, upload()).unwrap();
    }
    log.published(0, later).unwrap();
    // One that waits is no backlog: what is there is worth a load.
    let done = log.commit(later - TimeDelta::seconds(1)).unwrap();
    assert_eq!((done.closed, done.sealed), (vec![5], vec![2]));
    assert_eq!(log.reader().file(5).unwrap().rows, 50);
}

#[test]
fn no_file_has_more_rows_than_a_seal_may_say_however_short_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let large = 1 << 30;
    let age = Duration::from_secs(300);
    let sizes =
        Settings { min_file_bytes: large, max_file_bytes: large, min_batch_age: age, ..settings(dir.path()) };
    let (mut log, _) = Log::open(Settings { commit_rows: 10_000, ..sizes }, now).unwrap();
    let mut closed = Vec::new();
    for _ in 0..1_000_001 {
        log.stage_row(0, None, Some(now), b"~\n", now);
        if log.commit_is_due() {
            closed.extend(log.commit(now).unwrap().closed);
        }
    }
    assert_eq!(closed, [0]);
    assert_eq!(log.reader().file(0).unwrap().rows, 1_000_000);
}

#[test]
fn a_hole_between_two_sessions_is_a_gap_and_a_killed_session_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    assert!(!log.has_history());
    log.session_started(0, now).unwrap();
    append(&mut log, 0..3, now);
    drop(log);
    let later = now + TimeDelta::minutes(10);
    let (mut log, _) = Log::open(settings(dir.path()), later).unwrap();
    assert!(log.has_history());
    log.session_started(0, later).unwrap();
    append(&mut log, 3..6, later);
    assert!(log.reader().sessions(10).unwrap()[1].gap.is_none(), "it is not settled yet");
    assert_eq!(log.next_commit(), steady(later + TimeDelta::seconds(10)));
    log.commit(later + TimeDelta::seconds(10)).unwrap();
    let sessions = log.reader().sessions(10).unwrap();
    assert_eq!(sessions[0].ended, Some(now));
    assert!(sessions[0].gap.is_none() && sessions[1].ended.is_none());
    let why = Some(ENDED_WITHOUT_A_WORD.to_owned());
    assert_eq!(sessions[1].gap, Some(Gap { from: now, to: later, why: why.clone() }));
    let snapshot = log.reader().snapshot().unwrap();
    assert_eq!(snapshot.gaps.totals, GapTotals { gaps: 1, seconds: 600 });
    let [GapSnapshot { session: 1, connection: 0, seconds: 600, why: said, .. }] = &snapshot.gaps.list[..]
    else {
        panic!("{:?}", snapshot.gaps)
    };
    assert_eq!(said, &why);
}

#[test]
fn one_process_at_a_time_and_no_other_kind_or_instance() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (log, _) = Log::open(settings(dir.path()), now).unwrap();
    // Left behind by an earlier owner: it lives, and does not hold the log.
    std::fs::write(dir.path().join("owner.pid"), "1").unwrap();
    let again = Log::open(settings(dir.path()), now).err().unwrap();
    let Err(look) = LogReader::open_to_read(dir.path()) else { panic!("opened twice") };
    for error in [again, LogError::Store(look)] {
        let owner = std::process::id();
        assert!(
            matches!(&error, LogError::Store(StoreError::InUse { owner: Some(pid), .. }) if *pid == owner),
            "{error}"
        );
    }
    drop(log);
    let other =
        Settings { instance: Instance::try_from("other".to_owned()).unwrap(), ..settings(dir.path()) };
    let error = Log::open(other, now).err().unwrap().to_string();
    assert!(error.contains("belongs to instance test, not to other"), "{error}");
    let error = state::loads::LoadDatabase::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("belongs to the producer, not to the ingester"), "{error}");
    assert!(LogReader::open_to_read(dir.path()).is_ok());
}

/// A session of hits, a second apart from `from` on, with `stray` in the middle; returns the gaps on record.
fn gaps_after_a_hole(stray: impl Fn(&mut Log, DateTime<Utc>)) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let early = now - TimeDelta::hours(2);
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    let mut session =
        |from: DateTime<Utc>, numbers: std::ops::Range<u64>, stray: &dyn Fn(&mut Log, DateTime<Utc>)| {
            log.session_started(0, now).unwrap();
            let first = numbers.start;
            for n in numbers {
                let at = from + TimeDelta::seconds(i64::try_from(n - first).unwrap());
                log.stage_row(0, hit(n), Some(at), &row(n), now);
                if n == first + 50 {
                    stray(&mut log, now);
                }
            }
            log.session_ended(0, "the test", now).unwrap();
            log.reader().snapshot().unwrap().gaps.totals.gaps
        };
    assert_eq!(session(early, 0..300, &|_, _| ()), 0);
    session(early + TimeDelta::hours(1), 1_000..1_300, &stray)
}

#[test]
fn a_gap_is_not_hidden_by_a_stray_copy_or_a_time_of_nowhere_behind_it() {
    assert_eq!(gaps_after_a_hole(|_, _| ()), 1);
    let stray_copy = |log: &mut Log, now: DateTime<Utc>| {
        let at = now - TimeDelta::hours(2);
        assert_eq!(
            log.stage_row(0, hit(5), Some(at + TimeDelta::seconds(5)), &row(5), now),
            Staged::Duplicate
        );
    };
    assert_eq!(gaps_after_a_hole(stray_copy), 1);
    let nowhere = |log: &mut Log, now: DateTime<Utc>| {
        log.stage_row(0, hit(9_999), DateTime::from_timestamp(0, 0), &row(9_999), now);
    };
    assert_eq!(gaps_after_a_hole(nowhere), 1);
}

#[test]
fn hits_that_a_filter_drops_were_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let at = |seconds| Some(now - TimeDelta::hours(1) + TimeDelta::seconds(seconds));
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    log.session_started(0, now).unwrap();
    log.stage_row(0, hit(1), at(0), &row(1), now);
    for second in 1..1_200 {
        log.stage_filtered(0, at(second), now);
    }
    log.session_ended(0, "the test", now).unwrap();
    log.session_started(0, now).unwrap();
    log.stage_row(0, hit(2), at(1_200), &row(2), now);
    log.session_ended(0, "the test", now).unwrap();
    assert_eq!(log.reader().snapshot().unwrap().gaps.totals.gaps, 0);
}

#[test]
fn a_full_log_seals_what_is_filling() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(Settings { max_bytes: 50, ..settings(dir.path()) }, now).unwrap();
    assert_eq!(append(&mut log, 0..9, now), (vec![], vec![]));
    assert!(log.is_full(), "{} bytes", log.waiting_bytes());
    let done = log.commit(now).unwrap();
    assert_eq!(
        (done.closed, done.sealed),
        (vec![0], vec![0]),
        "only what is sealed goes to S3 and makes room"
    );
}

#[test]
fn a_hit_from_before_what_is_remembered_is_accepted_and_told_to_be_uncompared() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let few = Settings { dedup_window: std::time::Duration::from_secs(600), ..settings(dir.path()) };
    let (mut log, _) = Log::open(few, now).unwrap();
    let ago = |minutes| Some(now - TimeDelta::minutes(minutes));
    let stage = |log: &mut Log, n, received| log.stage_row(0, hit(n), received, &row(n), now);
    append(&mut log, 0..5, now - TimeDelta::minutes(30));
    // Nothing was forgotten yet: one that is older still was met never.
    stage(&mut log, 10, ago(40));
    append(&mut log, 20..25, now);
    append(&mut log, 25..26, now);
    log.seal_all(now).unwrap();
    assert_eq!(stage(&mut log, 3, ago(30)), Staged::New, "it was forgotten");
    assert_eq!(stage(&mut log, 3, ago(30)), Staged::Duplicate, "it is remembered again");
    stage(&mut log, 11, ago(31));
    stage(&mut log, 12, ago(29));
    stage(&mut log, 13, None);
    log.stage_row(0, None, ago(31), &row(14), now);
    // Further ahead than clocks differ, and remembered under the time that it has.
    stage(&mut log, 15, Some(now + TimeDelta::hours(2)));
    // No time that anybody believes: nobody knows whether it was met.
    stage(&mut log, 16, Some(now + TimeDelta::days(30)));
    stage(&mut log, 17, DateTime::from_timestamp(0, 0));
    log.seal_all(now).unwrap();
    let batches = log.reader().batches().unwrap();
    let uncompared: Vec<_> = batches.iter().map(|(_, batch)| batch.uncompared).collect();
    assert_eq!(uncompared, [Some(0), Some(0), Some(4)], "hits 3, 11, 16 and 17");
    let (_, last) = &batches[2];
    let compared = last.compared.clone().unwrap();
    assert_eq!((compared.number, compared.uncompared), (2, 4));
    assert_eq!(last.first_received, ago(31));
    assert_eq!(last.last_received, Some(now + TimeDelta::hours(2)), "the time it has");
}

#[test]
fn hits_that_came_while_the_clock_was_behind_are_not_taken_for_new_once_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (behind, right) = (start(), start() + TimeDelta::hours(3));
    let few = Settings { dedup_window: std::time::Duration::from_secs(600), ..settings(dir.path()) };
    let (mut log, _) = Log::open(few, behind).unwrap();
    for n in 0..5 {
        log.stage_row(0, hit(n), Some(right), &row(n), behind);
    }
    log.seal_all(behind).unwrap();
    // The clock is put right, and the stream goes on until they are forgotten.
    let later = right + TimeDelta::minutes(11);
    append(&mut log, 10..15, later);
    append(&mut log, 15..16, later);
    log.seal_all(later).unwrap();
    let staged: Vec<_> = (0..5).map(|n| log.stage_row(0, hit(n), Some(right), &row(n), later)).collect();
    log.seal_all(later).unwrap();
    let again = staged.iter().filter(|staged| **staged == Staged::New).count() as u64;
    let batches = log.reader().batches().unwrap();
    assert!(again > 0, "they were forgotten");
    assert_eq!(batches.last().unwrap().1.uncompared, Some(again), "and that is told");
}

#[test]
fn a_log_and_its_copy_go_on_as_different_runs_and_name_no_batch_alike() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    append(&mut log, 0..60, now);
    drop(log);
    for item in ["accepted", "sled/conf", "sled/db"] {
        std::fs::create_dir_all(copy.path().join("sled")).unwrap();
        std::fs::copy(dir.path().join(item), copy.path().join(item)).unwrap();
    }
    let mut sealed = Vec::new();
    for dir in [&dir, &copy, &dir] {
        let (mut log, resumed) = Log::open(settings(dir.path()), now).unwrap();
        assert_eq!(resumed.sealed, [0]);
        sealed.push(log.reader().batch(1).unwrap().id);
        log.stage_row(0, hit(100), Some(now), &row(100), now);
        log.commit(now).unwrap();
    }
    assert!(sealed[0] != sealed[1] && sealed[0] != sealed[2] && sealed[1] != sealed[2], "{sealed:?}");
    let compared = |dir: &tempfile::TempDir| {
        let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
        log.seal_all(now).unwrap();
        let batches = log.reader().batches().unwrap();
        [0, 1].map(|batch: usize| batches[batch].1.compared.clone().unwrap())
    };
    let (original, copied) = (compared(&dir), compared(&copy));
    assert_eq!(original[0], copied[0], "sealed before the copy was made");
    assert!(original[1].covers(original[0].run, 0, true) && copied[1].covers(original[0].run, 0, true));
    assert!(!original[1].covers(copied[1].run, 1, true) && !copied[1].covers(original[1].run, 1, true));
}

#[test]
fn rows_bear_the_id_their_batch_has_when_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    let marked = format!("1~{}~x\n", log.batch_placeholder());
    log.stage_row(0, hit(1), Some(now), marked.as_bytes(), now);
    log.commit(now).unwrap();
    drop(log);
    let (log, _) = Log::open(settings(dir.path()), now).unwrap();
    let mut rows = Vec::new();
    log.reader().rows(0, &mut rows).unwrap();
    let id = log.reader().batch(0).unwrap().id;
    assert_eq!(String::from_utf8(rows).unwrap(), format!("1~{id}~x\n"));
    assert_eq!(marked, format!("1~{}~x\n", log.batch_placeholder()), "the mark of a log stays");
}

#[test]
fn rejects_that_are_on_their_way_stay_the_same_whatever_comes() {
    let dir = tempfile::tempdir().unwrap();
    let now = start();
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    (0..3_u8).for_each(|n| log.stage_reject(0, &[n], "not_json", "not JSON", now));
    log.commit(now).unwrap();
    let chosen = Chosen { first: 0, last: 1 };
    log.rejects_chosen(chosen).unwrap();
    drop(log);
    let (mut log, _) = Log::open(settings(dir.path()), now).unwrap();
    (3..6_u8).for_each(|n| log.stage_reject(0, &[n], "not_json", "not JSON", now));
    log.commit(now).unwrap();
    let (rejects, noted) = log.reader().rejects(1_000, 1 << 20).unwrap();
    assert_eq!((rejects.len(), noted), (2, Some(chosen)));
    log.rejects_uploaded(chosen).unwrap();
    let (rejects, noted) = log.reader().rejects(1_000, 1 << 20).unwrap();
    assert_eq!((rejects.len(), rejects[0].0, noted), (4, 2, None));
}
