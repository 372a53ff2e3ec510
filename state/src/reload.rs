//! A running service reads its configuration again when SIGHUP asks for it: wholly, or not at all.
//!
//! ```text
//! SIGHUP ──► read and check, as at a start ──► prepare: all that can fail ──► take: nothing that can fail
//!                   └──────── a fault: the service goes on as before, and says what is wrong ────────┘
//! ```
//! A panic is a fault too: it must not end the service, nor leave it deaf to the next request. Should `take` panic, parts may
//! have new values already; the configuration counts as the old one, so that the next reload gives out all of it again.
//!
//! In memory only: a start reads the file.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use shared::blocking::blocking;
use shared::config::{Config, Reloaded};
use shared::exit::{Exit, Failure};
use shared::schema::Schema;
use shared::shutdown::{ReloadRequests, Shutdown};
use shared::systemd::ServiceManager;
use shared::telemetry::LogLevel;

use crate::status::activity::{Activity, Component};

/// Files that a disk of the network does not give are not waited for: a service manager waits for a reload.
const READING: Duration = Duration::from_secs(30);

/// A service whose configuration may change while it runs.
pub trait Reloads: Send + Sync + 'static {
    /// What [`Reloads::take`] needs beside the configuration.
    type Ready: Send;

    /// Makes what the new configuration needs, and refuses it where a start would. Changes nothing.
    fn prepare(&self, new: &Reloaded) -> impl Future<Output = Result<Self::Ready, Failure>> + Send;

    /// Gives the new configuration to the parts of the service. Cannot fail, and waits for nobody.
    fn take(&mut self, new: &Reloaded, ready: Self::Ready);
}

/// What signals ask of a service, and what a reload changes outside of it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Asked {
    pub shutdown: Shutdown,
    pub requests: ReloadRequests,
    pub level: LogLevel,
}

/// Reloads the configuration of one service.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Reloader<S> {
    pub service: S,
    /// What the service runs with.
    pub config: Config,
    pub schema: Schema,
    pub level: LogLevel,
    pub manager: ServiceManager,
    pub activity: Activity,
}

impl<S: Reloads> Reloader<S> {
    /// Serves requests until shutdown. A request that comes while one is served is served next: the last file counts.
    pub async fn run(mut self, mut requests: ReloadRequests, shutdown: Shutdown) {
        while shutdown.until(requests.next()).await.is_some() {
            self.manager.begins_reload();
            if shutdown.until(self.reload()).await.is_none() {
                return;
            }
            self.manager.ends_reload();
        }
    }

    async fn reload(&mut self) {
        let read = caught(self.read()).await.and_then(|read| read);
        if let Err(failure) = read.and_then(|(new, ready)| self.take(new, ready)) {
            self.refuse(&failure);
        }
    }

    async fn read(&self) -> Result<(Reloaded, S::Ready), Failure> {
        let (config, schema) = (self.config.clone(), self.schema.clone());
        let reading = tokio::time::timeout(READING, blocking(move || config.reload(&schema)));
        let late =
            || anyhow::anyhow!("the configuration, or a file that it names, is not read after {READING:?}");
        let new = reading.await.map_err(|_| Failure::new(Exit::Io, late()))???;
        LogLevel::check(&new.config.logging.level)?;
        let ready = self.service.prepare(&new).await?;
        Ok((new, ready))
    }

    fn take(&mut self, new: Reloaded, ready: S::Ready) -> Result<(), Failure> {
        catch_unwind(AssertUnwindSafe(|| self.service.take(&new, ready))).map_err(|_| panicked())?;
        if new.takes("logging")
            && let Err(failure) = self.level.set(&new.config.logging.level)
        {
            tracing::warn!(%failure, "logging.level is not taken");
        }
        self.activity.reporter(Component::Config).succeeded();
        self.activity.configuration_taken(new.waiting.clone());
        let taken = if new.taken.is_empty() { "nothing".to_owned() } else { new.taken.join(", ") };
        tracing::info!(changed = taken, "configuration reloaded");
        new.config.warn();
        if !new.waiting.is_empty() {
            let keys = new.waiting.join(", ");
            tracing::warn!(
                keys,
                "these changed keys need a restart of the service; until then their old values count"
            );
        }
        (self.config, self.schema) = (new.config, new.schema);
        Ok(())
    }

    fn refuse(&self, failure: &Failure) {
        tracing::error!(%failure, "the configuration is not reloaded; the service goes on with the one it has");
        self.activity.reporter(Component::Config).failed("refused", failure, None);
        self.activity.configuration_refused(&failure.to_string());
    }
}

/// What the work comes to, or that it panicked.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(panicked())),
    })
    .await
}

fn panicked() -> Failure {
    Failure::panicked("the reload", ", and restart the service to take the file")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use shared::clock::Clock;
    use shared::config::{Logging, Secrets};
    use shared::exit::Exit;

    use super::*;

    /// Notes what it takes, refuses one filter, and panics at two others.
    #[derive(Debug, Default)]
    struct Noting(Arc<Mutex<Vec<String>>>);

    impl Reloads for Noting {
        type Ready = String;

        async fn prepare(&self, new: &Reloaded) -> Result<String, Failure> {
            tokio::task::yield_now().await;
            assert!(!has(new, "panics"), "of a panic only the log tells");
            match has(new, "refused") {
                true => Err(Failure::new(Exit::Config, anyhow::anyhow!("filter \"refused\": it is"))),
                false => Ok(new.taken.join(" ")),
            }
        }

        fn take(&mut self, new: &Reloaded, ready: String) {
            assert!(!has(new, "panics late"), "of a panic only the log tells");
            self.0.lock().unwrap().push(ready);
        }
    }

    fn has(new: &Reloaded, filter: &str) -> bool {
        new.config.filters.iter().any(|one| one.name == filter)
    }

    fn write(path: &Path, more: &str) {
        let text = include_str!("../../deploy/pipeline.example.toml");
        std::fs::write(path, format!("{text}\n{more}")).unwrap();
    }

    #[tokio::test]
    async fn a_configuration_is_taken_wholly_or_not_at_all_and_the_status_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipeline.toml");
        write(&path, "");
        let config = Config::load(&path, Secrets::Unused).unwrap();
        let schema = config.schema.load().unwrap();
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let logging = Logging { dir: "".into(), level: "off".to_owned(), ..config.logging.clone() };
        let telemetry = shared::telemetry::start(&logging, "test", &clock).unwrap();
        let service = Noting::default();
        let (taken, activity) = (service.0.clone(), Activity::new(clock.clone()));
        let manager = ServiceManager::of_environment(clock.clone());
        let level = telemetry.level();
        let mut reloader = Reloader { service, config, schema, level, manager, activity: activity.clone() };
        let filter = |name: &str| {
            format!(
                "[[filter]]\nname = \"{name}\"\nfield = \"a\"\nequals = [\"b\"]\n[rejects]\nkeep = \"reason\"\n"
            )
        };
        let mut reload = async |more: &str| {
            write(&path, more);
            reloader.reload().await;
            activity.configuration().unwrap()
        };
        clock.advance(std::time::Duration::from_secs(5));
        let refused = reload(&filter("refused")).await;
        assert!(taken.lock().unwrap().is_empty() && refused.reloads == 0, "{refused:?}");
        assert_eq!(refused.failed.unwrap().why, "filter \"refused\": it is");
        assert!(activity.reporter(Component::Config).failing().is_some());
        let wrong = reload("[rejects]\nkept = \"reason\"\n").await;
        assert!(wrong.failed.unwrap().why.contains("rejects.kept: unknown key"));
        for name in ["panics", "panics late"] {
            let failed = reload(&filter(name)).await.failed.unwrap();
            assert!(failed.why.contains("panicked") && !failed.why.contains("only the log"), "{failed:?}");
            assert!(activity.reporter(Component::Config).failing().is_some());
        }
        assert!(taken.lock().unwrap().is_empty(), "nothing of these counts as taken");
        let right = reload(&filter("internal")).await;
        assert_eq!((right.reloads, right.failed, right.taken), (1, None, clock.wall()));
        assert_eq!(*taken.lock().unwrap(), ["filter rejects.keep"]);
        assert!(activity.reporter(Component::Config).failing().is_none());
        reload(&filter("internal")).await;
        assert_eq!(taken.lock().unwrap().last().unwrap(), "", "what was taken is no change the next time");
    }
}
