use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adobe::{Adobe, Options, Plan};
use shared::config::{Config, Secrets};
use shared::shutdown::Shutdown;
use state::log::KnownHits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use shared::clock::Clock;
use shared::report::Report;

use crate::append::{ConnectionEvent, Decoded};
use crate::commands::check::adobe;
use crate::counters::Counters;
use crate::source::token::Tokens;
use crate::source::{Connection, Shared, connect};

const PATIENCE: Duration = Duration::from_secs(20);
const HITS: u64 = 400;

fn stand_in(rate: Option<u64>) -> Adobe {
    let plan = Plan {
        hits: HITS,
        duplicates_per_mille: 0,
        excluded_per_mille: 0,
        malformed_per_mille: 0,
        ..Plan::default()
    };
    Adobe::start(Options { plan, rate, ..Options::default() }).unwrap()
}

fn config(adobe: &Adobe, dir: &Path) -> Config {
    let (token, stream, dir) = (adobe.token_url(), adobe.stream_url(), dir.display());
    let text = format!(
        "[instance]\nname = \"test\"\n[adobe]\nredirect_hosts = [\"localhost\"]\n\
         client_id = \"client-id\"\nclient_secret = \"client-secret\"\n\
         token_url = \"{token}\"\nstream_url = \"{stream}\"\n[log]\ndir = \"{dir}\"\n\
         [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\n\
         [redshift]\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\niam_role = \"default\"\n"
    );
    Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Producer).unwrap()
}

/// Checks as far as Adobe is concerned, and returns what is said.
async fn checked(config: &Config) -> String {
    shared::tls::install();
    let mut out = Vec::new();
    adobe(config, &Clock::system(), &mut Report::new(&mut out)).await.unwrap();
    String::from_utf8(out).unwrap()
}

async fn no_connection(adobe: &Adobe) {
    let clock = Clock::system();
    let begun = clock.steady();
    while adobe.connections() > 0 {
        assert!(begun.until(clock.steady()) < PATIENCE, "the connection stays open");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

/// A first start: how often each hit is read.
async fn read_all(config: &Config) -> HashMap<(u64, u64), u32> {
    let (out, mut read) = mpsc::channel(100);
    let transform = crate::configured::transform(config, &config.schema.load().unwrap()).unwrap();
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let shared =
        Shared::new(&config.adobe, None, counters, out, KnownHits::default(), Clock::system()).unwrap();
    let shutdown = Shutdown::new();
    let stopped = shutdown.clone();
    let reading =
        tokio::spawn(async move { Connection::new(0, shared, transform, false).run(&stopped).await });
    let mut times: HashMap<(u64, u64), u32> = HashMap::new();
    while (times.len() as u64) < HITS {
        let event = tokio::time::timeout(PATIENCE, read.recv()).await;
        let Ok(Some(ConnectionEvent::Block(_, block))) = event else {
            assert!(matches!(event, Ok(Some(_))), "{} of {HITS} hits were read", times.len());
            continue;
        };
        for record in block.records {
            if let Decoded::Row { hit: Some(hit), .. } = record {
                *times.entry((hit.high, hit.low)).or_default() += 1;
            }
        }
    }
    shutdown.stop();
    drop(read);
    reading.await.unwrap().unwrap();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_before_the_first_start_was_sent_is_read_by_the_start_and_once() {
    let (adobe, dir) = (stand_in(None), tempfile::tempdir().unwrap());
    let config = config(&adobe, dir.path());
    for _ in 0..2 {
        let said = checked(&config).await;
        assert!(said.contains("✓ Livestream") && said.contains("open at localhost"), "{said}");
        no_connection(&adobe).await;
    }
    // As if a check had been slow to close: what was sent to it, Adobe counts as read.
    let (http, clock) = (connect::client(&config.adobe).unwrap(), Clock::system());
    let tokens = Tokens::new(http.clone(), &config.adobe, None, clock.clone()).unwrap();
    let token = tokens.get().await.unwrap();
    let opened = connect::open(&http, &config.adobe, token.value(), None, &clock).await.unwrap();
    let begun = clock.steady();
    while adobe.sent() < HITS {
        assert!(begun.until(clock.steady()) < PATIENCE, "{} of {HITS} were sent", adobe.sent());
        clock.sleep(Duration::from_millis(5)).await;
    }
    drop(opened);
    no_connection(&adobe).await;
    let times = read_all(&config).await;
    assert!(times.len() as u64 == HITS && times.values().all(|times| *times == 1), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_no_hit_and_stays_no_longer_than_it_must() {
    // A hit in an hour, as it were.
    let (adobe, dir) = (stand_in(Some(1)), tempfile::tempdir().unwrap());
    let (clock, begun) = (Clock::system(), Clock::system().steady());
    let said = checked(&config(&adobe, dir.path())).await;
    assert!(said.contains("✓ Livestream"), "{said}");
    no_connection(&adobe).await;
    let took = begun.until(clock.steady());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_producer_of_its_log_a_check_opens_no_connection() {
    let (adobe, dir) = (stand_in(None), tempfile::tempdir().unwrap());
    let config = config(&adobe, dir.path());
    let socket = UnixListener::bind(config.producer_socket()).unwrap();
    let running = tokio::spawn(async move {
        let (mut asker, _) = socket.accept().await.unwrap();
        let mut question = [0; 1024];
        assert!(asker.read(&mut question).await.unwrap() > 0);
        asker.write_all(b"{\"pid\":77,\"snapshot\":{}}\n").await.unwrap();
    });
    let said = checked(&config).await;
    tokio::time::timeout(PATIENCE, running).await.expect("the producer is not asked").unwrap();
    assert!(said.contains("– Livestream: not opened: the producer, process 77,"), "{said}");
    assert_eq!((adobe.connections(), adobe.sent()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_producer_that_does_not_answer_a_check_opens_no_connection_either() {
    let (adobe, dir) = (stand_in(None), tempfile::tempdir().unwrap());
    let config = config(&adobe, dir.path());
    // It starts, or its socket has failed.
    let locked = std::fs::File::open(dir.path()).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let said = checked(&config).await;
    let place = format!("has {} open", dir.path().display());
    assert!(said.contains("– Livestream: not opened: ") && said.contains(&place), "{said}");
    assert_eq!((adobe.connections(), adobe.sent()), (0, 0));
}
