use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use shared::ids::Instance;
use shared::layout::Compression;
use state::log::{BatchStatus, LogReader, Settings};

use super::*;

/// Far longer than anything waits here, and far shorter than the clock is set back by.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("test".to_owned()).unwrap(),
        schema: "0123456789abcdef".to_owned(),
        columns: Vec::new(),
        compression: Compression::None,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 1_000,
        commit_interval: Duration::from_millis(100),
        records_per_file: 1_000,
        max_file_bytes: 1 << 20,
        max_file_age: Duration::from_millis(500),
        files_per_batch: 10,
        max_batch_age: Duration::from_secs(1),
        max_bytes: 1 << 30,
        cache: 8 << 20,
        dedup_window: Duration::from_secs(3_600),
        dedup_hits: 1_000,
        gap_tolerance: Duration::from_secs(60),
        connections: 1,
    }
}

fn one_row(low: u64) -> Block {
    let rows = format!("{low}~row\n").into_bytes();
    let hit = Some(HitId { high: 1, low });
    Block { records: vec![Decoded::Row { end: rows.len(), hit, received: None }], rows }
}

async fn until(what: &str, log: &LogReader, is: impl Fn(&LogReader) -> bool) -> Duration {
    let begun = Instant::now();
    while !is(log) {
        assert!(begun.elapsed() < PATIENCE, "{what} is held up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
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
    static SET_BACK: AtomicBool = AtomicBool::new(false);
    fn clock() -> Moment {
        let now = Moment::now();
        let hour = TimeDelta::hours(i64::from(SET_BACK.load(Ordering::Relaxed)));
        Moment { wall: now.wall - hour, ..now }
    }
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(settings(dir.path()), clock()).unwrap();
    let reader = log.reader();
    let shutdown = Shutdown::new();
    let mut appender = start_by(clock, log, shutdown.clone()).unwrap();

    appender.stream.send(FromStream::Started(0)).await.unwrap();
    appender.stream.send(FromStream::Block(0, one_row(1))).await.unwrap();
    until("a row", &reader, |log| rows(log) == 1).await;
    // One is staged before the clock is set back and one behind it, which makes the thread look at the time again.
    appender.stream.send(FromStream::Block(0, one_row(2))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    SET_BACK.store(true, Ordering::Relaxed);
    appender.stream.send(FromStream::Block(0, one_row(3))).await.unwrap();
    until("a row", &reader, |log| rows(log) == 3).await;
    let took = until("a batch", &reader, |log| sealed(log) == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(appender.to_ship.recv().await.is_some());

    // Behind it everything goes on, and is shown by the clock as it is now.
    appender.stream.send(FromStream::Block(0, one_row(4))).await.unwrap();
    until("a row", &reader, |log| rows(log) == 4).await;
    let (_, batch) = reader.batches().unwrap().pop().unwrap();
    assert!(batch.opened < Utc::now() - TimeDelta::minutes(59), "{}", batch.opened);
    until("a batch", &reader, |log| sealed(log) == 2).await;

    let Appender { stream, shipped, ended, .. } = appender;
    drop((stream, shipped));
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_that_was_begun_by_a_clock_that_was_ahead_is_closed_after_its_age_at_the_latest() {
    fn ahead() -> Moment {
        let now = Moment::now();
        Moment { wall: now.wall + TimeDelta::hours(1), ..now }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(settings(dir.path()), ahead()).unwrap();
    log.stage_row(0, Some(HitId { high: 1, low: 1 }), None, b"1~row\n", ahead());
    log.commit(ahead()).unwrap();
    drop(log);

    let (log, _) = Log::open(settings(dir.path()), Moment::now()).unwrap();
    let reader = log.reader();
    assert_eq!(sealed(&reader), 0);
    let appender = start(log, Shutdown::new()).unwrap();
    let took = until("a batch", &reader, |log| sealed(log) == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let Appender { stream, shipped, ended, .. } = appender;
    drop((stream, shipped));
    ended.await.unwrap().unwrap();
}
