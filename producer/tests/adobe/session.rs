//! One connection, step by step: what each answer of Livestream leads to, and when the next try is.

use std::sync::Arc;
use std::time::Duration;

use adobe::{Adobe, Door, Fault, Options, Plan};
use flate2::Compression;
use flate2::write::GzEncoder;
use producer::{Connection, ConnectionEvent, Counters, Next, Shared};
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use state::log::KnownHits;
use tokio::sync::mpsc;

use crate::server::{Answer, Server, answer};
use crate::{CREDENTIAL, at, by_hand, config, transform};

fn adobe() -> Adobe {
    Adobe::start(Options { plan: Plan { hits: 20, ..Plan::default() }, ..Options::default() }).unwrap()
}

/// A connection, what it reads, and the means to stop it.
struct Reader {
    connection: Connection,
    read: mpsc::Receiver<ConnectionEvent>,
    shutdown: Shutdown,
    clock: Clock,
}

impl Reader {
    fn new(config: &Config, again: bool) -> Self {
        let (out, read) = mpsc::channel(1_000);
        shared::tls::install();
        let (transform, clock) = (transform(config), by_hand());
        let counters = Arc::new(Counters::new(transform.filter_names()));
        let known = KnownHits::default();
        let shared = Shared::new(&config.adobe, None, counters, out, known, clock.clone()).unwrap();
        let connection = Connection::new(0, shared, transform, again);
        Self { connection, read, shutdown: Shutdown::new(), clock }
    }

    async fn step(&mut self) -> Result<Next, Failure> {
        let step = tokio::time::timeout(Duration::from_secs(20), self.connection.step(&self.shutdown)).await;
        step.expect("it goes on reading")
    }

    /// A step that begins a session, of which only the beginning is waited for.
    async fn connects(&mut self) {
        let shutdown = self.shutdown.clone();
        let reading = self.connection.step(&shutdown);
        tokio::select! {
            ended = reading => panic!("{ended:?}"),
            first = self.read.recv() => assert!(matches!(first, Some(ConnectionEvent::Started(0)))),
        }
    }

    /// A session that brings one record and then nothing: it ends when the idle time has passed, and not before.
    async fn stalls(&mut self) -> Next {
        let (shutdown, clock) = (self.shutdown.clone(), self.clock.clone());
        let mut reading = std::pin::pin!(self.connection.step(&shutdown));
        let begins = async {
            assert!(matches!(self.read.recv().await, Some(ConnectionEvent::Started(0))));
            let Some(ConnectionEvent::Block(0, block)) = self.read.recv().await else { panic!("no block") };
            assert_eq!(block.records.len(), 1);
        };
        tokio::select! {
            ended = &mut reading => panic!("{ended:?}"),
            () = begins => {}
        }
        clock.advance(Duration::from_millis(399));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut reading).await;
        assert!(early.is_err(), "{early:?}");
        clock.advance(Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it goes on reading").unwrap()
    }

    /// Why the last session ended.
    fn why(&mut self) -> String {
        let mut why = None;
        while let Ok(event) = self.read.try_recv() {
            if let ConnectionEvent::Ended(_, said) = event {
                why = Some(said);
            }
        }
        why.expect("no session ended")
    }
}

fn refusing(adobe: &Adobe, status: u16, said: &str) {
    let body = Some(format!("{{\"error\":\"x\",\"error_description\":\"{said}\"}}"));
    adobe.faults().push(Fault::Refuse { door: Door::Stream, status, body });
}

fn is_backoff(next: Next) -> bool {
    matches!(next, Next::After(wait) if wait <= Duration::from_secs(1))
}

/// A status that only a person can mend ends a producer that has never read, and is tried every minute by one that has.
async fn stops(status: u16, advice: &str) {
    let adobe = adobe();
    let config = at(&adobe, "");
    refusing(&adobe, status, "because");
    let failure = Reader::new(&config, false).step().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Unavailable);
    let said = failure.to_string();
    assert!(said.contains(&format!("answered {status} because")) && said.contains(advice), "{said}");
    refusing(&adobe, status, "because");
    let next = Reader::new(&config, true).step().await.unwrap();
    assert_eq!(next, Next::After(Duration::from_secs(60)));
}

macro_rules! stopping {
    ($($name:ident: $status:literal => $advice:literal;)*) => {
        $(#[tokio::test]
        async fn $name() {
            stops($status, $advice).await;
        })*
    };
}

stopping! {
    a_400_asks_for_other_parameters: 400 => "adobe.smoothing_bucket_size";
    a_403_asks_for_customer_care: 403 => "Customer Care";
    a_404_asks_for_another_address: 404 => "adobe.stream_url";
    a_405_suspects_what_is_between: 405 => "GET";
    a_406_suspects_what_takes_gzip_away: 406 => "Accept-Encoding";
    a_424_asks_to_enable_the_stream: 424 => "/api/2/enable/";
    a_505_suspects_what_changes_the_version: 505 => "HTTP/1.1";
}

#[tokio::test]
async fn a_401_renews_the_token_once_and_tries_again_at_once() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    adobe.faults().push(Fault::ExpireToken);
    assert_eq!(connection.step().await.unwrap(), Next::AtOnce);
    connection.connects().await;
    assert_eq!(adobe.token_requests(), 2);
}

#[tokio::test]
async fn a_second_401_with_a_new_token_waits_and_asks_for_no_third() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    for _ in 0..2 {
        refusing(&adobe, 401, "not you");
        assert_eq!(connection.step().await.unwrap(), Next::AtOnce);
    }
    let next = connection.step().await.unwrap();
    assert!(is_backoff(next) && next != Next::AtOnce, "{next:?}");
    assert_eq!(adobe.token_requests(), 2);
    let Next::After(wait) = next else { panic!("{next:?}") };
    connection.clock.advance(wait);
    connection.connects().await;
    assert_eq!(adobe.token_requests(), 3);
}

#[tokio::test]
async fn a_409_over_places_waits_a_minute_and_one_over_the_number_needs_a_person() {
    let adobe = adobe();
    let config = at(&adobe, "");
    let mut connection = Reader::new(&config, false);
    refusing(&adobe, 409, "maximum connections of 1 reached");
    assert_eq!(connection.step().await.unwrap(), Next::After(Duration::from_secs(60)));
    refusing(&adobe, 409, "maxConnections is 2 for this stream");
    let said = connection.step().await.unwrap_err().to_string();
    assert!(said.contains("adobe.max_connections alike"), "{said}");
}

#[tokio::test]
async fn a_503_waits_and_a_stream_that_moves_is_told_where_to_read_from() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    refusing(&adobe, 503, "in migration");
    assert_eq!(connection.step().await.unwrap(), Next::After(Duration::from_secs(60)));

    let server = Server::start([answer(503, "Retry-After: 7\r\n", "")]).await;
    let url = format!("stream_url = \"{}\"\ntoken_url = \"{}\"\n", server.url, adobe.token_url());
    let largest = "reset = \"largest\"\n";
    let mut connection = Reader::new(&config(&format!("{CREDENTIAL}{url}{largest}")), false);
    for _ in 0..2 {
        assert_eq!(connection.step().await.unwrap(), Next::After(Duration::from_secs(7)));
    }
    let asked = server.asked();
    assert!(!asked[0].contains("reset=") && asked[1].contains("&reset=largest "), "{asked:?}");
}

#[tokio::test]
async fn server_errors_and_an_unreachable_host_back_off_longer_and_longer() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    let mut waits = Vec::new();
    for status in [500, 502, 504, 500, 500, 500, 500, 500, 500, 500, 500, 500] {
        refusing(&adobe, status, "oops");
        let Next::After(wait) = connection.step().await.unwrap() else { panic!("{status}") };
        waits.push(wait.as_secs_f64());
    }
    for (n, wait) in waits.iter().enumerate() {
        // Whether an Adobe that is away is back is tried every 20 seconds at the latest.
        let whole = (0.25 * 2f64.powi(n.try_into().unwrap())).min(20.0);
        assert!((whole / 2.0..=whole).contains(wait), "{waits:?}");
    }
    assert!(
        waits.iter().filter(|wait| **wait == 20.0).count() < 2,
        "the longest are drawn as well: {waits:?}"
    );
    assert_eq!(adobe.token_requests(), 1);

    adobe.stop();
    let gone = at(&adobe, "");
    let mut connection = Reader::new(&gone, false);
    Clock::system().sleep(Duration::from_millis(100)).await;
    assert!(is_backoff(connection.step().await.unwrap()));
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed_and_needs_a_person() {
    let stranger = Server::start([answer(200, "", "")]).await;
    let adobe = adobe();
    let mut config = at(&adobe, "");
    config.adobe.redirect_hosts = vec!["localhost".to_owned()];
    adobe.faults().push(Fault::RedirectTo(format!("{}/steal", stranger.url)));
    let said = Reader::new(&config, false).step().await.unwrap_err().to_string();
    assert!(said.contains("http://127.0.0.1") && said.contains("adobe.redirect_hosts"), "{said}");
    assert_eq!(stranger.asked(), [""; 0]);
}

/// Gzip that never ends: a line, then whatever the server does.
fn gzip_line() -> Vec<u8> {
    use std::io::Write;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"{\"hitIdHigh\":\"1\",\"hitIdLow\":\"2\"}\r\n").unwrap();
    gzip.flush().unwrap();
    gzip.get_ref().clone()
}

#[tokio::test]
async fn a_stall_is_a_disconnect_after_the_idle_time() {
    let body = gzip_line();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n", body.len()).into_bytes();
    let server = Server::start([Answer::SayAndHold([&head[..], &chunk, &body, b"\r\n"].concat())]).await;
    let adobe = adobe();
    let url = format!("stream_url = \"{}\"\ntoken_url = \"{}\"\n", server.url, adobe.token_url());
    let mut connection = Reader::new(&config(&format!("{CREDENTIAL}idle_timeout = \"400ms\"\n{url}")), false);
    assert_eq!(connection.stalls().await, Next::AtOnce, "the first short session");
    assert_eq!(connection.why(), "no byte for 400ms");

    let next = connection.stalls().await;
    assert!(is_backoff(next) && next != Next::AtOnce, "the second one waits: {next:?}");
    assert!(server.asked()[1].contains("reset=smallest"), "what Adobe still holds is asked for again");
}

#[tokio::test]
async fn a_session_ends_by_a_cut_an_end_and_a_token_that_is_no_longer_authorized() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    adobe.faults().push(Fault::Cut { after: 5 });
    assert_eq!(connection.step().await.unwrap(), Next::AtOnce);
    assert!(!connection.why().contains("Adobe ended it"));
    adobe.faults().push(Fault::End { after: 5 });
    assert!(is_backoff(connection.step().await.unwrap()));
    assert_eq!(connection.why(), "Adobe ended it");
    adobe.faults().push(Fault::NotAuthorized { after: 0 });
    assert!(is_backoff(connection.step().await.unwrap()));
    assert!(connection.why().contains("not authorized"));
    assert_eq!(adobe.token_requests(), 1);
    connection.connects().await;
    assert_eq!(adobe.token_requests(), 2, "with a new token");
}

#[tokio::test]
async fn a_stop_ends_a_session_in_order() {
    let adobe = adobe();
    let mut connection = Reader::new(&at(&adobe, ""), false);
    let shutdown = connection.shutdown.clone();
    let stopping = async {
        while !matches!(connection.read.recv().await, Some(ConnectionEvent::Block(..))) {}
        shutdown.stop();
    };
    let (next, ()) = tokio::join!(connection.connection.step(&shutdown), stopping);
    next.unwrap();
    // Whether a record was on its way just then is chance.
    let why = connection.why();
    assert!(
        why == "the producer was stopped" || why.starts_with("the producer was stopped, within a record,"),
        "{why}"
    );
}
