//! One seed: days in which everything goes wrong, and then days in which nothing does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Clock, Steady};
use state::loads::Pause;

use crate::ingester::Ingester;
use crate::outside::World;
use crate::producer::{Producer, hits_after};
use crate::setup::{HOUR, RETRY_MAX};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Days in which things go wrong.
const FAULTY: u32 = 6;
/// The stream ends so long before the end, so that everything can arrive.
const LAST: Duration = Duration::from_secs(12 * 3_600);

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) met: BTreeMap<&'static str, u64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) simulated: Duration,
}

struct Simulation {
    world: World,
    clock: Clock,
    began: Steady,
    /// What the wall clock would show if nobody set it.
    true_wall: DateTime<Utc>,
    producers: Vec<Producer>,
    ingester: Ingester,
    s3_until: Option<Steady>,
    redshift_until: Option<Steady>,
    resume_at: Option<Steady>,
    /// When the stream ends.
    stream: Duration,
}

/// Runs a seed in a directory that is empty.
pub(crate) async fn run(seed: u64, dir: &std::path::Path) -> Outcome {
    // What the services draw: the waits between tries.
    fastrand::seed(seed);
    let wall: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
    let clock = Clock::by_hand(wall);
    let world = World::new(seed, &clock);
    world.get().warehouse.keeps_sessions = seed.is_multiple_of(3);
    let names: &[&'static str] = if seed.is_multiple_of(2) { &["web-1"] } else { &["web-1", "web-2"] };
    let producers = names.iter().map(|name| Producer::new(name, &dir.join(name), &world, wall)).collect();
    let ingester = Ingester::new(&dir.join("ingester"), &world, seed.is_multiple_of(5));
    let mut simulation = Simulation {
        began: clock.steady(),
        true_wall: wall,
        clock,
        producers,
        ingester,
        s3_until: None,
        redshift_until: None,
        resume_at: None,
        stream: DAY * FAULTY + DAY,
        world,
    };
    simulation.go_wrong().await;
    simulation.go_well().await;
    // What is seen broken is told at once, without what follows from it.
    if simulation.world.get().wrong.is_empty() {
        simulation.drill().await;
        simulation.judge();
    }
    simulation.outcome()
}

impl Simulation {
    fn passed(&self) -> Duration {
        self.began.until(self.clock.steady())
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.world.get().random.u64(range)
    }

    /// One moment of all processes.
    async fn tick(&mut self, wait: Duration) {
        self.clock.advance(wait);
        self.true_wall += wait;
        self.world.get().catch_up();
        let end = hits_after(self.passed().min(self.stream));
        for producer in &mut self.producers {
            for batch in producer.step(end).await {
                // The feed may be away.
                if self.world.get().random.u8(0..4) > 0 {
                    self.ingester.hint(batch);
                }
            }
        }
        self.ingester.step().await;
    }

    /// Looks again soon while something fails.
    fn wait(&self) -> Duration {
        let fails = self.ingester.fails() || self.producers.iter().any(Producer::fails);
        Duration::from_secs(match self.draw(0..8) {
            0..3 if fails => self.draw(3..60),
            3..7 if fails => self.draw(60..900),
            _ => self.draw(60..3_600),
        })
    }

    async fn go_wrong(&mut self) {
        while self.passed() < DAY * FAULTY && self.world.get().wrong.is_empty() {
            self.outages();
            self.clocks();
            self.deaths();
            self.operator();
            let wait = self.wait();
            self.tick(wait).await;
        }
    }

    fn outages(&mut self) {
        let now = self.clock.steady();
        let length = Duration::from_secs(if self.draw(0..4) == 0 {
            self.draw(3_600..40_000)
        } else {
            self.draw(60..3_600)
        });
        let [s3, redshift] = [(); 2].map(|()| self.draw(0..150) == 0);
        let mut world = self.world.get();
        if world.s3_away && self.s3_until.is_none_or(|until| until <= now) {
            world.s3_away = false;
            world.note("S3 is back");
        } else if s3 && !world.s3_away {
            world.s3_away = true;
            self.s3_until = Some(now + length);
            world.met("S3 is away");
        }
        if world.redshift_away && self.redshift_until.is_none_or(|until| until <= now) {
            world.redshift_away = false;
            world.note("Redshift is back");
        } else if redshift && !world.redshift_away {
            world.redshift_away = true;
            self.redshift_until = Some(now + length);
            world.met("Redshift is away");
        }
    }

    /// Somebody sets the wall clock, or sets it right.
    fn clocks(&mut self) {
        let off = i64::try_from(self.draw(0..6 * 3_600)).unwrap();
        match self.draw(0..300) {
            0 => self.set_wall(self.true_wall + TimeDelta::seconds(off), "the clock is set forward"),
            1 => self.set_wall(self.true_wall - TimeDelta::seconds(off), "the clock is set back"),
            2 | 3 => self.set_wall(self.true_wall, "the clock is set right"),
            _ => {}
        }
    }

    fn set_wall(&mut self, wall: DateTime<Utc>, what: &'static str) {
        self.clock.set_wall(wall);
        let mut world = self.world.get();
        world.met(what);
        world.note(what);
    }

    /// Processes end between two steps, and connections break.
    fn deaths(&mut self) {
        for producer in &mut self.producers {
            let drawn = self.world.get().random.u8(0..200);
            match drawn {
                0 => producer.kill("the producer is killed between two steps"),
                1..4 => producer.disconnect(),
                _ => {}
            }
        }
        if self.draw(0..150) == 0 {
            self.ingester.kill("the ingester is killed between two steps");
        }
    }

    fn operator(&mut self) {
        let (now, drawn) = (self.clock.now(), self.draw(0..300));
        if self.resume_at.is_some_and(|at| at <= now.steady) {
            self.resume_at = None;
            self.ingester.set_pause(None);
        }
        match drawn {
            0 => {
                let until = now.wall + Duration::from_secs(self.draw(600..20_000));
                let pause = Pause { since: now.wall, until: Some(until), reason: None };
                self.ingester.set_pause(Some(pause));
            }
            1 => {
                let pause = Pause { since: now.wall, until: None, reason: Some("resize".to_owned()) };
                self.ingester.set_pause(Some(pause));
                self.resume_at = Some(now.steady + Duration::from_secs(self.draw(600..20_000)));
            }
            2 => self.ingester.reload(),
            _ => {}
        }
    }

    /// Faults stop, and what waits is worked off.
    async fn go_well(&mut self) {
        {
            let mut world = self.world.get();
            (world.faulty, world.s3_away, world.redshift_away) = (false, false, false);
            world.well = Some(self.clock.steady());
            world.note("all is well from now on");
        }
        self.set_wall(self.true_wall, "the clock is set right");
        self.ingester.set_pause(None);
        while self.passed() < self.stream + LAST && self.world.get().wrong.is_empty() {
            let wait = Duration::from_secs(self.draw(30..1_200));
            self.tick(wait).await;
        }
    }

    /// Redshift is away once more, and nothing else: the alert of it comes within its time, and is over within a minute.
    async fn drill(&mut self) {
        while self.ingester.pause.holds(self.clock.now()) {
            self.tick(Duration::from_secs(600)).await;
        }
        self.world.get().redshift_away = true;
        self.ingester.kill("the ingester is killed between two steps");
        let stands =
            |ingester: &Ingester| ingester.standing().iter().any(|alert| alert.name == "load_failing");
        for _ in 0..24 {
            self.tick(Duration::from_secs(5)).await;
        }
        if !stands(&self.ingester) {
            self.world.get().breaks("Redshift was away for two minutes, and no alert stands");
        }
        if !self.ingester.told().iter().any(|name| name == "load_failing") {
            self.world.get().breaks("Redshift was away for two minutes, and nobody was told");
        }
        self.world.get().redshift_away = false;
        for _ in 0..12 {
            self.tick(Duration::from_secs(5)).await;
        }
        if stands(&self.ingester) {
            self.world.get().breaks("Redshift is back for a minute, and the alert still stands");
        }
    }

    /// What must be true when nothing has gone wrong for long.
    fn judge(&mut self) {
        let accepted: BTreeSet<u64> =
            self.producers.iter().flat_map(|producer| producer.accepted.iter().copied()).collect();
        let mut wrong = Vec::new();
        let sent: BTreeSet<u64> = (0..hits_after(self.stream)).collect();
        for producer in &self.producers {
            let missed: Vec<_> = sent.difference(&producer.accepted).take(5).collect();
            if !missed.is_empty() {
                wrong.push(format!("a producer has not accepted {missed:?} of {} hits", sent.len()));
            }
            wrong.extend(
                producer.left().into_iter().map(|what| format!("a producer has not ended its work: {what}")),
            );
        }
        wrong.extend(
            self.ingester
                .open_loads()
                .into_iter()
                .map(|load| format!("load {} is {}", load.batch, load.state.name())),
        );
        let ended = ["failing", "batch_", "needs_operator", "load_unanswered", "not_listed", "paused"];
        let stands = self
            .ingester
            .standing()
            .iter()
            .filter(|alert| ended.iter().any(|part| alert.name.contains(part)));
        wrong.extend(stands.map(|alert| format!("the alert {} stands: {}", alert.name, alert.detail)));
        let told = self.ingester.told();
        let silent =
            told.iter().filter(|name| self.ingester.standing().iter().all(|alert| alert.name != **name));
        wrong.extend(silent.map(|name| format!("the end of the alert {name} is not told")));
        let outside = self.world.get();
        let table: BTreeSet<u64> = outside.warehouse.table.keys().copied().collect();
        let lost: Vec<_> = accepted.difference(&table).take(5).collect();
        let strange: Vec<_> = table.difference(&accepted).take(5).collect();
        if !lost.is_empty() || !strange.is_empty() {
            let [accepted, table] = [accepted.len(), table.len()];
            wrong.push(format!(
                "{accepted} hits accepted, {table} in the table: lost {lost:?}, strange {strange:?}"
            ));
        }
        let seals = outside
            .bucket
            .objects
            .keys()
            .filter(|key| key.starts_with("ToIngest/") && key.ends_with("/batch.json"));
        wrong.extend(seals.map(|key| format!("{key} is still to be loaded")));
        drop(outside);
        wrong.into_iter().for_each(|what| self.world.get().breaks(what));
    }

    fn outcome(self) -> Outcome {
        let simulated = self.passed();
        drop((self.producers, self.ingester));
        let mut outside = self.world.get();
        outside.note_ledger();
        let trace = std::mem::take(&mut outside.trace.lines);
        let (met, wrong) = (std::mem::take(&mut outside.met), std::mem::take(&mut outside.wrong));
        Outcome { trace, met, wrong, simulated }
    }
}

// The longest wait of a retry is far shorter than the time in which all must arrive.
const _: () = assert!(RETRY_MAX.as_secs() * 10 < LAST.as_secs() && HOUR.as_secs() < LAST.as_secs());
