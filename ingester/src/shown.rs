//! Serves the ingester's page and figures, and keeps their history.

use futures_util::FutureExt;
use shared::clock::Steady;
use shared::config::Config;
use shared::exit::Failure;
use shared::secret::Secret;
use state::inspect::board::{Board, Own, missing};
use state::status::feed::Owner;
use state::status::snapshot::LoadedRows;
use tokio::sync::watch;

use crate::loads_owner::LoadsOwner;
use crate::services::Services;

/// Serves until shutdown. `complete` says when S3 was last listed completely, and before that when this process began.
pub(crate) fn serve(
    owner: LoadsOwner,
    token: watch::Receiver<Secret>,
    complete: watch::Receiver<Steady>,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let Services { config, activity, clock, shutdown, .. } = owner.services.clone();
    let listen = config.metrics.ingester_listen.clone();
    let list_interval = config.ingester.list_interval.0.as_secs_f64();
    let (history, read) = (owner.history.clone(), owner.clone());
    let (read_past, mut loaded) = (owner.clone(), LoadedRows::since(clock.wall()));
    tokio::spawn(
        history.clone().keep(move || Ok(read_past.snapshot()?.reading(&mut loaded)), shutdown.clone()),
    );

    let (begun, listed, ready, now) = (*complete.borrow(), complete.clone(), activity, clock.clone());
    let is_missing = move || {
        let mut missing = missing(&ready.components(), now.wall());
        if *listed.borrow() == begun {
            missing.push("discovery: S3 was not listed completely yet".to_owned());
        }
        missing
    };
    let wall = clock.clone();
    let figures = move || {
        let mut page = owner.page()?;
        // No snapshot has it: it is this process's alone.
        page.gauge(
            "since_complete_listing_seconds",
            "Time since S3 was last listed completely, or since the start",
            complete.borrow().until(wall.steady()).as_secs_f64(),
        );
        let help = "ingester.list_interval: S3 is to be listed so often";
        page.gauge("list_interval_seconds", help, list_interval);
        Ok(page)
    };
    let own = Own {
        config: Config::clone(&config),
        clock: clock.clone(),
        history,
        figures: Box::new(figures),
        missing: Box::new(is_missing),
    };
    let board = Board::of_ingester(own, move || read.snapshot());
    shared::admin::serve(listen, token, board, clock, shutdown).map(Ok)
}
