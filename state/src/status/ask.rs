//! What a service has, asked of it over its socket or, if it does not run, read from its database.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::out;

use crate::status::as_owner::as_owner;
use crate::status::feed::{self, AskError, Question};
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
            let in_use = match self.open(&look, &read)? {
                Opened::Read(snapshot) => return Ok(self.part(None, snapshot)),
                Opened::InUse(in_use) => in_use,
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

    /// Opens the database and reads it, as its owner if this is root.
    fn open<T, R>(
        &self,
        look: impl Fn(&Path) -> Result<R, StoreError>,
        read: impl Fn(&R) -> Result<T, Failure>,
    ) -> Result<Opened<T>, Failure> {
        // Dropped after the database, which may write as it is closed.
        let _owner = as_owner(&self.dir).map_err(|error| StoreError::Io { path: self.dir.clone(), error })?;
        match look(&self.dir) {
            Ok(opened) => Ok(Opened::Read(Some(read(&opened)?))),
            Err(StoreError::Missing(_)) => Ok(Opened::Read(None)),
            Err(in_use @ StoreError::InUse { .. }) => Ok(Opened::InUse(in_use)),
            Err(error) => Err(error.into()),
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

/// What came of opening the database.
enum Opened<T> {
    /// What it holds; None when there is none.
    Read(Option<T>),
    /// Another process has it.
    InUse(StoreError),
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use chrono::Utc;
    use rustix::process::{Gid, Uid, geteuid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    use shared::shutdown::Shutdown;

    use super::*;
    use crate::loads::Loads;
    use crate::status::snapshot::IngesterSnapshot;

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

    fn everything_below(dir: &Path) -> Vec<PathBuf> {
        let mut all = vec![dir.to_owned()];
        if dir.is_dir() {
            std::fs::read_dir(dir)
                .unwrap()
                .for_each(|entry| all.extend(everything_below(&entry.unwrap().path())));
        }
        all
    }

    /// Opens the database as a process of that user would.
    fn open_as(user: u32, dir: &Path) -> Result<(), StoreError> {
        let dir = dir.to_owned();
        let opening = std::thread::spawn(move || {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            Loads::open(&dir).map(drop)
        });
        opening.join().unwrap()
    }

    #[tokio::test]
    async fn what_root_looks_at_stays_its_owners_who_can_open_it_afterwards() {
        if !geteuid().is_root() {
            std::io::stderr().write_all(b"SKIPPED looking as root: this is another user\n").unwrap();
            return;
        }
        const OWNER: u32 = 65_534;
        let scratch = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let dir = scratch.path().join("ingester");
        drop(Loads::open(&dir).unwrap());
        for path in everything_below(&dir) {
            std::os::unix::fs::chown(path, Some(OWNER), Some(OWNER)).unwrap();
        }
        // What an earlier version has left, which the owner may remove.
        std::fs::write(dir.join("disk-error"), "").unwrap();
        std::fs::remove_file(dir.join("spare")).unwrap();
        std::fs::write(dir.join("spare"), "").unwrap();
        std::fs::set_permissions(dir.join("spare"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(dir.join("disk-error"), Some(OWNER), Some(OWNER)).unwrap();

        let part = ask(service(&dir, STARTING)).await.unwrap();
        assert!(part.snapshot.is_some());
        assert!(geteuid().is_root() && rustix::process::getegid().is_root());
        for path in everything_below(&dir) {
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (OWNER, OWNER), "{}", path.display());
        }
        open_as(OWNER, &dir).unwrap();

        // One that root has left before is named.
        let snapshot =
            everything_below(&dir).into_iter().find(|path| path.to_string_lossy().contains("/snap."));
        let snapshot = snapshot.unwrap();
        std::os::unix::fs::chown(&snapshot, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&snapshot, std::fs::Permissions::from_mode(0o600)).unwrap();
        let failure = Failure::from(open_as(OWNER, &dir).unwrap_err());
        assert_eq!(failure.exit(), Exit::Permission);
        let said = failure.to_string();
        assert!(said.contains(snapshot.to_str().unwrap()) && said.contains("change its owner"), "{said}");
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
