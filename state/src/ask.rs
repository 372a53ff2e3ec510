//! What a service has, asked of it over its socket or, if it does not run, read from its database.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::out;

use crate::feed::{self, AskError, Question};
use crate::store::StoreError;

/// Longest wait for an answer that takes a service no time to speak of.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for a service that starts: it has its database before it answers on its socket.
const STARTING: Duration = Duration::from_secs(60);
/// After so long it is said what is waited for.
const SILENT: Duration = Duration::from_secs(3);
/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(200);

/// What one service has.
#[derive(Debug, Clone, Serialize)]
pub struct Part<T> {
    /// Its process, if it answered.
    pub pid: Option<u32>,
    /// Its directory.
    pub dir: String,
    /// What it has; None when it has never run with this configuration.
    pub snapshot: Option<T>,
}

impl<T> Part<T> {
    /// Where the answer is from, for people.
    #[must_use]
    pub fn origin(&self) -> String {
        match (self.pid, &self.snapshot) {
            (Some(pid), _) => format!("running, process {pid}"),
            (None, Some(_)) => format!("not running: read from its database in {}", self.dir),
            (None, None) => format!("never ran with this configuration: no database in {}", self.dir),
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Part<U> {
        Part { pid: self.pid, dir: self.dir, snapshot: self.snapshot.map(change) }
    }
}

/// Where to ask a service, and where its database is.
pub(crate) struct Service {
    socket: PathBuf,
    dir: PathBuf,
    /// How long to wait for it while it starts.
    starting: Duration,
}

impl Service {
    pub(crate) fn producer(config: &Config) -> Self {
        Self { socket: config.producer_socket(), dir: config.log.dir.clone(), starting: STARTING }
    }

    pub(crate) fn ingester(config: &Config) -> Self {
        Self { socket: config.ingester_socket(), dir: config.ingester.dir.clone(), starting: STARTING }
    }

    /// Asks the service; with nobody there, opens its database by `look` and lets `read` answer. A service that
    /// starts has its database and no socket yet: it is waited for.
    pub(crate) async fn ask<T: DeserializeOwned, R>(
        self,
        question: &Question,
        patience: Duration,
        look: impl Fn(&Path) -> Result<R, StoreError>,
        read: impl Fn(&R) -> Result<T, Failure>,
    ) -> Result<Part<T>, Failure> {
        let (begun, mut said) = (Instant::now(), false);
        loop {
            let broken = match self.try_socket(question, patience).await? {
                Asked::Answered(pid, snapshot) => return Ok(self.part(Some(pid), Some(snapshot))),
                Asked::Nobody => None,
                Asked::Broken(error) => Some(error),
            };
            let in_use = match look(&self.dir) {
                Ok(opened) => return Ok(self.part(None, Some(read(&opened)?))),
                Err(StoreError::Missing(_)) => return Ok(self.part(None, None)),
                Err(in_use @ StoreError::InUse { .. }) => in_use,
                Err(error) => return Err(error.into()),
            };
            let socket = self.socket.display();
            if let Some(broken) = broken {
                let error = anyhow::anyhow!("{in_use}; asked on {socket}, {broken}");
                return Err(Failure::new(Exit::Unavailable, error));
            }
            let (waited, most) = (begun.elapsed(), self.starting.as_secs());
            if waited >= self.starting {
                let error = anyhow::anyhow!("{in_use}; nobody has answered on {socket} for {most} seconds");
                return Err(Failure::new(Exit::Unavailable, error));
            }
            if waited >= SILENT && !said {
                said = true;
                // Only a word to people: whether it can be written does not matter.
                let _ = writeln!(out::stderr(), "{in_use}; waiting up to {most} seconds for {socket}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_socket<T: DeserializeOwned>(
        &self,
        question: &Question,
        patience: Duration,
    ) -> Result<Asked<T>, Failure> {
        match tokio::time::timeout(patience, feed::ask(&self.socket, question)).await {
            Ok(Ok(answer)) => Ok(Asked::Answered(answer.pid, answer.snapshot)),
            Ok(Err(AskError::Refused(failure))) => Err(failure),
            Ok(Err(AskError::Nobody(_))) => Ok(Asked::Nobody),
            // It may just have ended.
            Ok(Err(broken @ AskError::Broken(_))) => Ok(Asked::Broken(broken)),
            Err(_) => {
                let text = format!(
                    "{} does not answer: its service is stopped or overloaded",
                    self.socket.display()
                );
                Err(Failure::new(Exit::Unavailable, anyhow::anyhow!(text)))
            }
        }
    }

    fn part<T>(&self, pid: Option<u32>, snapshot: Option<T>) -> Part<T> {
        Part { pid, dir: self.dir.display().to_string(), snapshot }
    }
}

/// What came of a question over the socket.
enum Asked<T> {
    /// The process and what it said.
    Answered(u32, T),
    /// There is no socket, or nobody behind it.
    Nobody,
    /// It ended in the middle.
    Broken(AskError),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::Utc;
    use shared::shutdown::Shutdown;

    use super::*;
    use crate::loads::Loads;
    use crate::snapshot::IngesterSnapshot;

    fn service(dir: &Path, starting: Duration) -> Service {
        Service { socket: dir.join("feed.sock"), dir: dir.to_owned(), starting }
    }

    async fn ask(service: Service) -> Result<Part<IngesterSnapshot>, Failure> {
        let read = |loads: &Loads| Ok(loads.snapshot_with(None)?);
        service.ask(&Question::Snapshot, PATIENCE, Loads::look, read).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_has_its_database_and_no_socket_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (loads, socket) = (Loads::open(dir.path()).unwrap(), dir.path().join("feed.sock"));
        let asked = tokio::spawn(ask(service(dir.path(), STARTING)));
        // Longer than the lock of a process that has ended is waited for.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!asked.is_finished(), "{:?}", asked.await);
        tokio::spawn(async move { feed::serve(&socket, Arc::new(loads), Shutdown::new()).await });
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.pid, Some(std::process::id()));
    }

    #[tokio::test]
    async fn a_process_that_has_the_database_and_never_answers_is_named_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let _loads = Loads::open(dir.path()).unwrap();
        let begun = Utc::now();
        let failure = ask(service(dir.path(), Duration::from_secs(2))).await.unwrap_err();
        assert!(Utc::now() - begun >= chrono::TimeDelta::seconds(2));
        assert_eq!(failure.exit(), Exit::Unavailable);
        let said = failure.to_string();
        let pid = std::process::id();
        assert!(said.contains(&format!("in use by process {pid}")), "{said}");
        assert!(said.contains("nobody has answered on") && said.contains("for 2 seconds"), "{said}");
    }
}
