//! An ingester: the real discovery, loader, archiver, pauses and alerts, step by step on one thread.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ::ingester::{
    Archiver, Connector, Discovery, Hint, LoadStore, Loader, LoadsOwner, Progress, Services, Target,
    UnknownFolders, figures,
};
use shared::clock::{Clock, Steady};
use shared::config::{Config, Severity};
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::alerts::rules::{IngesterFigures, Watched};
use state::alerts::{Before, Judge, Outbox};
use state::loads::{Load, Pause};
use state::status::activity::{Activity, Component};
use state::status::alert::Alert;
use state::status::feed::Owner;
use tokio::sync::{mpsc, watch};

use crate::bucket::sdk;
use crate::outside::World;
use crate::rules::{LoadStates, LoaderRules, Messages, PauseRule, Schedules};
use crate::setup::{config, schema};
use crate::wire::dial;

/// Steps of one task at one moment.
const STEPS: usize = 200;
/// While nothing fails it is looked at so often.
const LOOK: Duration = Duration::from_secs(3_600);
/// An alert that stands is told again so often.
const REPEAT: Duration = Duration::from_secs(4 * 3_600);

pub(crate) struct Ingester {
    world: World,
    clock: Clock,
    config: Config,
    running: Option<Running>,
    /// What its directory keeps of alerts.
    standing: Vec<Alert>,
    looked: Option<Steady>,
    counters: BTreeMap<String, u64>,
    outbox: Outbox,
    messages: Messages,
    states: LoadStates,
    pub(crate) pause: PauseRule,
}

struct Running {
    services: Services,
    loader: Loader,
    discovery: Discovery,
    archiver: Archiver,
    owner: LoadsOwner,
    complete: watch::Receiver<Steady>,
    hints: mpsc::Sender<Hint>,
    /// What the feed has named and discovery was not told yet.
    named: Vec<BatchId>,
    judge: Judge,
    rules: LoaderRules,
    schedules: Schedules,
    _targets: watch::Sender<Target>,
}

impl Ingester {
    pub(crate) fn new(dir: &Path, world: &World, held_back: bool) -> Self {
        let clock = world.get().clock.clone();
        Self {
            world: world.clone(),
            clock,
            config: config(dir, "ingester", held_back),
            running: None,
            standing: Vec::new(),
            looked: None,
            counters: BTreeMap::new(),
            outbox: Outbox::default(),
            messages: Messages::default(),
            states: LoadStates::default(),
            pause: PauseRule::default(),
        }
    }

    fn start(&mut self) {
        let (world, clock) = (&self.world, &self.clock);
        {
            let mut outside = world.get();
            // Those of the process before.
            outside.listings.clear();
            outside.note("ingester starts");
        }
        let ingester = &self.config.ingester;
        let load_store = LoadStore::open(&ingester.dir, ingester.load_interval.0, clock).unwrap();
        let store = ObjectStore::over(&self.config.s3, &sdk(world, "ingester"));
        let activity = Activity::new(clock.clone());
        let services = Services::new(
            self.config.clone(),
            store,
            load_store,
            activity.clone(),
            clock.clone(),
            Shutdown::new(),
        );
        let services = services.unwrap();
        let (hints, hinted) = mpsc::channel(256);
        let folders = UnknownFolders::default();
        let discovery = Discovery::new(&services, folders.clone(), hinted).unwrap();
        let complete = discovery.complete();
        let targets = watch::Sender::new(Target::new(&self.config, &schema(), "simulation".to_owned()));
        let connector = Connector::new(&self.config, "simulation", clock.clone()).unwrap();
        let connector = connector.through(dial(world)).reporting(activity.reporter(Component::Load));
        let loader = Loader::new(&services, targets.subscribe(), connector, folders, hints.clone());
        let before = Before { standing: self.standing.clone(), counters: self.counters.clone() };
        self.pause.restarted(clock.now());
        self.running = Some(Running {
            loader,
            discovery,
            complete,
            archiver: Archiver::new(&services),
            owner: LoadsOwner::new(&services),
            hints,
            named: Vec::new(),
            judge: Judge::new::<IngesterFigures>(&before, String::new(), &[], clock.steady()),
            rules: LoaderRules::default(),
            schedules: Schedules::default(),
            services,
            _targets: targets,
        });
    }

    /// The process ends without a word, if it runs.
    pub(crate) fn kill(&mut self, why: &'static str) {
        if self.running.take().is_some() {
            let mut world = self.world.get();
            world.met(why);
            world.note(format_args!("ingester is killed: {why}"));
        }
    }

    /// The feed names a published batch.
    pub(crate) fn hint(&mut self, batch: BatchId) {
        if let Some(running) = &mut self.running {
            running.named.push(batch);
        }
    }

    /// `ingester pause`, or `ingester resume`.
    pub(crate) fn set_pause(&mut self, pause: Option<Pause>) {
        if self.running.is_none() {
            self.start();
        }
        let Some(running) = &self.running else { return };
        running.owner.set_pause(pause.clone()).unwrap();
        let mut world = self.world.get();
        world.met(if pause.is_some() {
            "the operator pauses loading"
        } else {
            "the operator resumes loading"
        });
        world.note(format_args!("pause: {}", pause.is_some()));
        self.pause.set(pause, self.clock.now());
    }

    /// A changed configuration is taken.
    pub(crate) fn reload(&mut self) {
        if let Some(running) = &self.running {
            running.services.reloaded();
            let mut world = self.world.get();
            world.met("the configuration is reloaded");
            world.note("reload");
        }
    }

    /// Whether something fails now, so that the next moments are worth looking at.
    pub(crate) fn fails(&self) -> bool {
        let Some(running) = &self.running else { return true };
        let components = running.services.activity().components();
        components.iter().any(|component| component.failing.is_some())
    }

    pub(crate) fn standing(&self) -> &[Alert] {
        &self.standing
    }

    /// Everything that is due now, and a look at what it led to.
    pub(crate) async fn step(&mut self) {
        if self.running.is_none() {
            self.start();
        }
        let world = self.world.clone();
        let done = world.unless_killed(Box::pin(self.work())).await;
        match done {
            None => self.kill("the ingester is killed within a step"),
            Some(()) if self.is_to_look() => self.look(),
            Some(()) => {}
        }
    }

    async fn work(&mut self) {
        let (world, clock, pause) = (self.world.clone(), self.clock.clone(), self.pause.clone());
        let Some(running) = &mut self.running else { return };
        for _ in 0..STEPS {
            // A listing or what the feed has named: which of two goes first would be drawn.
            if running.discovery.due() > clock.steady() {
                if running.named.is_empty() {
                    break;
                }
                for batch in running.named.drain(..) {
                    running.hints.try_send(Hint::Folder(batch)).unwrap();
                }
            }
            if let Err(failure) = running.discovery.step().await {
                world.get().breaks(format!("discovery ended: {failure}"));
                return;
            }
        }
        for _ in 0..STEPS {
            let before = LoaderRules::before(&world, &pause, &clock);
            let progress = match running.loader.step().await {
                Ok(progress) => progress,
                Err(failure) => {
                    world.get().breaks(format!("the loader ended: {failure}"));
                    return;
                }
            };
            running.rules.after(&world, before, progress, &clock);
            if progress != Progress::Worked {
                break;
            }
        }
        for _ in 0..STEPS {
            match running.archiver.step().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(failure) => {
                    world.get().breaks(format!("the archiver ended: {failure}"));
                    return;
                }
            }
        }
    }

    fn is_to_look(&self) -> bool {
        let long_ago = self.looked.is_none_or(|at| at.until(self.clock.steady()) > LOOK);
        long_ago || self.fails() || !self.standing.is_empty()
    }

    /// Looks at what it knows of itself, and has the target of its alerts told.
    pub(crate) fn look(&mut self) {
        let Some(running) = &mut self.running else { return };
        let now = self.clock.now();
        self.looked = Some(now.steady);
        let figures = figures(&running.owner, *running.complete.borrow()).unwrap();
        let mut world = self.world.get();
        self.states.look(&figures.snapshot.loads, &mut world);
        let standing = running.judge.look(&figures, now);
        running.schedules.look(now.steady, &mut world);
        running.rules.judge_alerts(&standing, &self.pause, now, &mut world);
        for alert in &standing {
            if self.standing.iter().all(|before| before.name != alert.name) {
                world.note(format_args!("alert {} begins", alert.name));
            }
        }
        for alert in &self.standing {
            if standing.iter().all(|after| after.name != alert.name) {
                world.note(format_args!("alert {} ends", alert.name));
            }
        }
        let lasting = figures.counters().into_iter();
        self.counters =
            lasting.filter(|(name, _)| IngesterFigures::lasting().contains(&name.as_str())).collect();
        self.standing = standing;
        self.outbox.follow(&self.standing, Severity::Warning, now.wall);
        while let Some(due) = self.outbox.due(REPEAT, now.wall) {
            if world.faulty && world.random.u8(0..4) == 0 {
                world.met("the target of alerts takes nothing");
                self.outbox.refused(&due);
                break;
            }
            self.messages.taken(&due, &mut world);
            self.outbox.taken(&due, now.wall);
        }
    }

    /// Loads that are not archived.
    pub(crate) fn open_loads(&self) -> Vec<Load> {
        let Some(running) = &self.running else { return Vec::new() };
        let snapshot = running.owner.snapshot().unwrap();
        let open = snapshot.loads.into_iter();
        open.filter(|load| !::ingester::is_archived(load)).collect()
    }

    /// Messages of alerts whose end was not told.
    pub(crate) fn told(&self) -> Vec<String> {
        self.messages.open()
    }
}
