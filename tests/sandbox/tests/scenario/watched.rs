//! A world whose services are watched as an operator watches them: they serve page and metrics, tell two targets, and call
//! a heartbeat each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adobe::Options;
use sandbox::config::Shape;
use sandbox::service::Service;
use sandbox::webhook::{Taken, Webhook};
use serde_json::Value;

use crate::world::{World, options};

/// An alert is told within this time of its cause, and of its end.
pub(crate) const IN_TIME: Duration = Duration::from_secs(60);
/// A service that has not answered by then does not answer.
const ANSWER: Duration = Duration::from_secs(10);

pub(crate) struct Watched {
    pub(crate) world: World,
    pub(crate) webhook: Webhook,
    /// Where the producer and the ingester serve page and metrics.
    pub(crate) listen: [SocketAddr; 2],
}

impl Watched {
    pub(crate) async fn new(hits: u64, rate: Option<u64>) -> Self {
        let shape = Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() };
        Self::with(Options { rate, ..options(hits) }, &shape).await
    }

    pub(crate) async fn with(adobe: Options, shape: &Shape) -> Self {
        let webhook = Webhook::start().await.unwrap();
        let listen = [free_port(), free_port()];
        let (json, slack) = (webhook.url("/json"), webhook.url("/slack"));
        let beats = ["producer", "ingester"].map(|service| webhook.url(&format!("/beat/{service}")));
        let configure = |text: &str| {
            let text = listening(text, listen);
            format!(
                "{text}\n[alerts]\nheartbeat_interval = \"1s\"\nproducer_heartbeat = \"{}\"\n\
                 ingester_heartbeat = \"{}\"\n\n[[alert_target]]\nname = \"json\"\nkind = \"json\"\n\
                 url = \"{json}\"\n\n[[alert_target]]\nname = \"chat\"\nkind = \"slack\"\nurl = \"{slack}\"\n\
                 severity = \"critical\"\n",
                beats[0], beats[1]
            )
        };
        Self { world: World::altered(adobe, shape, configure, None).await, webhook, listen }
    }

    /// What the first target took of one alert.
    pub(crate) fn told(&self, name: &str) -> Vec<Taken> {
        self.webhook.taken("/json").into_iter().filter(|taken| taken.body["name"] == name).collect()
    }

    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        self.told(name).iter().map(|taken| taken.body["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the target was told so of an alert, and says how long after `cause` it was.
    pub(crate) async fn until_told(
        &self,
        name: &str,
        event: &str,
        cause: Instant,
        services: &mut [&mut Service],
    ) -> Value {
        let told = async || self.events(name).iter().any(|told| told == event);
        self.world.until(&format!("{name} {event}"), services, told).await;
        let told = self.told(name).into_iter().find(|taken| taken.body["event"] == event).unwrap();
        let after = told.at.saturating_duration_since(cause);
        println!("{name} {event} after {after:?}");
        assert!(after < IN_TIME, "{name} {event} after {after:?}");
        told.body
    }

    /// The calls of a service's heartbeat so far.
    pub(crate) fn beats(&self, service: &str) -> Vec<Taken> {
        self.webhook.taken(&format!("/beat/{service}"))
    }

    pub(crate) async fn until_beating(&self, service: &str, services: &mut [&mut Service]) {
        let before = self.beats(service).len();
        let beating = async || self.beats(service).len() > before + 1;
        self.world.until(&format!("{service} beats"), services, beating).await;
    }
}

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The configuration, with page and metrics of producer and ingester served there.
pub(crate) fn listening(config: &str, listen: [SocketAddr; 2]) -> String {
    ["producer", "ingester"].into_iter().zip(listen).fold(config.to_owned(), |text, (service, at)| {
        let key = format!("{service}_listen = ");
        text.replace(&format!("{key}\"\""), &format!("{key}\"{at}\""))
    })
}

/// What a service answers at a path, without the head; nothing if it does not answer.
pub(crate) fn get(at: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut socket) = TcpStream::connect(at) {
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let _ = socket.write_all(head.as_bytes());
        let _ = socket.read_to_string(&mut answer);
    }
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// The metrics of a service, which promtool can read; nothing if it does not answer. Of its advice (it ends with 3) one does not
/// hold: OpenMetrics has the help of a counter under its name without `_total`.
pub(crate) fn metrics(at: SocketAddr) -> String {
    let page = get(at, "/metrics");
    if !page.is_empty() {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{}\n{page}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    page
}
