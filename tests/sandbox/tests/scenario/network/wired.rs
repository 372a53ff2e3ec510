//! A world whose services reach each neighbour over TLS, and over a way that can go wrong.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adobe::{Generator, Options, Plan};
use chrono::{DateTime, Utc};
use sandbox::config::Shape;
use sandbox::judge::{self, Done, Verdict};
use sandbox::network::{Authority, Fault, Terminator, Way};
use sandbox::service::{Service, tail};
use sandbox::webhook::Webhook;
use serde_json::Value;

use crate::world::{STOP, World, options, squeezed};

/// Hits a second, by the clock.
pub(super) const RATE: u64 = 100;
/// For longer than any test lasts; what has not happened by its end never does.
const HITS: u64 = RATE * 7_200;
/// How often to look.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom a way leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    Ims,
    /// The host of Livestream that redirects, and the one that streams.
    Front,
    Stream,
    S3,
    Redshift,
    Webhook,
}

impl Neighbour {
    pub(super) const ALL: [Self; 6] =
        [Self::Ims, Self::Front, Self::Stream, Self::S3, Self::Redshift, Self::Webhook];

    /// The services and components that name it, and what `state dump` says of them.
    fn named_by(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Self::Ims | Self::Front | Self::Stream => &[("producer", "stream", "not connected for ")],
            Self::S3 => &[
                ("producer", "upload", "upload S3 fails for "),
                ("ingester", "discovery", "discovery S3 fails for "),
            ],
            Self::Redshift => &[("ingester", "load", "load held up for ")],
            Self::Webhook => &[("producer", "alerts", "alerts not told for ")],
        }
    }
}

/// Time limits of the services, as short as a run allows.
pub(super) struct Limits {
    /// Of connecting to Adobe and Redshift, and of the head of Adobe's answers.
    pub(super) connect: Duration,
    /// Of a stream that brings nothing.
    pub(super) idle: Duration,
    /// Of a request to S3.
    pub(super) s3: Duration,
}

pub(super) struct Wired {
    pub(super) world: World,
    webhook: Webhook,
    /// One to each neighbour, in their order.
    ways: [Way; Neighbour::ALL.len()],
    _terminators: Vec<Terminator>,
    services: Vec<Service>,
}

impl Wired {
    /// Nothing is started yet.
    pub(super) async fn new(seed: u64, shape: &Shape, limits: &Limits) -> Self {
        let plan = Plan { seed, ..options(HITS).plan };
        let adobe = Options { rate: Some(RATE), hold: HITS, plan, ..options(HITS) };
        let world = World::with(adobe, shape).await;
        let webhook = Webhook::start().await.unwrap();
        let (standins, at) = (&world.standins, world.standins.endpoints());
        let authority = Authority::new("ours").unwrap();
        std::fs::write(world.path("ca.pem"), authority.pem()).unwrap();
        let certificate = authority.server(&["localhost", "127.0.0.1"], 2100).unwrap();
        standins.redshift.door().set_tls(Some(certificate.clone()));

        let [ims, front, stream] = standins.adobe.addresses();
        let [s3, hook] = [&at.s3, &webhook.url("")].map(|url| address_in(url));
        let (mut ways, mut terminators) = (Vec::new(), Vec::new());
        for (number, neighbour) in (0..).zip([ims, front, stream, s3, at.redshift, hook]) {
            let behind = if neighbour == at.redshift {
                neighbour
            } else {
                let terminator = Terminator::before(neighbour, certificate.clone()).await.unwrap();
                terminators.push(terminator);
                terminators.last().unwrap().address()
            };
            ways.push(Way::to(behind, seed + number).await.unwrap());
        }
        let ways: [Way; Neighbour::ALL.len()] = ways.try_into().unwrap();
        let [to_ims, to_front, to_stream, to_s3, to_redshift, to_webhook] =
            ways.each_ref().map(|way| format!("https://{}", way.address()));
        let stream_host = to_stream.replace("127.0.0.1", "localhost");
        standins.adobe.redirect_to(&stream_host);
        for (old, new) in [(ims, to_ims), (front, to_front), (s3, to_s3)] {
            world.configure(&format!("http://{old}"), &new);
        }
        let port = |at: SocketAddr| format!("port = {}\n", at.port());
        world.configure(&port(at.redshift), &format!("port = {}\n", to_redshift.rsplit(':').next().unwrap()));
        world.configure("tls = \"disable\"", "tls = \"verify-full\"");
        let ms = |limit: Duration| format!("\"{}ms\"", limit.as_millis());
        let (connect, idle, timeout) = (ms(limits.connect), ms(limits.idle), ms(limits.s3));
        let adobe = format!("connect_timeout = {connect}\nidle_timeout = {idle}\nretry_max = \"2s\"\n");
        world.configure("[adobe]\n", &format!("[adobe]\n{adobe}"));
        world.configure("[s3]\n", &format!("[s3]\ntimeout = {timeout}\n"));
        world.configure(
            "[redshift]\n",
            &format!("[redshift]\nconnect_timeout = {connect}\nstatement_timeout = \"2s\"\n"),
        );
        world.configure("retry_max = \"10s\"", "retry_max = \"2s\"");
        world.configure(
            "[logging]",
            &format!(
                "[alerts]\nheartbeat_interval = \"1s\"\nproducer_heartbeat = \"{to_webhook}/beat/producer\"\n\
                 ingester_heartbeat = \"{to_webhook}/beat/ingester\"\n\n[shutdown]\ntimeout = \"5s\"\n\n[logging]"
            ),
        );
        Self { world, webhook, ways, _terminators: terminators, services: Vec::new() }
    }

    /// Starts one more service.
    pub(super) fn start(&mut self, name: &'static str) {
        let ca = self.world.path("ca.pem");
        let (config, logs) = (&self.world.config, self.world.path("logs"));
        self.services
            .push(Service::start_with(name, config, &logs, &[("SSL_CERT_FILE", ca.as_path())]).unwrap());
    }

    /// The way to a neighbour.
    pub(super) fn way(&self, to: Neighbour) -> &Way {
        &self.ways[to as usize]
    }

    pub(super) fn set(&self, to: Neighbour, faults: &[Fault]) {
        self.way(to).set(faults);
    }

    /// Resets the connections to a neighbour that stand.
    pub(super) fn break_off(&self, to: Neighbour) {
        self.way(to).break_off();
    }

    /// How far the pipeline has come beyond a neighbour: rows in the log, rows in the table, or calls.
    pub(super) async fn progress(&self, to: Neighbour) -> u64 {
        match to {
            Neighbour::Ims | Neighbour::Front | Neighbour::Stream => self.durable().await,
            Neighbour::S3 | Neighbour::Redshift => self.world.loaded().await,
            Neighbour::Webhook => self.webhook.taken("/beat/producer").len() as u64,
        }
    }

    pub(super) async fn durable(&self) -> u64 {
        self.world.snapshot().await.map_or(0, |snapshot| snapshot.totals.rows)
    }

    /// Whether the services say, of a try since then, that this neighbour does not answer as it should, and `state dump` with them:
    /// all that need it, and where that is, if `nothing_passes`; otherwise one of them.
    pub(super) fn names(&self, neighbour: Neighbour, since: DateTime<Utc>, nothing_passes: bool) -> bool {
        let by = neighbour.named_by();
        let port = self.way(neighbour).address().port();
        let reason = match neighbour {
            // Its address is a secret.
            Neighbour::Webhook => String::new(),
            // The stream fails without IMS as it does without Livestream.
            _ if nothing_passes || neighbour == Neighbour::Ims => format!(":{port}"),
            _ => String::new(),
        };
        let dump: Value = serde_json::from_str(&self.world.dump_as(&["--json"])).unwrap_or_default();
        let fails = |component: &str, status: &Value| {
            let (last, why) = (status["failing"]["last"].as_str(), status["failing"]["why"].as_str());
            let last = last.and_then(|last| last.parse::<DateTime<Utc>>().ok());
            status["component"] == component
                && last.is_some_and(|last| last >= since)
                && why.is_some_and(|why| why.contains(&reason))
        };
        let named = |(service, component, words): &(&str, &str, &str)| {
            let components = dump[service]["snapshot"]["components"].as_array();
            components.is_some_and(|all| all.iter().any(|status| fails(component, status)))
                && squeezed(&self.world.dump()).contains(words)
        };
        if nothing_passes { by.iter().all(named) } else { by.iter().any(named) }
    }

    /// Waits until `done`, but not longer; says how long it took.
    pub(super) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut done: impl AsyncFnMut(&Self) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        while !done(&*self).await {
            self.look();
            if begun.elapsed() > within {
                let said: Vec<_> = self.services.iter().map(|service| tail(&service.said())).collect();
                panic!("not within {within:?}: {what}\n{}\n{}", said.join("\n----\n"), self.world.dump());
            }
            tokio::time::sleep(PAUSE).await;
        }
        begun.elapsed()
    }

    /// Ends the stream where it is, waits until all of it is loaded, stops the services and judges.
    pub(super) async fn finish(mut self, within: Duration) -> Verdict {
        let generator = self.world.standins.adobe.generator();
        let hits = self.world.standins.adobe.end();
        let generator = Generator::new(Plan { hits, ..*generator.plan() });
        let wanted = generator.counts(0..hits).hits;
        self.until(&format!("{wanted} rows loaded"), within, async |wired| {
            wired.world.loaded().await >= wanted
        })
        .await;
        let shipped = async |wired: &Self| {
            let snapshot = wired.world.snapshot().await;
            wired.world.standins.adobe.distinct_sent() == hits
                && snapshot.is_some_and(|snapshot| snapshot.rejects_waiting == 0)
        };
        self.until("every reject shipped", within, shipped).await;
        for service in &mut self.services {
            service.stop(STOP).await.unwrap();
        }
        let (postgres, s3) = (self.world.standins.endpoints().postgres, self.world.path("s3"));
        judge::judge_after(&generator, &postgres, &s3, Done::default()).await.unwrap()
    }

    /// Asks the services to stop, which they must do in time and in order, and starts them again.
    pub(super) async fn restart(&mut self, within: Duration) {
        for service in &mut self.services {
            service.stop(within).await.unwrap();
            service.start_again().unwrap();
        }
    }

    /// Fails if a service has ended by itself.
    pub(super) fn look(&mut self) {
        self.services.iter_mut().for_each(|service| service.look().unwrap());
    }

    /// Stops the services; nothing is judged.
    pub(super) async fn stop(mut self) {
        for service in &mut self.services {
            service.stop(STOP).await.unwrap();
        }
    }
}

fn address_in(url: &str) -> SocketAddr {
    url.rsplit('/').next().unwrap().parse().unwrap()
}
