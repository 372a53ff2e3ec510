//! Opening the stream: what is sent, where redirects lead, what refusals say, and how long anything may take.

use std::time::Duration;

use producer::{ConnectError, open};
use shared::clock::Clock;
use shared::config::{Config, Reset};
use shared::secret::Secret;

use crate::server::{Answer, Server, answer, redirect};
use crate::{CREDENTIAL, config, http};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.token";

fn stream_at(url: &str, more: &str) -> Config {
    config(&format!("{CREDENTIAL}connect_timeout = \"300ms\"\nstream_url = \"{url}\"\n{more}"))
}

async fn opened(config: &Config, reset: Option<Reset>) -> Result<reqwest::Response, ConnectError> {
    open(&http(config), &config.adobe, &Secret::new(TOKEN), reset, &Clock::system()).await
}

/// The request line and the headers Livestream looks at.
fn essentials(request: &str) -> Vec<String> {
    let wanted = ["authorization:", "x-api-key:", "accept-encoding:"];
    let mut lines = request.lines();
    let first = lines.next().unwrap().to_owned();
    let rest = lines.map(str::to_lowercase).filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let mut rest: Vec<_> = rest.collect();
    rest.sort();
    [vec![first], rest].concat()
}

fn expected(path: &str) -> Vec<String> {
    let token = format!("authorization: bearer {}", TOKEN.to_lowercase());
    vec![
        format!("GET {path} HTTP/1.1"),
        "accept-encoding: gzip".to_owned(),
        token,
        "x-api-key: client-id".to_owned(),
    ]
}

#[tokio::test]
async fn the_query_is_as_configured() {
    let server = Server::start([answer(200, "", "")]).await;
    let plain = stream_at(&format!("{}/s", server.url), "");
    opened(&plain, None).await.unwrap();
    let smooth = "max_connections = 3\nsmoothing = true\nsmoothing_bucket_size = 600";
    let smooth = stream_at(&format!("{}/s", server.url), smooth);
    opened(&smooth, Some(Reset::Largest)).await.unwrap();
    let unused = stream_at(&format!("{}/s", server.url), "smoothing_bucket_size = 600");
    opened(&unused, Some(Reset::None)).await.unwrap();
    let asked: Vec<_> = server.asked().iter().map(|request| essentials(request)).collect();
    assert_eq!(asked[0], expected("/s?maxConnections=1"));
    let path = "/s?maxConnections=3&smoothing=1&smoothingBucketSize=600&reset=largest";
    assert_eq!(asked[1], expected(path));
    assert_eq!(asked[2], expected("/s?maxConnections=1"));
}

#[tokio::test]
async fn redirects_are_followed_five_times_with_headers_and_query_and_not_once_more() {
    let last = Server::start([answer(200, "", "")]).await;
    let mut url = format!("{}/end?from=there", last.url.replace("127.0.0.1", "localhost"));
    let mut hops = Vec::new();
    for _ in 0..5 {
        let hop = Server::start([redirect(&url)]).await;
        url = format!("{}/hop", hop.url);
        hops.push(hop);
    }
    opened(&stream_at(&url, "max_connections = 2"), Some(Reset::Smallest)).await.unwrap();
    for hop in &hops {
        assert_eq!(essentials(&hop.asked()[0]), expected("/hop?maxConnections=2&reset=smallest"));
    }
    assert_eq!(essentials(&last.asked()[0]), expected("/end?from=there&maxConnections=2&reset=smallest"));

    let sixth = Server::start([redirect(&url)]).await;
    let error = opened(&stream_at(&sixth.url, ""), None).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 5 redirects");
    assert_eq!(last.asked().len(), 1);
}

#[tokio::test]
async fn a_host_off_the_list_never_sees_a_request() {
    let stranger = Server::start([answer(200, "", "")]).await;
    let server = Server::start([redirect(&stranger.url)]).await;
    let mut config = stream_at(&server.url.replace("127.0.0.1", "localhost"), "");
    config.adobe.redirect_hosts = vec!["localhost".to_owned()];
    let error = opened(&config, None).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Forbidden(_)), "{error}");
    assert!(error.to_string().contains("refused to follow a redirect"), "{error}");
    assert_eq!(server.asked().len(), 1);
    assert_eq!(stranger.asked(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_is_shown_by_its_description_and_never_with_the_token() {
    let refused = |status, headers: &'static str, body: String| async move {
        let server = Server::start([answer(status, headers, &body)]).await;
        match opened(&stream_at(&server.url, ""), None).await.unwrap_err() {
            ConnectError::Refused { status, message, retry_after, .. } => (status, message, retry_after),
            other => panic!("{other}"),
        }
    };
    let body =
        "{\"error\":\"conflict\",\"error_description\":\"maximum connections\\r\\nreached\"}".to_owned();
    assert_eq!(refused(409, "", body).await, (409, "maximum connections reached".to_owned(), None));
    let (_, said, after) = refused(503, "Retry-After: 5\r\n", "<html>\n<h1>Moved</h1>".to_owned()).await;
    assert_eq!((said.as_str(), after), ("<html> <h1>Moved</h1>", Some(Duration::from_secs(5))));
    let (_, said, _) = refused(400, "", format!("your header: Bearer {TOKEN}")).await;
    assert_eq!(said, "your header: Bearer ***");
    let (_, said, _) = refused(500, "", "x".repeat(100_000)).await;
    assert_eq!(said.chars().count(), 301);
}

#[tokio::test]
async fn silence_before_the_connection_and_before_the_head_is_not_waited_for() {
    // A host of TEST-NET-1 is silent, or this machine has no way there: refused at once, or after the time.
    let mut config = stream_at("https://192.0.2.1/s", "");
    let started = Clock::system().steady();
    assert!(matches!(opened(&config, None).await, Err(ConnectError::Network { .. })));
    assert!(started.until(Clock::system().steady()) < Duration::from_secs(5));

    let server = Server::start([Answer::SayAndHold(b"HTTP/1.1 200 OK\r\nContent-".to_vec())]).await;
    config.adobe.stream_url.clone_from(&server.url);
    let started = Clock::system().steady();
    let error = opened(&config, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach {}: no answer within 300ms",
            server.url.trim_start_matches("http://").split('/').next().unwrap()
        )
    );
    assert!((290..5_000).contains(&started.until(Clock::system().steady()).as_millis()));

    let late = answer(200, "", "");
    let Answer::Say(late) = late else { unreachable!() };
    let server = Server::start([Answer::Late(Duration::from_millis(100), late)]).await;
    opened(&stream_at(&server.url, ""), None).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_probed_while_nothing_comes() {
    let server = Server::start([Answer::SayAndHold(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
    )])
    .await;
    let response = opened(&stream_at(&server.url, ""), None).await.unwrap();
    let port: u16 = server.url.rsplit(':').next().unwrap().parse().unwrap();
    // Of the client's end, whose remote port it is: timer 02 is keep-alive, then the time left in 1/100 s.
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!("0100007F:{port:04X}");
    let ours = table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote));
    let timers: Vec<_> = ours.map(|line| line.split_whitespace().nth(5).unwrap().to_owned()).collect();
    let [timer] = &timers[..] else { panic!("{timers:?}") };
    let left = timer.strip_prefix("02:").map(|left| u32::from_str_radix(left, 16).unwrap());
    assert!(left.is_some_and(|left| (2_000..=3_000).contains(&left)), "{timer}");
    drop(response);
}
