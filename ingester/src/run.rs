//! `ingester run`: opens what is needed, starts the tasks and waits for them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::inspect::metrics::ingester_page;
use state::status::feed::{self, Owner};
use tokio::sync::mpsc;
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
use crate::redshift::{Connector, Target, table};

/// Hints that may wait for discovery; a follower with more of them waits too.
const HINTS: usize = 1024;

/// Loads batches until `shutdown`.
///
/// # Errors
/// When the configuration cannot be used, every COPY into the table as it is would fail, or the bookkeeping or its
/// socket fails. S3 and Redshift being away are waited for.
pub(crate) async fn run(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(&config, &schema, loader_name());
    let connector = Connector::new(&config, &format!("livestream ingester {}", config.instance.name))?;
    let load_store = LoadStore::open(&config.ingester.dir)?;
    let pauses = Pauses::new(&config, load_store.loads())?;
    // A pause may be for Redshift's sake; the table is looked at before the first load all the same.
    if pauses.at(Utc::now()).is_none() {
        let looked = shutdown.until(table::refuse_unloadable(&config, &schema, &connector)).await;
        looked.unwrap_or(Ok(()))?;
    }
    let store = ObjectStore::connect(&config.s3).await;
    if pauses.at(Utc::now()).is_none() {
        let identity = Identity::new(&config, store.clone());
        let looked = shutdown.until(identity.refuse_to_begin(&connector, &target)).await;
        looked.unwrap_or(Ok(()))?;
    }
    let (batches, rows) = load_store.pending();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        from = format!("s3://{}/{}", config.s3.bucket, config.s3.to_ingest),
        to = format!("{}/{}", config.redshift.host, config.redshift.table.table()),
        login = %connector.login(),
        pending_batches = batches,
        pending_rows = rows,
        "ingester started"
    );

    let unknown_folders = UnknownFolders::default();
    let (hints, hinted) = mpsc::channel(HINTS);
    let patience = patience(&config);
    let clock = Clock::system();
    let mut discovery = Discovery::new(
        &config,
        store.clone(),
        load_store.clone(),
        unknown_folders.clone(),
        hinted,
        clock.clone(),
    )?;
    let follower = Follower::new(config.producer_socket(), hints.clone(), clock.clone());
    let archiver = Archiver::new(&config, store.clone(), load_store.clone(), clock.clone());
    let reconciling = Connector::new(&config, "livestream ingester reconcile")?;
    let (listed, complete) = (discovery.listed(), discovery.complete());
    let reconciler = Reconciler::new(
        &config,
        target.clone(),
        reconciling,
        store.clone(),
        load_store.clone(),
        pauses.clone(),
        clock.clone(),
    );
    let loader = Loader::new(
        &config,
        target,
        connector,
        store,
        (load_store.clone(), unknown_folders, hints),
        pauses.clone(),
    );

    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();
    tasks.spawn(discovery.run(shutdown.clone()));
    tasks.spawn(loader.run(shutdown.clone(), patience));
    tasks.spawn(archiver.run(shutdown.clone(), patience));
    tasks.spawn(reconciler.run(listed, shutdown.clone()));
    let alert_after = config.ingester.alert_after;
    let (listen, shown) = (config.metrics.ingester_listen.clone(), pauses.clone());
    let metrics = shared::admin::serve(
        listen,
        move || {
            let mut page = ingester_page(&shown.snapshot()?, alert_after, Utc::now());
            // No snapshot has it: it is this process's alone.
            page.gauge(
                "since_complete_listing_seconds",
                "Time since S3 was last looked through completely, or since the start",
                complete.borrow().until(clock.steady()).as_secs_f64(),
            );
            Ok(page)
        },
        shutdown.clone(),
    );
    tasks.spawn(async move {
        metrics.await;
        Ok(())
    });
    tasks.spawn(answer(config.ingester_socket(), pauses, shutdown.clone()));
    let following = shutdown.clone();
    tasks.spawn(async move {
        follower.run(following).await;
        Ok(())
    });

    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // A panic is a fault of the program; the others are stopped in order all the same.
        let ended = ended.unwrap_or_else(|fault| Err(Failure::new(Exit::Software, fault)));
        if let Err(failure) = ended {
            tracing::error!(%failure, "the ingester cannot go on");
            shutdown.stop();
            outcome = outcome.and(Err(failure));
        }
    }
    tracing::info!("ingester stopped");
    outcome
}

/// Time for work under way after a stop was asked for: what is left of `shutdown.timeout` is for ending the rest.
fn patience(config: &Config) -> Duration {
    config.shutdown.timeout.0.mul_f64(0.75)
}

async fn answer(socket: std::path::PathBuf, owner: Pauses, shutdown: Shutdown) -> Result<(), Failure> {
    feed::serve(&socket, Arc::new(owner), shutdown).await.map_err(|error| {
        let exit = shared::exit::io_exit(&error);
        Failure::new(exit, anyhow::anyhow!("the socket {} cannot be made: {error}", socket.display()))
    })
}

/// Who loads, for the ledger: version, host and process.
fn loader_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "unknown" } else { host };
    format!("ingester {} {host} {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
