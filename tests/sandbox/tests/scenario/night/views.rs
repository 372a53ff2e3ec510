//! Both services, and all that an operator has to look at them: when each view begins to show an outage, and when it ends to.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use adobe::Options;
use sandbox::config::Shape;
use sandbox::service::Service;
use serde_json::Value;

use crate::bridge::Bridge;
use crate::browser::Browser;
use crate::terminal::Terminal;
use crate::watched::{Watched, get};
use crate::world::{STOP, World, squeezed};

/// So long at most it is waited for what a view is to show: longer than it may take, so that the table says by how much.
const PATIENCE: Duration = Duration::from_secs(100);
/// Between two looks at the views.
const PAUSE: Duration = Duration::from_millis(200);
/// A heartbeat that is called every second and was not for so long has ended.
const SILENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(30);

/// Whose page is looked at: of a service that is away, the other one's.
#[derive(Debug, Clone, Copy)]
pub(super) enum PageOf {
    Producer,
    Ingester,
}

/// An outage, and what names it in each view: all of these words, and none of them before and after. Blanks count once.
pub(super) struct Outage {
    pub(super) name: &'static str,
    pub(super) page_of: PageOf,
    /// Whether `/api/status` has it.
    pub(super) data: fn(&Value) -> bool,
    pub(super) page: &'static [&'static str],
    pub(super) watch: &'static [&'static str],
    pub(super) dump: &'static [&'static str],
    pub(super) told_by: ToldBy,
}

/// Who tells an operator who looks at nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum ToldBy {
    /// These alerts, at the webhook.
    Alerts(&'static [&'static str]),
    /// The heartbeat of this service, which is not called any more: a dead process sends nothing.
    Heartbeat(&'static str),
    /// Nobody within a minute, by design.
    Nobody(&'static str),
}

/// How long after the cause, or after its end, each view showed it; None: not while it was waited for.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) data: Option<Duration>,
    pub(super) page: Option<Duration>,
    pub(super) watch: Option<Duration>,
    pub(super) dump: Option<Duration>,
    pub(super) told: Option<Duration>,
}

impl Times {
    fn all(&self) -> [Option<Duration>; 5] {
        [self.data, self.page, self.watch, self.dump, self.told]
    }

    /// Whether every view was in time.
    pub(super) fn are_within(&self, limit: Duration) -> bool {
        self.all().iter().all(|time| time.is_some_and(|time| time < limit))
    }
}

pub(super) struct Night {
    pub(super) watched: Watched,
    pub(super) redshift: Bridge,
    producer: Option<Service>,
    ingester: Option<Service>,
    browser: Browser,
    watch: Terminal,
}

impl Night {
    /// Nothing is started but the views.
    pub(super) async fn new(adobe: Options, shape: &Shape) -> Self {
        let watched = Watched::with(adobe, shape).await;
        // The waits of the product: those of the sandbox are shorter.
        watched.world.configure("list_interval = \"5s\"\nretry_max = \"10s\"\n", "");
        let redshift = Bridge::to_redshift(&watched.world).await;
        let watch = Terminal::start(&["watch"], &watched.world.config, (120, 40));
        Self { watched, redshift, producer: None, ingester: None, browser: Browser::start(), watch }
    }

    pub(super) fn world(&self) -> &World {
        &self.watched.world
    }

    /// The service of this name. It is started if it never was.
    pub(super) fn service(&mut self, name: &'static str) -> &mut Service {
        let Self { watched, producer, ingester, .. } = self;
        let service = if name == "producer" { producer } else { ingester };
        service.get_or_insert_with(|| watched.world.start(name))
    }

    /// Both services run, and rows have got through.
    pub(super) async fn run(&mut self) {
        self.service("producer");
        self.service("ingester");
        self.world().until_loaded(300, &mut []).await;
    }

    /// Opens the page, and makes sure that no view names the outage already.
    pub(super) async fn open(&mut self, outage: &Outage) {
        let at = self.at(outage);
        self.world().until("the page is served", &mut [], async || TcpStream::connect(at).is_ok()).await;
        self.browser.open(&format!("http://{at}/"));
        let quiet = |text: &str| text.contains("Pipeline") && has_none(text, outage.page);
        self.browser.until(&format!("the page before: {}", outage.name), SOON, quiet);
        self.watch.until(&["q quit"]).await;
        let before = self.look(outage, ToldBy::Nobody(""), Instant::now(), false).await;
        assert!(before.are_within(SOON), "named before it began: {}: {before:?}", outage.name);
    }

    /// When each view names an outage that began at `cause`.
    pub(super) async fn begun(&mut self, outage: &Outage, cause: Instant) -> Times {
        self.look_on(outage, cause, true).await
    }

    /// When each view has no word of it any more, after its cause ended at `end`.
    pub(super) async fn ended(&mut self, outage: &Outage, end: Instant) -> Times {
        let times = self.look_on(outage, end, false).await;
        for service in [&mut self.producer, &mut self.ingester].into_iter().flatten() {
            service.look().unwrap();
        }
        times
    }

    async fn look_on(&mut self, outage: &Outage, from: Instant, stands: bool) -> Times {
        let times = self.look(outage, outage.told_by, from, stands).await;
        let phase = if stands { "begun" } else { "ended" };
        println!("{} {phase}: {times:.1?}", outage.name);
        if times.all().contains(&None) {
            let missed = format!("{}-{phase}", outage.name.replace(' ', "-"));
            self.browser.shoot(&missed);
            let (watch, dump) = (self.watch.text(), self.world().dump());
            println!("---- {missed}\n{}\n---- watch\n{watch}\n---- dump\n{dump}", self.browser.text());
        }
        times
    }

    async fn look(&self, outage: &Outage, by: ToldBy, from: Instant, stands: bool) -> Times {
        let mut times = Times::default();
        let shows =
            |text: &str, words: &[&str]| if stands { has_all(text, words) } else { has_none(text, words) };
        loop {
            note(&mut times.data, from, || {
                self.status(outage).is_some_and(|data| (outage.data)(&data) == stands)
            });
            note(&mut times.page, from, || shows(&self.browser.text(), outage.page));
            note(&mut times.watch, from, || shows(&self.watch.text(), outage.watch));
            note(&mut times.dump, from, || shows(&self.world().dump(), outage.dump));
            times.told = times.told.or_else(|| self.told(by, from, stands));
            if !times.all().contains(&None) || from.elapsed() > PATIENCE {
                return times;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn at(&self, outage: &Outage) -> std::net::SocketAddr {
        let [producer, ingester] = self.watched.listen;
        match outage.page_of {
            PageOf::Producer => producer,
            PageOf::Ingester => ingester,
        }
    }

    /// None if the service gives no answer.
    fn status(&self, outage: &Outage) -> Option<Value> {
        serde_json::from_str(&get(self.at(outage), "/api/status")).ok()
    }

    fn told(&self, by: ToldBy, from: Instant, stands: bool) -> Option<Duration> {
        let after = |at: Instant| (at >= from).then(|| at.duration_since(from));
        match by {
            ToldBy::Nobody(_) => Some(Duration::ZERO),
            ToldBy::Heartbeat(service) if stands => {
                let last = self.watched.beats(service).last().map_or(from, |beat| beat.at.max(from));
                (last.elapsed() >= SILENCE).then(|| from.elapsed())
            }
            ToldBy::Heartbeat(service) => self.watched.beats(service).iter().find_map(|beat| after(beat.at)),
            ToldBy::Alerts(names) => {
                let event = if stands { "begun" } else { "resolved" };
                let first = |name: &&str| {
                    let told = self.watched.told(name);
                    told.iter().filter(|told| told.body["event"] == event).find_map(|told| after(told.at))
                };
                names.iter().map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
            }
        }
    }

    pub(super) async fn stop(mut self) {
        for service in [&mut self.producer, &mut self.ingester].into_iter().flatten() {
            service.stop(STOP).await.unwrap();
        }
    }
}

fn note(time: &mut Option<Duration>, from: Instant, is_so: impl FnOnce() -> bool) {
    if time.is_none() && is_so() {
        *time = Some(from.elapsed());
    }
}

fn has_all(text: &str, words: &[&str]) -> bool {
    let text = squeezed(text);
    words.iter().all(|word| text.contains(word))
}

fn has_none(text: &str, words: &[&str]) -> bool {
    let text = squeezed(text);
    !words.iter().any(|word| text.contains(word))
}
