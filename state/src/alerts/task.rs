//! Looks every few seconds at what the service knows of itself, and has the targets told. It waits for nobody: a target that
//! is slow or away has a task of its own, and what is to be sent is bounded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::boxed::Boxed;
use shared::clock::{Clock, Steady};
use shared::config::{Config, Severity};
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alerts::heartbeat::Heartbeat;
use crate::alerts::judge::Judge;
use crate::alerts::kept::{Keeper, Kept};
use crate::alerts::message::Origin;
use crate::alerts::rules::{Watched, all};
use crate::alerts::send::Sender;
use crate::alerts::target::Target;
use crate::status::activity::{Activity, Component, Reporter};
use crate::status::alert::Alert;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(5);
/// A stop waits so long for a disk that does not answer. What is not noted is sent once more.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What a service gives for its alerts.
#[derive(Clone)]
pub struct Watch<F> {
    /// Its directory, which keeps what was sent.
    pub dir: PathBuf,
    /// Where its snapshots take from which alerts stand and which targets fail.
    pub activity: Activity,
    /// Reads what it knows of itself. May block.
    pub look: F,
}

/// The task that judges a service and tells the targets of the configuration, until shutdown. When another configuration
/// comes, all of it ends, and begins again from what is kept in memory: the file of that is read once, at the start, since a
/// full disk leaves it behind. Fails if no request could be sent with the first configuration.
pub fn start<S, F>(
    mut configs: watch::Receiver<Arc<Config>>,
    watch: Watch<F>,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Boxed<'static, ()>, Failure>
where
    S: Watched,
    F: Fn() -> Result<S, Failure> + Clone + Send + Sync + 'static,
{
    let (clock, shutdown) = (clock.clone(), shutdown.clone());
    let mut until = shutdown.child();
    let first = configs.borrow_and_update().clone();
    let keeper = Keeper::open(&watch.dir, target_names(&first));
    let mut task = begin(&first, watch.clone(), keeper.clone(), &clock, &until)?;
    Ok(Box::pin(async move {
        loop {
            tokio::select! {
                () = &mut task => return,
                Ok(()) = configs.changed() => {}
            }
            until.stop();
            task.await;
            watch.activity.forget(Component::Alerts);
            until = shutdown.child();
            let config = configs.borrow_and_update().clone();
            keeper.retarget(target_names(&config));
            match begin(&config, watch.clone(), keeper.clone(), &clock, &until) {
                Ok(next) => task = next,
                // The reload has checked what can be wrong.
                Err(failure) => {
                    tracing::warn!(%failure, "no alert is sent before a restart");
                    return;
                }
            }
        }
    }))
}

fn begin<S, F>(
    config: &Config,
    watch: Watch<F>,
    keeper: Keeper,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Boxed<'static, ()>, Failure>
where
    S: Watched,
    F: Fn() -> Result<S, Failure> + Send + Sync + 'static,
{
    known_names(config)?;
    let sender = Sender::new(&config.s3.egress)?;
    let (changed, _) = watch::channel(0);
    let (well, seen_well) = watch::channel(None);
    let reporters: Vec<_> = (0..=config.alert_targets.len())
        .map(|number| watch.activity.reporter_of(Component::Alerts, u8::try_from(number).unwrap_or(u8::MAX)))
        .collect();
    let mut tasks: Vec<Boxed<'static, ()>> = Vec::new();
    for (target, reporter) in config.alert_targets.iter().zip(&reporters) {
        let target = Target {
            config: target.clone(),
            repeat: config.alerts.repeat.0,
            origin: Origin::new(S::SERVICE, config),
            sender: sender.clone(),
            keeper: keeper.clone(),
            reporter: reporter.clone(),
            clock: clock.clone(),
        };
        tasks.push(Box::pin(target.run(changed.subscribe(), shutdown.clone())));
    }
    tasks.extend(
        heartbeat::<S>(config, sender, reporters, clock)
            .map(|heartbeat| -> Boxed<'static, ()> { Box::pin(heartbeat.run(seen_well, shutdown.clone())) }),
    );
    let judging = Judging {
        least: config.alert_targets.iter().map(|target| (target.name.clone(), target.severity)).collect(),
        docs: config.alerts.docs.clone(),
        off: config.alerts.off.clone(),
        activity: watch.activity,
        look: Arc::new(watch.look),
        keeper,
        changed,
        well,
        clock: clock.clone(),
    };
    let (last, clock) = (judging.keeper.clone(), clock.clone());
    tasks.push(Box::pin(judging.run(shutdown.clone())));
    Ok(Box::pin(async move {
        let mut running: JoinSet<()> = tasks.into_iter().collect();
        while running.join_next().await.is_some() {}
        last.written(clock.sleep(LAST_WRITE)).await;
    }))
}

fn target_names(config: &Config) -> impl Iterator<Item = String> {
    config.alert_targets.iter().map(|target| target.name.clone())
}

/// Fails if `alerts.off` has a name that no rule of either service has.
pub fn known_names(config: &Config) -> Result<(), Failure> {
    let names: Vec<_> = all().into_iter().map(|(_, about)| about.name).collect();
    match config.alerts.off.iter().find(|off| !names.contains(&off.as_str())) {
        None => Ok(()),
        Some(off) => {
            let names = names.join(", ");
            let text = format!("alerts.off has {off:?}, which is no alert; there are {names}");
            Err(Failure::new(Exit::Config, anyhow::anyhow!(text)))
        }
    }
}

fn heartbeat<S: Watched>(
    config: &Config,
    sender: Sender,
    mut reporters: Vec<Reporter>,
    clock: &Clock,
) -> Option<Heartbeat> {
    let alerts = &config.alerts;
    let address =
        if S::SERVICE == "producer" { &alerts.producer_heartbeat } else { &alerts.ingester_heartbeat };
    let reporter = reporters.pop().filter(|_| !address.is_empty())?;
    Some(Heartbeat {
        address: address.clone(),
        interval: alerts.heartbeat_interval.0,
        sender,
        reporter,
        targets: reporters,
        clock: clock.clone(),
    })
}

struct Judging<F> {
    /// From which severity on each target is told.
    least: Vec<(String, Severity)>,
    docs: String,
    off: Vec<String>,
    activity: Activity,
    look: Arc<F>,
    keeper: Keeper,
    changed: watch::Sender<u64>,
    well: watch::Sender<Option<Steady>>,
    clock: Clock,
}

impl<F> Judging<F> {
    async fn run<S>(self, shutdown: Shutdown)
    where
        S: Watched,
        F: Fn() -> Result<S, Failure> + Send + Sync + 'static,
    {
        let before = self.keeper.read(Kept::before);
        let mut judge = Judge::new::<S>(&before, self.docs.clone(), &self.off, self.clock.steady());
        let mut unseen = false;
        loop {
            let look = self.look.clone();
            let looking = tokio::task::spawn_blocking(move || look());
            // Not cut short by a stop: the thread would go on all the same.
            match looking.await {
                Ok(Ok(figures)) => {
                    unseen = false;
                    let lasting = figures.counters().into_iter();
                    let lasting = lasting.filter(|(name, _)| S::lasting().contains(&name.as_str()));
                    self.follow(judge.look(&figures, self.clock.now()), lasting.collect());
                }
                Ok(Err(failure)) if !std::mem::replace(&mut unseen, true) => {
                    tracing::warn!(%failure, "alerts: the service cannot be looked at");
                }
                // The heartbeat stops, since nobody was seen to be well.
                _ => {}
            }
            if shutdown.until(self.clock.sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    fn follow(&self, alerts: Vec<Alert>, counters: BTreeMap<String, u64>) {
        let is_well = alerts.iter().all(|alert| alert.severity < Severity::Critical);
        if is_well {
            self.well.send_replace(Some(self.clock.steady()));
        } else {
            self.well.send_replace(None);
        }
        let before = self.activity.alerts();
        let is_in = |alert: &Alert, list: &[Alert]| list.iter().any(|other| other.name == alert.name);
        for alert in alerts.iter().filter(|alert| !is_in(alert, &before)) {
            let Alert { name, severity, says, .. } = alert;
            tracing::info!(alert = %name, severity = severity.name(), %says, "an alert stands");
        }
        for alert in before.iter().filter(|alert| !is_in(alert, &alerts)) {
            tracing::info!(alert = %alert.name, "the alert is over");
        }
        self.activity.set_alerts(alerts.clone());
        let now = self.clock.wall();
        let follow = |kept: &mut Kept| {
            let mut is_other = kept.follow(alerts, counters);
            for (name, least) in &self.least {
                if let Some(outbox) = kept.targets.get_mut(name) {
                    is_other |= outbox.follow(&kept.standing, *least, now);
                }
            }
            if is_other {
                self.changed.send_modify(|changes| *changes += 1);
            }
            is_other
        };
        self.keeper.change(follow);
    }
}

#[cfg(test)]
mod tests;
