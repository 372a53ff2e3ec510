//! What a service has, asked of it over its socket or, if it does not run, read from its database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::feed::{self, AskError, Question};
use crate::store::StoreError;

/// Longest wait for an answer that takes a service no time to speak of.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

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
}

impl Service {
    pub(crate) fn producer(config: &Config) -> Self {
        Self { socket: config.producer_socket(), dir: config.log.dir.clone() }
    }

    pub(crate) fn ingester(config: &Config) -> Self {
        Self { socket: config.ingester_socket(), dir: config.ingester.dir.clone() }
    }

    /// Asks the service; with nobody there, opens its database by `look` and lets `read` answer.
    pub(crate) async fn ask<T: DeserializeOwned, R>(
        self,
        question: &Question,
        patience: Duration,
        look: impl Fn(&Path) -> Result<R, StoreError>,
        read: impl Fn(&R) -> Result<T, Failure>,
    ) -> Result<Part<T>, Failure> {
        let Self { socket, dir } = &self;
        let part = |pid, snapshot| Part { pid, dir: dir.display().to_string(), snapshot };
        let asked = tokio::time::timeout(patience, feed::ask(socket, question)).await;
        let broken = match asked {
            Ok(Ok(answer)) => return Ok(part(Some(answer.pid), Some(answer.snapshot))),
            Ok(Err(AskError::Refused(failure))) => return Err(failure),
            Ok(Err(AskError::Nobody(_))) => None,
            // It may just have ended.
            Ok(Err(broken @ AskError::Broken(_))) => Some(broken),
            Err(_) => {
                let text =
                    format!("{} does not answer: its service is stopped or overloaded", socket.display());
                return Err(Failure::new(Exit::Unavailable, anyhow::anyhow!(text)));
            }
        };
        match (look(dir), broken) {
            (Ok(opened), _) => Ok(part(None, Some(read(&opened)?))),
            (Err(StoreError::Missing(_)), _) => Ok(part(None, None)),
            (Err(in_use @ StoreError::InUse { .. }), Some(broken)) => {
                let error = anyhow::anyhow!("{in_use}; asked on {}, {broken}", socket.display());
                Err(Failure::new(Exit::Unavailable, error))
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}
