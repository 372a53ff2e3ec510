//! `ingester run`: verifies what it can before the start, starts the tasks and waits for them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::de::IgnoredAny;
use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::schema::Schema;
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use shared::systemd::{ServiceManager, Start};
use state::inspect::status_line;
use state::reload::{Asked, Reloader};
use state::status::activity::{Activity, Component};
use state::status::feed::{self, Owner};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::alerts;
use crate::archive::Archiver;
use crate::commands::reconcile::Reconciler;
use crate::discover::Discovery;
use crate::discover::feed::Follower;
use crate::facts::unknown_folders::UnknownFolders;
use crate::identity::Identity;
use crate::load::Loader;
use crate::load_store::LoadStore;
use crate::loads_owner::LoadsOwner;
use crate::redshift::{Connector, Target, catalog};
use crate::reload::Ingester;
use crate::services::Services;
use crate::shown;

/// Hints that may wait for discovery; with more of them the feed waits too.
const HINTS: usize = 1024;
/// How often to see, at the start, whether the socket answers.
const READY_POLL: Duration = Duration::from_millis(50);

type Tasks = JoinSet<Result<(), Failure>>;

/// Loads batches until `shutdown`. While S3 or Redshift is away, it waits.
pub(crate) async fn run(
    config: Config,
    Asked { shutdown, requests, level }: Asked,
    clock: Clock,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(&config, &schema, loader_name());
    let activity = Activity::new(clock.clone());
    let connector = |application: &str, component| -> Result<Connector, Failure> {
        Ok(Connector::new(&config, application, clock.clone())?.reporting(activity.reporter(component)))
    };
    let loading = connector(&format!("livestream ingester {}", config.instance.name), Component::Load)?;
    let reconciling = connector("livestream ingester reconcile", Component::Reconcile)?;
    let manager = ServiceManager::of_environment(clock.clone());
    let start = manager.begin_start("opening the load store");
    let load_store = LoadStore::open(&config.ingester.dir, config.ingester.load_interval.0, &clock)?;
    let store = ObjectStore::connect(&config.s3).await;
    let services = Services::new(config, store, load_store, activity, clock, shutdown.clone())?;
    let (unknown_folders, (hints, hinted)) = (UnknownFolders::default(), mpsc::channel(HINTS));
    let mut discovery = Discovery::new(&services, unknown_folders.clone(), hinted)?;
    let (listed, complete) = (discovery.listed(), discovery.complete());

    let mut tasks = Tasks::new();
    let owner = LoadsOwner::new(&services);
    // Serve the status first, so that `state dump` shows what a start waits for.
    let page_token = watch::Sender::new(services.config.metrics.token.clone());
    let told = watch::Sender::new(services.config.clone());
    serve_status(&mut tasks, &owner, (&page_token, &told), complete)?;
    // A pause may be for Redshift's sake: then the loader verifies both before its first load.
    if services.pauses.present().is_none() {
        let verified = verify(&services, &schema, &loading, &target);
        let verified = start.waiting_for("verifying table and prefixes in Redshift and S3", verified);
        if let Some(Err(refusal)) = shutdown.until(verified).await {
            shutdown.stop();
            while tasks.join_next().await.is_some() {}
            return Err(refusal);
        }
    }
    report_start(&services, &loading);
    let Services { config, clock, .. } = &services;
    let follower = Follower::new(config.producer_socket(), hints.clone(), clock.clone());
    let archiver = Archiver::new(&services);
    let targets = watch::Sender::new(target);
    let reconciler = Reconciler::new(&services, targets.subscribe(), reconciling.clone());
    let loader = Loader::new(&services, targets.subscribe(), loading.clone(), unknown_folders, hints);
    // What is left of the time limit is for ending the rest.
    let patience = config.shutdown.timeout.0.mul_f64(0.75);
    tasks.spawn(manager.watch("discovery").run(discovery.run()));
    tasks.spawn(manager.watch("load").run(loader.run(patience)));
    tasks.spawn(archiver.run(patience));
    tasks.spawn(reconciler.run(listed));
    tasks.spawn(follower.run(shutdown.clone()).map(Ok));
    let line = move || Some(status_line::ingester(&owner.snapshot().ok()?));
    manager.keep_told(line, config.shutdown.timeout.0, shutdown.clone());
    let connectors = [loading, reconciling];
    let service = Ingester { targets, connectors, services: services.clone(), page_token, alerts: told };
    let (config, activity) = (Config::clone(&services.config), services.activity.clone());
    let reloader = Reloader { service, config, schema, level, manager, activity };
    tasks.spawn(tell_ready(start, services.clone(), reloader.run(requests, shutdown.clone())));
    wait(tasks, &shutdown).await
}

/// The alerts, the page and the socket. `complete` says when S3 was last listed completely.
fn serve_status(
    tasks: &mut Tasks,
    owner: &LoadsOwner,
    (page_token, told): (&watch::Sender<Secret>, &watch::Sender<Arc<Config>>),
    complete: watch::Receiver<Steady>,
) -> Result<(), Failure> {
    tasks.spawn(alerts::start(owner.clone(), told.subscribe(), complete.clone())?.map(Ok));
    tasks.spawn(shown::serve(owner.clone(), page_token.subscribe(), complete));
    tasks.spawn(answer(owner.clone()));
    Ok(())
}

/// Refuses to start with a table that no COPY can fill, or with prefixes or a ledger of another pipeline.
async fn verify(
    services: &Services,
    schema: &Schema,
    connector: &Connector,
    target: &Target,
) -> Result<(), Failure> {
    let Services { config, store, activity, .. } = services;
    catalog::refuse_unloadable(config, schema, connector).await?;
    let discovery = activity.reporter(Component::Discovery);
    discovery.begins("comparing the owner of the prefixes");
    let ours = Identity::new(config, store.clone()).refuse_start(connector, target).await;
    discovery.waits();
    ours
}

fn report_start(services: &Services, connector: &Connector) {
    let config = &services.config;
    let (batches, rows) = services.load_store.pending();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        from = format!("s3://{}/{}", config.s3.bucket, config.s3.to_ingest),
        to = format!("{}/{}", config.redshift.host, config.redshift.table.table()),
        login = %connector.login(),
        pending_batches = batches,
        pending_rows = rows,
        "ingester started"
    );
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

async fn answer(owner: LoadsOwner) -> Result<(), Failure> {
    let Services { config, clock, shutdown, .. } = owner.services.clone();
    let socket = config.ingester_socket();
    feed::serve(&socket, Arc::new(owner), clock, shutdown).await.map_err(|error| {
        let exit = shared::exit::io_exit(&error);
        Failure::new(exit, anyhow::anyhow!("cannot make the socket {}: {error}", socket.display()))
    })
}

/// Ready is an ingester whose socket answers: `state dump` and the commands find it. From then on it is reloaded: a service
/// manager that hears of a reload takes the service for ready.
async fn tell_ready(
    start: Start,
    services: Services,
    reloading: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let socket = services.config.ingester_socket();
    let answers = async {
        while feed::snapshot::<IgnoredAny>(&socket).await.is_err() {
            services.clock.sleep(READY_POLL).await;
        }
    };
    if services.shutdown.until(answers).await.is_some() {
        start.ready("ready to load");
        reloading.await;
    }
    Ok(())
}

/// Who loads, for the ledger: version, host and process.
fn loader_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("unknown");
    format!("ingester {} {host} {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
