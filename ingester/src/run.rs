//! `ingester run`: verifies what it can before the start, starts the tasks and waits for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::de::IgnoredAny;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::schema::Schema;
use shared::shutdown::Shutdown;
use shared::systemd::{ServiceManager, Start};
use state::inspect::status_line;
use state::status::activity::{Activity, Component, Reporter};
use state::status::feed::{self, Owner};
use state::status::history::History;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::alerts;
use crate::archive::Archiver;
use crate::commands::reconcile::Reconciler;
use crate::discover::Discovery;
use crate::discover::feed::Follower;
use crate::facts::unknown_folders::UnknownFolders;
use crate::identity::Identity;
use crate::load::Loader;
use crate::load::pause::Pauses;
use crate::load_store::LoadStore;
use crate::loads_owner::{Idle, LoadsOwner};
use crate::redshift::{Connector, Target, catalog};
use crate::shown;

/// Hints that may wait for discovery; with more of them the feed waits too.
const HINTS: usize = 1024;
/// How often to see, at the start, whether the socket answers.
const READY_POLL: Duration = Duration::from_millis(50);

type Tasks = JoinSet<Result<(), Failure>>;

/// Loads batches until `shutdown`. While S3 or Redshift is away, it waits.
pub(crate) async fn run(config: Config, clock: Clock, shutdown: Shutdown) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(&config, &schema, loader_name());
    let activity = Activity::new(clock.clone());
    let loading = activity.reporter(Component::Load);
    let application = format!("livestream ingester {}", config.instance.name);
    let connector = Connector::new(&config, &application, clock.clone())?.reporting(loading.clone());
    let reconcile = activity.reporter(Component::Reconcile);
    let reconciling =
        Connector::new(&config, "livestream ingester reconcile", clock.clone())?.reporting(reconcile.clone());
    let manager = ServiceManager::of_environment(clock.clone());
    let start = manager.begin_start("opening the load store");
    let load_store = LoadStore::open(&config.ingester.dir, config.ingester.load_interval.0, &clock)?;
    let pauses = Pauses::new(&config.ingester.pause, load_store.loads(), &clock)?;
    let store = ObjectStore::connect(&config.s3).await;
    let (unknown_folders, (hints, hinted)) = (UnknownFolders::default(), mpsc::channel(HINTS));
    let (known, unknown) = (load_store.clone(), unknown_folders.clone());
    let mut discovery = Discovery::new(
        &config,
        store.clone(),
        known,
        unknown,
        hinted,
        activity.reporter(Component::Discovery),
        clock.clone(),
    )?;
    let (listed, complete) = (discovery.listed(), discovery.complete());

    let mut tasks = Tasks::new();
    let owner = LoadsOwner {
        load_store: load_store.clone(),
        pauses: pauses.clone(),
        activity: activity.clone(),
        load_rows: config.ingester.load_rows,
        history: History::new(clock.clone()),
        idle: Idle::default(),
    };
    let telling = alerts::start(&config, owner.clone(), complete.clone(), &clock, &shutdown)?;
    // Serve the status first, so that `state dump` shows what a start waits for.
    tasks.spawn(telling.map(Ok));
    tasks.spawn(shown::serve(&config, owner.clone(), complete, clock.clone(), shutdown.clone()));
    tasks.spawn(answer(config.ingester_socket(), owner.clone(), clock.clone(), shutdown.clone()));
    // A pause may be for Redshift's sake: then the loader verifies both before its first load.
    if pauses.at(clock.wall()).is_none() {
        let discovering = activity.reporter(Component::Discovery);
        let verified = verify(&config, &schema, (&connector, &target), &store, &discovering);
        let verified = start.waiting_for("verifying table and prefixes in Redshift and S3", verified);
        if let Some(Err(refusal)) = shutdown.until(verified).await {
            shutdown.stop();
            while tasks.join_next().await.is_some() {}
            return Err(refusal);
        }
    }
    let (batches, rows) = load_store.pending();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        from = format!("s3://{}/{}", config.s3.bucket, config.s3.to_ingest),
        to = format!("{}/{}", config.redshift.host, config.redshift.table.table()),
        login = %connector.login,
        pending_batches = batches,
        pending_rows = rows,
        "ingester started"
    );

    let follower = Follower::new(config.producer_socket(), hints.clone(), clock.clone());
    let archiving = activity.reporter(Component::Archive);
    let archiver = Archiver::new(&config, store.clone(), load_store.clone(), archiving, clock.clone());
    let reconciler = Reconciler::new(
        &config,
        target.clone(),
        (reconciling, reconcile),
        store.clone(),
        load_store.clone(),
        pauses.clone(),
        clock.clone(),
    );
    let to_load = (load_store, unknown_folders, hints);
    let loader = Loader::new(&config, target, (connector, loading), store, to_load, pauses.clone(), &clock);
    // What is left of the time limit is for ending the rest.
    let patience = config.shutdown.timeout.0.mul_f64(0.75);
    tasks.spawn(manager.watch("discovery").run(discovery.run(shutdown.clone())));
    tasks.spawn(manager.watch("load").run(loader.run(shutdown.clone(), patience)));
    tasks.spawn(archiver.run(shutdown.clone(), patience));
    tasks.spawn(reconciler.run(listed, shutdown.clone()));
    tasks.spawn(follower.run(shutdown.clone()).map(Ok));
    let line = move || Some(status_line::ingester(&owner.snapshot().ok()?));
    manager.keep_told(line, config.shutdown.timeout.0, shutdown.clone());
    tasks.spawn(tell_ready(start, config.ingester_socket(), clock, shutdown.clone()));
    wait(tasks, &shutdown).await
}

/// Refuses to start with a table that no COPY can fill, or with prefixes or a ledger of another pipeline.
async fn verify(
    config: &Config,
    schema: &Schema,
    (connector, target): (&Connector, &Target),
    store: &ObjectStore,
    discovery: &Reporter,
) -> Result<(), Failure> {
    catalog::refuse_unloadable(config, schema, connector).await?;
    discovery.begins("comparing the owner of the prefixes");
    let ours = Identity::new(config, store.clone()).refuse_start(connector, target).await;
    discovery.waits();
    ours
}

async fn wait(mut tasks: Tasks, shutdown: &Shutdown) -> Result<(), Failure> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // A panic is a fault of the program; the others are stopped in order all the same.
        let ended = ended.unwrap_or_else(|fault| Err(Failure::new(Exit::Software, fault)));
        if let Err(failure) = ended {
            tracing::error!(%failure, "the ingester cannot go on");
            shutdown.stop();
            outcome = outcome.and(Err(failure.logged()));
        }
    }
    tracing::info!("ingester stopped");
    outcome
}

async fn answer(socket: PathBuf, owner: LoadsOwner, clock: Clock, shutdown: Shutdown) -> Result<(), Failure> {
    feed::serve(&socket, Arc::new(owner), clock, shutdown).await.map_err(|error| {
        let exit = shared::exit::io_exit(&error);
        Failure::new(exit, anyhow::anyhow!("cannot make the socket {}: {error}", socket.display()))
    })
}

/// Ready is an ingester whose socket answers: `state dump` and the commands find it.
async fn tell_ready(start: Start, socket: PathBuf, clock: Clock, shutdown: Shutdown) -> Result<(), Failure> {
    let answers = async {
        while feed::snapshot::<IgnoredAny>(&socket).await.is_err() {
            clock.sleep(READY_POLL).await;
        }
    };
    if shutdown.until(answers).await.is_some() {
        start.ready("ready to load");
    }
    Ok(())
}

/// Who loads, for the ledger: version, host and process.
fn loader_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("unknown");
    format!("ingester {} {host} {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
