//! `ingester run`: verifies what it can before the start, starts the tasks and waits for them.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::schema::Schema;
use shared::shutdown::Shutdown;
use state::status::activity::{Activity, Component, Reporter};
use state::status::feed;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::archive::Archiver;
use crate::commands::reconcile::Reconciler;
use crate::discover::Discovery;
use crate::discover::feed::Follower;
use crate::facts::unknown_folders::UnknownFolders;
use crate::identity::Identity;
use crate::load::Loader;
use crate::load::pause::Pauses;
use crate::load_store::LoadStore;
use crate::loads_owner::LoadsOwner;
use crate::redshift::{Connector, Target, catalog};

/// Hints that may wait for discovery; with more of them the feed waits too.
const HINTS: usize = 1024;

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
    };
    // Serve the status first, so that `state dump` shows what a start waits for.
    tasks.spawn(serve_metrics(&config, owner.clone(), complete, clock.clone(), shutdown.clone()));
    tasks.spawn(answer(config.ingester_socket(), owner, clock.clone(), shutdown.clone()));
    // A pause may be for Redshift's sake: then the loader verifies both before its first load.
    if pauses.at(clock.wall()).is_none() {
        let discovering = activity.reporter(Component::Discovery);
        let verified = verify(&config, &schema, (&connector, &target), &store, &discovering);
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
    tasks.spawn(discovery.run(shutdown.clone()));
    tasks.spawn(loader.run(shutdown.clone(), patience));
    tasks.spawn(archiver.run(shutdown.clone(), patience));
    tasks.spawn(reconciler.run(listed, shutdown.clone()));
    tasks.spawn(follower.run(shutdown.clone()).map(Ok));
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

fn serve_metrics(
    config: &Config,
    owner: LoadsOwner,
    complete: watch::Receiver<Steady>,
    clock: Clock,
    shutdown: Shutdown,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let alert_after = config.ingester.alert_after;
    let wall = clock.clone();
    let page = move || {
        let mut page = owner.page(alert_after, wall.wall())?;
        // No snapshot has it: it is this process's alone.
        page.gauge(
            "since_complete_listing_seconds",
            "Time since S3 was last listed completely, or since the start",
            complete.borrow().until(wall.steady()).as_secs_f64(),
        );
        Ok(page)
    };
    shared::admin::serve(config.metrics.ingester_listen.clone(), page, clock, shutdown).map(Ok)
}

async fn answer(socket: PathBuf, owner: LoadsOwner, clock: Clock, shutdown: Shutdown) -> Result<(), Failure> {
    feed::serve(&socket, Arc::new(owner), clock, shutdown).await.map_err(|error| {
        let exit = shared::exit::io_exit(&error);
        Failure::new(exit, anyhow::anyhow!("cannot make the socket {}: {error}", socket.display()))
    })
}

/// Who loads, for the ledger: version, host and process.
fn loader_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("unknown");
    format!("ingester {} {host} {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
