//! No token and no secret appears in a log, at whatever level, and none reaches a host off the list. A process of its
//! own: it takes everything that any library says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "adobe/server.rs"]
mod server;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adobe::{Adobe, Door, Fault, ORGANIZATION, Options, PRIVATE_KEY, Plan, TECHNICAL_ACCOUNT};
use producer::{Connection, ConnectionEvent, Counters, Shared, Tokens, run_connections};
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::shutdown::Shutdown;
use state::log::KnownHits;
use tokio::sync::mpsc;
use tracing_subscriber::util::SubscriberInitExt;

use server::{Server, answer};

const SECRET: &str = "hunter2-hunter2";

/// Everything that was said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(auth: &str, token_url: &str, stream_url: &str) -> Config {
    let text = format!(
        "[instance]\nname = \"test\"\n\
         [adobe]\nauth = \"{auth}\"\ntoken_url = \"{token_url}\"\nstream_url = \"{stream_url}\"\n\
         client_id = \"client-id\"\nclient_secret = \"{SECRET}\"\nredirect_hosts = [\"localhost\"]\n\
         jwt_organization = \"{ORGANIZATION}\"\njwt_technical_account = \"{TECHNICAL_ACCOUNT}\"\n\
         jwt_key = '''\n{PRIVATE_KEY}'''\nmax_connections = 2\nconnections = 2\n\
         [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\n\
         [redshift]\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\niam_role = \"default\"\n"
    );
    Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Producer).unwrap()
}

/// A session, a 401, a redirect to a host off the list, a token that goes stale in mid-stream, a refusal that repeats
/// what it was sent; and IMS refusing in all its ways.
async fn everything_goes_wrong(adobe: &Adobe, config: &Config, stranger: &Server, dir: &Path) {
    let transform = producer::transform(config, &config.schema.load().unwrap()).unwrap();
    let cache = dir.join(format!("{:?}.json", config.adobe.auth));
    let (out, mut read) = mpsc::channel(10_000);
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let shutdown = Shutdown::new();
    let shared = || {
        let (counters, out, known) = (counters.clone(), out.clone(), KnownHits::default());
        Shared::new(&config.adobe, Some(cache.clone()), counters, out, known, Clock::system()).unwrap()
    };
    let reading = tokio::spawn({
        let (shared, transform, shutdown) = (shared(), transform.clone(), shutdown.clone());
        async move { run_connections(shared, transform, true, &shutdown).await }
    });
    while !matches!(read.recv().await, Some(ConnectionEvent::Block(..))) {}
    shutdown.stop();
    reading.await.unwrap().unwrap();

    let mut shared = shared();
    let mut connection = Connection::new(0, shared.clone(), transform.clone(), true);
    let shutdown = Shutdown::new();
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&cache).unwrap()).unwrap();
    let token = stored["access_token"].as_str().unwrap().to_owned();
    let echo = |door| Fault::Refuse {
        door,
        status: 400,
        body: Some(format!("<html>you sent: Bearer {token}</html>")),
    };
    for fault in [
        Fault::RedirectTo(format!("{}/steal", stranger.url)),
        echo(Door::Stream),
        Fault::Refuse { door: Door::Front, status: 503, body: None },
        Fault::NotAuthorized { after: 3 },
        Fault::ExpireToken,
    ] {
        adobe.faults().push(fault);
        connection.step(&shutdown).await.unwrap();
    }
    // The next token is asked for in vain, in each way IMS has to say so.
    for (status, body) in [
        (400, Some(format!("{{\"error\":\"invalid_client\",\"error_description\":\"secret {SECRET}\"}}"))),
        (401, Some(format!("<html>{SECRET}</html>"))),
        (500, Some(SECRET.to_owned())),
        (200, Some(format!("{{\"access_token\":\"{SECRET}\",\"expires_in\":\"{SECRET}\"}}"))),
    ] {
        adobe.faults().push(Fault::Refuse { door: Door::Ims, status, body });
        let tokens = Tokens::new(shared.http.clone(), &config.adobe, None, Clock::system()).unwrap();
        shared.tokens = tokens.clone();
        let mut connection = Connection::new(1, shared.clone(), transform.clone(), true);
        connection.step(&shutdown).await.unwrap();
        tracing::error!(?tokens, "what a careless line would say of them: {config:?}");
    }
    assert_eq!(adobe.faults().pending(), 0, "every fault happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_trace_level_nor_sent_to_a_host_off_the_list() {
    shared::tls::install();
    let said = Said::default();
    let writer = said.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish()
        .init();
    let dir = tempfile::tempdir().unwrap();
    let stranger = Server::start([answer(200, "", "")]).await;
    let adobe = Adobe::start(Options {
        plan: Plan { hits: 100, ..Plan::default() },
        client_secret: SECRET.to_owned(),
        ..Options::default()
    })
    .unwrap();
    for (auth, token_url) in [("oauth", adobe.token_url()), ("jwt", adobe.jwt_url())] {
        let config = config(auth, &token_url, &adobe.stream_url());
        let everything = everything_goes_wrong(&adobe, &config, &stranger, dir.path());
        tokio::time::timeout(Duration::from_secs(60), everything).await.expect("it hangs");
    }
    assert_eq!(stranger.asked(), [""; 0], "a host off the list was asked");

    let text = said.text();
    for expected in
        ["reqwest", "hyper", "TRACE", "refused to follow a redirect", "invalid_client", "not authorized"]
    {
        assert!(text.contains(expected), "the log does not hold {expected}: nothing is proved by it\n{text}");
    }
    let key = PRIVATE_KEY.lines().find(|line| line.len() == 64).unwrap();
    // Tokens and signed claims begin alike: with `{"` in base64.
    for secret in [SECRET, "eyJ", key] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret} was logged:\n{}", lines.join("\n"));
    }
}
