//! A producer: the real log and the real upload jobs, and a stream in the place of Adobe's.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use ::producer::{UploadReport, Uploader};
use chrono::{DateTime, Utc};
use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::retry::Backoff;
use state::log::{BatchStatus, HitId, Log, Settings};
use state::status::feed::Published;
use tokio::sync::{broadcast, mpsc};

use crate::bucket::sdk;
use crate::outside::World;
use crate::setup::{config, settings};

/// Adobe receives a hit so often.
const EVERY: Duration = Duration::from_secs(300);
/// Tries of the uploader at one moment.
const TRIES: usize = 40;

/// When Adobe received a hit.
pub(crate) fn received(hit: u64, began: DateTime<Utc>) -> DateTime<Utc> {
    began + EVERY * u32::try_from(hit).unwrap()
}

/// How many hits Adobe has received when so much time has passed.
pub(crate) fn hits_after(passed: Duration) -> u64 {
    passed.as_secs() / EVERY.as_secs()
}

pub(crate) struct Producer {
    name: &'static str,
    world: World,
    clock: Clock,
    config: Config,
    settings: Settings,
    began: DateTime<Utc>,
    running: Option<Running>,
    /// The next hit to read.
    next: u64,
    /// All hits before this one are accepted, or were accepted by an earlier session.
    safe: u64,
    pub(crate) accepted: BTreeSet<u64>,
}

struct Running {
    log: Log,
    uploader: Uploader,
    reports: mpsc::Receiver<UploadReport>,
    published: broadcast::Receiver<Published>,
    sealed: VecDeque<u64>,
    backoff: Backoff,
    next_try: Steady,
    staged: Vec<u64>,
    full: bool,
}

impl Producer {
    pub(crate) fn new(name: &'static str, dir: &Path, world: &World, began: DateTime<Utc>) -> Self {
        let config = config(dir, name, false);
        let clock = world.get().clock.clone();
        let (settings, accepted) = (settings(&config), BTreeSet::new());
        Self {
            name,
            world: world.clone(),
            clock,
            config,
            settings,
            began,
            running: None,
            next: 0,
            safe: 0,
            accepted,
        }
    }

    /// The process ends without a word, if it runs.
    pub(crate) fn kill(&mut self, why: &'static str) {
        if self.running.take().is_some() {
            let mut world = self.world.get();
            world.met(why);
            world.note(format_args!("{} is killed: {why}", self.name));
        }
    }

    /// Whether uploads fail now.
    pub(crate) fn fails(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.backoff.failures() > 0)
    }

    fn start(&mut self) {
        let (now, world) = (self.clock.now(), &self.world);
        let (mut log, left) = Log::open(self.settings.clone(), now).unwrap();
        world.get().note(format_args!("{} starts: {} batches are left", self.name, left.sealed.len()));
        log.session_started(0, now).unwrap();
        let (upload_reports, reports) = mpsc::channel(4);
        let (feed, published) = broadcast::channel(64);
        let store = ObjectStore::over(&self.config.s3, &sdk(world, self.name));
        let uploader =
            Uploader::new(&self.config, store, log.reader(), upload_reports, feed, self.clock.clone());
        self.running = Some(Running {
            log,
            uploader,
            reports,
            published,
            sealed: left.sealed.into(),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            next_try: now.steady,
            staged: Vec::new(),
            full: false,
        });
        self.go_back();
    }

    /// A new session begins before what was not accepted, and brings some hits again; now and then more than the log remembers.
    fn go_back(&mut self) {
        let mut world = self.world.get();
        let again =
            if world.random.u8(0..6) == 0 { world.random.u64(0..500) } else { world.random.u64(0..30) };
        self.next = self.safe.saturating_sub(again);
    }

    /// The connection to the stream breaks.
    pub(crate) fn disconnect(&mut self) {
        let now = self.clock.now();
        let Some(running) = &mut self.running else { return };
        self.world.get().met("the stream breaks");
        let done = running.log.session_ended(0, "simulated", now).unwrap();
        running.sealed.extend(done.sealed);
        let done = running.log.session_started(0, now).unwrap();
        running.sealed.extend(done.sealed);
        self.accepted.extend(running.staged.drain(..));
        self.safe = self.safe.max(self.next);
        self.go_back();
    }

    /// Reads what the stream has before hit `end`, commits and uploads. Returns the batches that were published.
    pub(crate) async fn step(&mut self, end: u64) -> Vec<BatchId> {
        if self.running.is_none() {
            self.start();
        }
        self.read(end);
        let world = self.world.clone();
        if world.unless_killed(Box::pin(self.upload())).await.is_none() {
            self.kill("the producer is killed within a step");
            return Vec::new();
        }
        let Some(running) = &mut self.running else { return Vec::new() };
        std::iter::from_fn(|| running.published.try_recv().ok()).map(|published| published.batch).collect()
    }

    fn read(&mut self, end: u64) {
        let (now, began) = (self.clock.now(), self.began);
        let Some(running) = &mut self.running else { return };
        running.full = if running.full { !running.log.has_room() } else { running.log.is_full() };
        if running.full {
            self.world.get().met("the log is full");
        }
        while !running.full && self.next < end {
            let low = self.next;
            let at = received(low, began);
            let row = format!("{low}~{}\n", at.format("%Y-%m-%d %H:%M:%S%.6f"));
            running.log.stage_row(0, Some(HitId { high: 1, low }), Some(at), row.as_bytes(), now);
            running.staged.push(low);
            self.next += 1;
            if running.log.commit_is_due() {
                let done = running.log.commit(now).unwrap();
                running.sealed.extend(done.sealed);
                self.accepted.extend(running.staged.drain(..));
                self.safe = self.safe.max(self.next);
                running.full = running.log.is_full();
            }
        }
        // What is staged may be lost with the process: then the stream sends it again.
        let waits = self.world.get().random.u8(0..10) == 0;
        if !waits && running.log.next_commit().is_some_and(|due| due <= now.steady) || running.full {
            let done = running.log.commit(now).unwrap();
            running.sealed.extend(done.sealed);
            self.accepted.extend(running.staged.drain(..));
            self.safe = self.safe.max(self.next);
        }
    }

    async fn upload(&mut self) {
        let (now, clock) = (self.clock.steady(), self.clock.clone());
        let Some(Running { log, uploader, reports, sealed, backoff, next_try, .. }) = &mut self.running
        else {
            return;
        };
        for _ in 0..TRIES {
            let Some(batch) = sealed.front().copied().filter(|_| *next_try <= now) else { return };
            let mut trying = std::pin::pin!(uploader.try_next(batch));
            let tried = loop {
                tokio::select! {
                    biased;
                    Some(report) = reports.recv() => note(log, report, &clock),
                    tried = &mut trying => break tried,
                }
            };
            match tried {
                Ok(published) => {
                    backoff.succeeded();
                    if published {
                        sealed.pop_front();
                    }
                }
                Err(_) => *next_try = now + backoff.failed(),
            }
        }
    }

    /// What is not in S3 although nothing is in the way any more.
    pub(crate) fn left(&self) -> Vec<String> {
        let Some(running) = &self.running else { return vec!["it does not run".to_owned()] };
        let batches = running.log.reader().batches().unwrap();
        let left = batches.iter().filter(|(_, batch)| batch.status != BatchStatus::Published);
        left.map(|(number, batch)| format!("batch {number} is {:?}", batch.status)).collect()
    }
}

/// As the thread that writes the log does.
fn note(log: &mut Log, report: UploadReport, clock: &Clock) {
    let noted = match report {
        UploadReport::FileUploaded(file, upload, noted) => log.uploaded(file, upload).map(|()| noted),
        UploadReport::BatchPublished(batch, noted) => log.published(batch, clock.now()).map(|()| noted),
        UploadReport::RejectsChosen(..) | UploadReport::RejectsUploaded(..) => panic!("there are no rejects"),
    };
    let _ = noted.unwrap().send(());
}
