//! What the producer shows of itself: on its socket, on its page, in its metrics and in its history.

use std::sync::Arc;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::metrics::Page;
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use state::inspect::board::{Board, Own, missing};
use state::inspect::metrics::{activity_figures, producer_page};
use state::log::LogReader;
use state::status::activity::Activity;
use state::status::feed::Owner;
use state::status::history::History;
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::watch;

use crate::counters::Counters;

/// Clones show the same producer.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) log: LogReader,
    pub(crate) activity: Activity,
    pub(crate) counters: Arc<Counters>,
    pub(crate) history: History,
}

impl Shown {
    /// The log at this moment, and what the service is doing.
    pub(crate) fn snapshot(&self) -> Result<ProducerSnapshot, Failure> {
        Ok(ProducerSnapshot {
            components: self.activity.components(),
            alerts: self.activity.alerts(),
            configuration: self.activity.configuration(),
            counters: Some(self.counters.snapshot(self.history.since())),
            drift: Some(Box::new(self.counters.drift.snapshot())),
            ..Owner::snapshot(&self.log)?
        })
    }

    /// Serves the page and the figures, and keeps their history, until shutdown.
    pub(crate) fn serve(
        self,
        config: &Config,
        token: watch::Receiver<Secret>,
        clock: Clock,
        shutdown: Shutdown,
    ) {
        let listen = config.metrics.producer_listen.clone();
        let (figures, ready, read) = (self.clone(), self.clone(), self.clone());
        let (wall, now) = (clock.clone(), clock.clone());
        let own = Own {
            config: config.clone(),
            clock: clock.clone(),
            history: self.history.clone(),
            figures: Box::new(move || figures.figures(&wall)),
            missing: Box::new(move || missing(&ready.activity.components(), now.wall())),
        };
        let board = Board::of_producer(own, move || read.snapshot());
        tokio::spawn(shared::admin::serve(listen, token, board, clock, shutdown.clone()));
        let history = self.history.clone();
        tokio::spawn(history.keep(move || Ok(self.snapshot()?.reading()), shutdown));
    }

    fn figures(&self, clock: &Clock) -> Result<Page, Failure> {
        let mut page = producer_page(&self.snapshot()?, clock.wall());
        self.counters.show(&mut page);
        activity_figures(&mut page, &self.activity, clock.wall());
        Ok(page)
    }
}
