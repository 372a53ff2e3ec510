use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::Clock;
use shared::ids::Instance;
use shared::layout::Compression;
use shared::shutdown::Shutdown;
use shared::systemd::Loop;
use state::log::{BatchStatus, Form, HitId, Log, LogReader, Settings};
use state::status::activity::{Activity, Component};

use crate::append::{Appender, Block, ConnectionEvent, Decoded, start};

/// For the disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// The clock that is set by hand moves on so much at a time.
const STEP: Duration = Duration::from_millis(10);

const SCHEMA: &str = "0123456789abcdef";

fn clock() -> Clock {
    Clock::by_hand("2026-03-02T12:00:00Z".parse::<DateTime<Utc>>().unwrap())
}

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("test".to_owned()).unwrap(),
        schema: SCHEMA.to_owned(),
        columns: Vec::new(),
        compression: Compression::None,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 1_000,
        commit_interval: Duration::from_millis(100),
        records_per_file: 1_000,
        min_file_bytes: 0,
        max_file_bytes: 1 << 20,
        max_file_age: Duration::from_millis(500),
        files_per_batch: 10,
        min_batch_age: Duration::ZERO,
        max_batch_age: Duration::from_secs(1),
        max_bytes: 1 << 30,
        cache: 8 << 20,
        dedup_window: Duration::from_secs(3_600),
        dedup_hits: 1_000,
        gap_tolerance: Duration::from_secs(60),
        connections: 1,
        pseudonym_key: None,
        pseudonym_spelling: None,
    }
}

fn one_row(low: u64) -> Block {
    let rows = format!("{low}~row\n").into_bytes();
    let hit = Some(HitId { high: 1, low });
    Block { records: vec![Decoded::Row { end: rows.len(), hit, received: None }], rows, ..of_form(SCHEMA) }
}

fn of_form(schema: &str) -> Block {
    let form = Form { schema: schema.to_owned(), ..Form::default() };
    Block { form: Arc::new(form), ..Block::default() }
}

/// Moves the clock on until it is so, and returns by how much.
async fn until(what: &str, clock: &Clock, log: &LogReader, is: impl Fn(&LogReader) -> bool) -> Duration {
    let (begun, machine) = (clock.steady(), Clock::system());
    let disk = tokio::time::timeout(PATIENCE, async {
        while !is(log) {
            clock.advance(STEP);
            machine.sleep(Duration::from_millis(1)).await;
        }
    });
    disk.await.unwrap_or_else(|_| panic!("{what} is held up"));
    begun.until(clock.steady())
}

fn rows(log: &LogReader) -> u64 {
    log.snapshot().unwrap().totals.rows
}

fn sealed(log: &LogReader) -> usize {
    let batches = log.batches().unwrap();
    batches.iter().filter(|(_, batch)| batch.status == BatchStatus::Sealed).count()
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_up_neither_the_rows_of_a_quiet_stream_nor_their_batch() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (log, _) = Log::open(settings(dir.path()), clock.now()).unwrap();
    let reader = log.reader();
    let begun = clock.wall();
    let reporter = Activity::new(clock.clone()).reporter(Component::Log);
    let mut appender = start(log, reporter, Loop::default(), clock.clone(), Shutdown::new()).unwrap();

    appender.stream.send(ConnectionEvent::Started(0)).await.unwrap();
    appender.stream.send(ConnectionEvent::Block(0, one_row(1))).await.unwrap();
    until("a row", &clock, &reader, |log| rows(log) == 1).await;
    // One is staged before the clock is set back and one behind it.
    appender.stream.send(ConnectionEvent::Block(0, one_row(2))).await.unwrap();
    while appender.stream.capacity() < appender.stream.max_capacity() {
        tokio::task::yield_now().await;
    }
    clock.set_wall(clock.wall() - TimeDelta::hours(1));
    appender.stream.send(ConnectionEvent::Block(0, one_row(3))).await.unwrap();
    until("a row", &clock, &reader, |log| rows(log) == 3).await;
    let took = until("a batch", &clock, &reader, |log| sealed(log) == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(appender.sealed_batches.recv().await.is_some());

    // Behind it everything goes on, and is shown by the clock as it is now.
    appender.stream.send(ConnectionEvent::Block(0, one_row(4))).await.unwrap();
    until("a row", &clock, &reader, |log| rows(log) == 4).await;
    let (_, batch) = reader.batches().unwrap().pop().unwrap();
    assert!(batch.opened < begun - TimeDelta::minutes(59), "{}", batch.opened);
    until("a batch", &clock, &reader, |log| sealed(log) == 2).await;

    let Appender { stream, upload_reports, ended, .. } = appender;
    drop((stream, upload_reports));
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_that_was_begun_by_a_clock_that_was_ahead_is_closed_after_its_age_at_the_latest() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let ahead = Clock::by_hand(clock.wall() + TimeDelta::hours(1)).now();
    let (mut log, _) = Log::open(settings(dir.path()), ahead).unwrap();
    log.stage_row(0, Some(HitId { high: 1, low: 1 }), None, b"1~row\n", ahead);
    log.commit(ahead).unwrap();
    drop(log);

    let (log, _) = Log::open(settings(dir.path()), clock.now()).unwrap();
    let reader = log.reader();
    assert_eq!(sealed(&reader), 0);
    let reporter = Activity::new(clock.clone()).reporter(Component::Log);
    let appender = start(log, reporter, Loop::default(), clock.clone(), Shutdown::new()).unwrap();
    let took = until("a batch", &clock, &reader, |log| sealed(log) == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let Appender { stream, upload_reports, ended, .. } = appender;
    drop((stream, upload_reports));
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn late_blocks_of_the_form_before_end_a_batch_once_more_and_every_row_is_with_its_own() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let (log, _) = Log::open(settings(dir.path()), clock.now()).unwrap();
    let (reader, known) = (log.reader(), log.known());
    let reporter = Activity::new(clock.clone()).reporter(Component::Log);
    let appender = start(log, reporter, Loop::default(), clock.clone(), Shutdown::new()).unwrap();
    let other = "fedcba9876543210";
    let forms = [SCHEMA, other].map(of_form);
    // The first connection takes the new form at once, the second has two blocks under way.
    for (connection, low, form) in
        [(0, 1, 0), (1, 2, 0), (0, 3, 1), (1, 4, 0), (0, 5, 1), (1, 4, 0), (1, 6, 1), (0, 7, 1)]
    {
        let block = Block { form: forms[form].form.clone(), ..one_row(low) };
        appender.stream.send(ConnectionEvent::Block(connection, block)).await.unwrap();
    }
    // Without a row it has no form.
    let filtered = vec![Decoded::Filtered { rule: 0, received: None }];
    appender
        .stream
        .send(ConnectionEvent::Block(1, Block { records: filtered, ..of_form(SCHEMA) }))
        .await
        .unwrap();
    until("all rows", &clock, &reader, |log| rows(log) == 7).await;
    until("their batches", &clock, &reader, |log| sealed(log) == 5).await;
    let batches = reader.batches().unwrap();
    let seen: Vec<_> = batches.iter().map(|(_, batch)| (batch.schema.as_str(), batch.rows)).collect();
    // The second copy of hit 4 is known, but ended a batch.
    assert_eq!(seen, [(SCHEMA, 2), (other, 1), (SCHEMA, 1), (other, 1), (other, 2)]);
    assert!((1..8).all(|low| known.contains(HitId { high: 1, low })));
    let Appender { stream, upload_reports, ended, .. } = appender;
    drop((stream, upload_reports));
    ended.await.unwrap().unwrap();
}
