use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use shared::systemd::Loop;
use state::log::{BatchStatus, HitId, KeptRecord, Log, LogReader, Settings};
use state::status::activity::{Activity, Component};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::append::{self, Block, ConnectionEvent, Decoded};
use crate::upload::Uploader;

const PATIENCE: Duration = Duration::from_secs(60);
/// `s3.uploads` here, and batches that wait.
const AT_ONCE: usize = 3;
const BATCHES: usize = 24;

/// What S3 was sent.
#[derive(Default)]
struct Sent {
    files: AtomicUsize,
    rejects: AtomicUsize,
    /// Manifests that are being written, and the most at one time.
    manifests: AtomicUsize,
    most: AtomicUsize,
}

/// A bucket that takes everything. The manifest of no batch is answered before the files of all batches are there.
async fn bucket(sent: Arc<Sent>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, sent.clone()));
        }
    });
    endpoint
}

async fn serve(socket: TcpStream, sent: Arc<Sent>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if socket.read_line(&mut head).await? == 0 {
                return Ok(());
            }
            let line = head[from..].to_ascii_lowercase();
            if let Some(said) = line.strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let path = head.split_whitespace().nth(1).unwrap();
        if path.contains("manifest.json") {
            let now = sent.manifests.fetch_add(1, Ordering::SeqCst) + 1;
            sent.most.fetch_max(now, Ordering::SeqCst);
            while sent.files.load(Ordering::SeqCst) < BATCHES {
                Clock::system().sleep(Duration::from_millis(5)).await;
            }
            Clock::system().sleep(Duration::from_millis(50)).await;
            sent.manifests.fetch_sub(1, Ordering::SeqCst);
        } else if path.contains(".csv") {
            sent.files.fetch_add(1, Ordering::SeqCst);
        } else if path.contains("Rejected") {
            sent.rejects.fetch_add(1, Ordering::SeqCst);
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n").await?;
    }
}

fn config(endpoint: &str, dir: &Path) -> Config {
    let dir = dir.display();
    let text = format!(
        "[instance]\nname = \"test\"\n[adobe]\nclient_id = \"c\"\nclient_secret = \"s\"\n\
         stream_url = \"https://livestream.adobe.net/api/1/stream/x\"\n[log]\ndir = \"{dir}\"\n\
         [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\nendpoint = \"{endpoint}\"\npath_style = true\n\
         access_key_id = \"k\"\nsecret_access_key = \"s\"\nuploads = {AT_ONCE}\n\
         [redshift]\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\niam_role = \"default\"\n"
    );
    Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Producer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_batches_wait_after_an_outage_no_more_than_s3_uploads_are_published_at_once() {
    let (dir, sent) = (tempfile::tempdir().unwrap(), Arc::new(Sent::default()));
    let config = config(&bucket(sent.clone()).await, dir.path());
    let settings = Settings::of(&config, &config.schema.load().unwrap());
    let clock = Clock::system();
    let (mut log, _) = Log::open(settings.clone(), clock.now()).unwrap();
    for low in 0..BATCHES as u64 {
        log.stage_row(0, Some(HitId { high: 1, low }), None, b"1~row\n", clock.now());
        log.seal_all(clock.now()).unwrap();
    }
    drop(log);

    let (log, left) = Log::open(settings, clock.now()).unwrap();
    assert_eq!(left.sealed.len(), BATCHES);
    let (reader, shutdown) = (log.reader(), Shutdown::new());
    let appender = append::start(
        log,
        Activity::new(clock.clone()).reporter(Component::Log),
        Loop::default(),
        clock.clone(),
        shutdown.clone(),
    )
    .unwrap();
    let (feed, _) = broadcast::channel(1);
    let store = ObjectStore::connect(&config.s3).await;
    let uploader =
        Uploader::new(&config, store, reader.clone(), appender.upload_reports, feed, clock.clone());
    let uploading = tokio::spawn(uploader.run(left, appender.sealed_batches, shutdown.clone()));
    let begun = clock.steady();
    let published = |log: &LogReader| {
        let batches = log.batches().unwrap();
        batches.iter().filter(|(_, batch)| batch.status == BatchStatus::Published).count()
    };
    while published(&reader) < BATCHES {
        assert!(begun.until(clock.steady()) < PATIENCE, "{} of {BATCHES} are published", published(&reader));
        clock.sleep(Duration::from_millis(20)).await;
    }
    shutdown.stop();
    uploading.await.unwrap().unwrap();
    assert_eq!(sent.most.load(Ordering::SeqCst), AT_ONCE, "manifests written at one time");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rejects_wait_for_their_time_and_a_full_object_of_them_does_not() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (dir, sent) = (tempfile::tempdir().unwrap(), Arc::new(Sent::default()));
    let config = config(&bucket(sent.clone()).await, dir.path());
    let (clock, shutdown) = (Clock::by_hand(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)), Shutdown::new());
    let settings = Settings::of(&config, &config.schema.load().unwrap());
    let (log, left) = Log::open(settings, clock.now()).unwrap();
    let reader = log.reader();
    let appender = append::start(
        log,
        Activity::new(clock.clone()).reporter(Component::Log),
        Loop::default(),
        clock.clone(),
        shutdown.clone(),
    )
    .unwrap();
    let (feed, _) = broadcast::channel(1);
    let store = ObjectStore::connect(&config.s3).await;
    let uploader =
        Uploader::new(&config, store, reader.clone(), appender.upload_reports, feed, clock.clone())
            .with_rejects_every(HOUR);
    let uploading = tokio::spawn(uploader.run(left, appender.sealed_batches, shutdown.clone()));
    let until = async |step: Duration, is: &dyn Fn() -> bool| {
        let begun = clock.steady();
        let patience = tokio::time::timeout(PATIENCE, async {
            while !is() {
                clock.advance(step);
                Clock::system().sleep(Duration::from_millis(5)).await;
            }
        });
        patience.await.unwrap();
        begun.until(clock.steady())
    };
    let waiting = || reader.snapshot().unwrap().rejects_waiting;
    let rejects = || sent.rejects.load(Ordering::SeqCst);
    let reject = |_| Decoded::Rejected {
        record: KeptRecord::Full(b"no record".to_vec()),
        code: "not_json",
        reason: "a reason".to_owned(),
    };
    let block = |records| Block { records: (0..records).map(reject).collect(), ..Block::default() };

    // The first is there when the uploader has looked for what an earlier process left.
    Clock::system().sleep(Duration::from_millis(200)).await;
    appender.stream.send(ConnectionEvent::Started(0)).await.unwrap();
    appender.stream.send(ConnectionEvent::Block(0, block(3))).await.unwrap();
    let committed = until(Duration::from_millis(10), &|| waiting() == 3).await;
    assert!(committed < HOUR / 2 && rejects() == 0, "{committed:?}");
    let uploaded = until(Duration::from_secs(10), &|| rejects() == 1).await;
    assert!(uploaded + committed > HOUR - Duration::from_secs(10), "{uploaded:?}");
    until(Duration::from_millis(10), &|| waiting() == 0).await;

    appender.stream.send(ConnectionEvent::Block(0, block(1_000))).await.unwrap();
    let uploaded = until(Duration::from_millis(100), &|| rejects() == 2).await;
    assert!(uploaded < HOUR / 2, "{uploaded:?}");
    shutdown.stop();
    uploading.await.unwrap().unwrap();
}
