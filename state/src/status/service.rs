//! What a service has: asked of it over its socket or, if it does not run, read from its database.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::out;

use crate::loads::{LoadDatabase, Pause, Paused, Pausing, REASON_MAX};
use crate::log::LogReader;
use crate::status::feed::{self, Answer, AskError, Question};
use crate::store::{StoreError, last_written};

/// Longest wait for an answer that takes a service hardly any time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a verification: the service reads everything it has, perhaps gigabytes, while it works.
const VERIFY_PATIENCE: Duration = Duration::from_hours(24);
/// Longest wait for a service that starts: it has its database before it answers on its socket.
const STARTING: Duration = Duration::from_secs(60);
/// Time after which the user is told about the wait.
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
    /// If it does not run: when it last wrote to its files.
    pub stopped: Option<DateTime<Utc>>,
    /// Why neither the service answered nor its database could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip)]
    pub(crate) exit: Option<Exit>,
    /// If it was asked on its socket alone and did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// The answer; None when the service has never run with this configuration, or with an error.
    pub snapshot: Option<T>,
}

/// A service that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// Since the first question without an answer.
    pub since: DateTime<Utc>,
    /// What was met.
    pub why: String,
}

impl<T> Part<T> {
    pub(crate) fn new(
        pid: Option<u32>,
        dir: String,
        stopped: Option<DateTime<Utc>>,
        snapshot: Option<T>,
    ) -> Self {
        Self { pid, dir, stopped, error: None, exit: None, silent: None, snapshot }
    }

    /// Where the answer is from, for people.
    #[must_use]
    pub fn origin(&self) -> String {
        if self.error.is_some() {
            return "cannot be asked, and its database cannot be read: see the error below".to_owned();
        }
        match (self.pid, &self.snapshot) {
            (Some(pid), _) => format!("running, process {pid}"),
            (None, Some(_)) => {
                let since = self.stopped.map(|at| at.format(" since %Y-%m-%d %H:%M:%S UTC").to_string());
                format!("not running{}: read from its database in {}", since.unwrap_or_default(), self.dir)
            }
            (None, None) => format!("never ran with this configuration: no database in {}", self.dir),
        }
    }

    /// Of a service whose database was read.
    pub(crate) fn read(dir: &Path, snapshot: Option<T>) -> Self {
        Self::new(None, dir.display().to_string(), last_written(dir), snapshot)
    }

    fn unknown(dir: &Path, failure: &Failure) -> Self {
        let (error, exit) = (Some(failure.to_string()), Some(failure.exit()));
        Self { error, exit, ..Self::read(dir, None) }
    }

    /// Fails, with the code of the failure, when there is no answer.
    pub fn answered(&self) -> Result<(), Failure> {
        match (&self.error, self.exit) {
            (Some(error), Some(exit)) => Err(Failure::new(exit, anyhow::anyhow!("{error}"))),
            _ => match &self.silent {
                Some(Silent { why, .. }) => {
                    Err(unavailable(format!("a service that may know it is silent: {why}")))
                }
                None => Ok(()),
            },
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Part<U> {
        let Self { pid, dir, stopped, error, exit, silent, snapshot } = self;
        Part { pid, dir, stopped, error, exit, silent, snapshot: snapshot.map(change) }
    }
}

type Asked<T> = Result<Part<T>, Failure>;

/// What both services have. Of one that cannot be asked the part says why. Fails when neither can.
pub(crate) fn both<P, I>(
    config: &Config,
    producer: Asked<P>,
    ingester: Asked<I>,
) -> Result<(Part<P>, Part<I>), Failure> {
    match (producer, ingester) {
        (Ok(producer), Ok(ingester)) => Ok((producer, ingester)),
        (Ok(producer), Err(failure)) => Ok((producer, Part::unknown(&config.ingester.dir, &failure))),
        (Err(failure), Ok(ingester)) => Ok((Part::unknown(&config.log.dir, &failure), ingester)),
        (Err(failure), Err(_)) => Err(failure),
    }
}

pub(crate) struct Service<D> {
    socket: PathBuf,
    dir: PathBuf,
    clock: Clock,
    /// Opens the database when the service does not run.
    pub(crate) open: fn(&Path) -> Result<D, StoreError>,
}

impl Service<LogReader> {
    pub(crate) fn producer(config: &Config, clock: &Clock) -> Self {
        let (socket, dir) = (config.producer_socket(), config.log.dir.clone());
        Self { socket, dir, clock: clock.clone(), open: LogReader::open_to_read }
    }
}

impl Service<LoadDatabase> {
    pub(crate) fn ingester(config: &Config, clock: &Clock) -> Self {
        let (socket, dir) = (config.ingester_socket(), config.ingester.dir.clone());
        Self { socket, dir, clock: clock.clone(), open: LoadDatabase::open_to_read }
    }
}

#[cfg(test)]
impl<D> Service<D> {
    pub(crate) fn in_dir(dir: &Path, clock: Clock, open: fn(&Path) -> Result<D, StoreError>) -> Self {
        Self { socket: dir.join("feed.sock"), dir: dir.to_owned(), clock, open }
    }
}

/// What comes of one try to ask a service.
pub(crate) enum Tried<T> {
    /// It answered.
    Answered(Part<T>),
    /// Nobody listens on its socket.
    Nobody,
    /// Why a service that listens gave no answer.
    Unanswered(String),
}

impl<D> Service<D> {
    /// Asks the service once, and waits for nobody who does not listen.
    pub(crate) async fn try_ask<T: DeserializeOwned>(&self, question: &Question) -> Tried<T> {
        self.try_within(question, PATIENCE).await
    }

    async fn try_within<T: DeserializeOwned>(&self, question: &Question, within: Duration) -> Tried<T> {
        let socket = self.socket.display();
        match tokio::time::timeout(within, feed::ask(&self.socket, question)).await {
            Ok(Ok(Answer { pid, snapshot })) => Tried::Answered(self.part(Some(pid), Some(snapshot))),
            Ok(Err(AskError::Nobody(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
                Tried::Unanswered(format!("{socket} is for the service's user alone: run this as that user"))
            }
            Ok(Err(AskError::Nobody(_))) => Tried::Nobody,
            Ok(Err(error)) => Tried::Unanswered(format!("asked on {socket}: {error}")),
            Err(_) => {
                Tried::Unanswered(format!("{socket} does not answer: its service is stopped or overloaded"))
            }
        }
    }

    /// Reads the database of a service that does not run. Blocks.
    pub(crate) fn read_now<T>(&self, read: impl Fn(&D) -> Result<T, Failure>) -> Result<Part<T>, Failure> {
        match self.read_database(&read) {
            Ok(snapshot) => Ok(self.part(None, snapshot)),
            Err(Unread::InUse(in_use)) => Err(in_use.into()),
            Err(Unread::Failed(failure)) => Err(failure),
        }
    }

    fn part<T>(&self, pid: Option<u32>, snapshot: Option<T>) -> Part<T> {
        let stopped = if pid.is_none() { last_written(&self.dir) } else { None };
        Part::new(pid, self.dir.display().to_string(), stopped, snapshot)
    }

    /// Asks the service, or lets `read` answer from its database. Waits for a service that starts.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        question: &Question,
        read: impl Fn(&D) -> Result<T, Failure>,
    ) -> Result<Part<T>, Failure> {
        let patience = if *question == Question::Verify { VERIFY_PATIENCE } else { PATIENCE };
        let (socket, most) = (self.socket.display(), STARTING.as_secs());
        let (begun, mut told) = (self.clock.steady(), false);
        loop {
            let broken = match tokio::time::timeout(patience, feed::ask(&self.socket, question)).await {
                Ok(Ok(Answer { pid, snapshot })) => return Ok(self.part(Some(pid), Some(snapshot))),
                Ok(Err(AskError::Refused(failure))) => return Err(failure),
                Ok(Err(AskError::Nobody(_))) => None,
                // The service may just have ended.
                Ok(Err(broken @ AskError::Broken(_))) => Some(broken),
                Err(_) => {
                    let text = "does not answer: its service is stopped or overloaded";
                    return Err(unavailable(format!("{socket} {text}")));
                }
            };
            let in_use = match self.read_database(&read) {
                Ok(snapshot) => return Ok(self.part(None, snapshot)),
                Err(Unread::InUse(in_use)) => in_use,
                Err(Unread::Failed(failure)) => return Err(failure),
            };
            let waited = begun.until(self.clock.steady());
            if let Some(broken) = broken {
                return Err(unavailable(format!("{in_use}; asked on {socket}, {broken}")));
            } else if waited >= STARTING {
                let text = format!("{in_use}; nobody has answered on {socket} for {most} seconds");
                return Err(unavailable(text));
            } else if waited >= SILENT && !told {
                told = true;
                // Only a word to the user: it does not matter whether it can be written.
                let _ = writeln!(out::stderr(), "{in_use}; waiting up to {most} seconds for {socket}");
            }
            self.clock.sleep(AGAIN).await;
        }
    }

    /// Asks the service within a time. Never opens its database: the service might start at that moment and find it in
    /// use.
    pub(crate) async fn ask_running<T: DeserializeOwned>(
        &self,
        question: &Question,
        within: Duration,
    ) -> Part<T> {
        let why = match self.try_within(question, within).await {
            Tried::Answered(part) => return part,
            Tried::Nobody => {
                format!("nobody listens on {}: it does not run, or starts", self.socket.display())
            }
            Tried::Unanswered(why) => why,
        };
        let silent = Some(Silent { since: self.clock.wall(), why });
        Part { silent, ..self.part(None, None) }
    }

    /// Opens the database and reads it, as its owner if this is root; None when there is none.
    fn read_database<T>(&self, read: impl Fn(&D) -> Result<T, Failure>) -> Result<Option<T>, Unread> {
        // Dropped after the database, which may write while it is closed.
        let _owner = as_owner(&self.dir)?;
        match (self.open)(&self.dir) {
            Ok(database) => read(&database).map(Some).map_err(Unread::Failed),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn unavailable(text: String) -> Failure {
    Failure::new(Exit::Unavailable, anyhow::anyhow!(text))
}

enum Unread {
    InUse(StoreError),
    Failed(Failure),
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse { .. } => Self::InUse(error),
            other => Self::Failed(other.into()),
        }
    }
}

/// Stores a pause, or with None its end, through the ingester if it runs and in its database if not. Returns the
/// process that runs, and what holds afterwards.
pub async fn set_pause(
    config: &Config,
    clock: &Clock,
    pause: Option<Pause>,
) -> Result<(Option<u32>, Option<Paused>), Failure> {
    let reason = pause.as_ref().and_then(|pause| pause.reason.as_ref());
    let length = reason.map_or(0, |reason| reason.chars().count());
    if length > REASON_MAX {
        let text = format!("--reason has {length} characters, and at most {REASON_MAX} are kept");
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!(text)));
    }
    let question = pause.clone().map_or(Question::Resume, Question::Pause);
    let mut ingester = Service::ingester(config, clock);
    ingester.open = LoadDatabase::open;
    let store = |loads: &LoadDatabase| {
        loads.set_pause(pause.as_ref())?;
        Ok(Pausing { paused: Paused::at(pause.as_ref(), &config.ingester.pause, clock.wall()) })
    };
    let part = ingester.ask(&question, store).await?;
    Ok((part.pid, part.snapshot.and_then(|pausing| pausing.paused)))
}

/// Tells the ingester of this machine, or its load store if it does not run, that a replay has left so many rows in
/// quarantine of the batch that the ledger has under this id. Does nothing where no ingester has ever run.
pub async fn note_replayed(config: &Config, clock: &Clock, batch: BatchId, left: u64) -> Result<(), Failure> {
    let mut ingester = Service::ingester(config, clock);
    ingester.open = |dir| {
        // Opened to be written, it would be made.
        drop(LoadDatabase::open_to_read(dir)?);
        LoadDatabase::open(dir)
    };
    let note = |loads: &LoadDatabase| Ok(loads.replayed(batch, left, clock.wall())?.is_some());
    ingester.ask(&Question::Replayed { batch, left }, note).await.map(drop)
}

/// Until it is dropped, this thread, and those it starts such as sled's, work as another user.
#[derive(Debug)]
pub(crate) struct AsOwner {
    group: Gid,
    /// Keeps it from being sent to another thread, which it would not change back.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

/// Makes this thread work as the owner of `dir` if it works as root; None when there is nothing to change.
pub(crate) fn as_owner(dir: &Path) -> Result<Option<AsOwner>, StoreError> {
    become_owner(dir).map_err(|error| StoreError::Io { path: dir.to_owned(), error })
}

fn become_owner(dir: &Path) -> io::Result<Option<AsOwner>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let meta = match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let (user, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    if user.is_root() {
        return Ok(None);
    }
    let before = getegid();
    // The group first: a user other than root may not change it. Root stays the saved user, to return to.
    set_thread_res_gid(None, group, None)?;
    let owner = AsOwner { group: before, _of_this_thread: std::marker::PhantomData };
    set_thread_res_uid(None, user, None)?;
    tracing::debug!(dir = %dir.display(), user = meta.uid(), "working as the owner of the directory");
    Ok(Some(owner))
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let back = set_thread_res_uid(None, Uid::ROOT, None)
            .and_then(|()| set_thread_res_gid(None, self.group, None));
        if let Err(error) = back {
            tracing::error!(%error, "cannot work as root again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use rustix::process::{Gid, Uid, geteuid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    use shared::shutdown::Shutdown;

    use super::*;
    use crate::loads::LoadDatabase;
    use crate::status::feed::Owner;
    use crate::status::snapshot::IngesterSnapshot;

    fn service(dir: &Path, clock: Clock) -> Service<LoadDatabase> {
        Service::in_dir(dir, clock, LoadDatabase::open_to_read)
    }

    async fn ask(service: Service<LoadDatabase>) -> Result<Part<IngesterSnapshot>, Failure> {
        service.ask(&Question::Snapshot, Owner::snapshot).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_has_its_database_and_no_socket_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (loads, socket) = (LoadDatabase::open(dir.path()).unwrap(), dir.path().join("feed.sock"));
        let mut asked = tokio::spawn(ask(service(dir.path(), Clock::system())));
        // Longer than the lock of a process that has ended is waited for.
        let ended = tokio::time::timeout(Duration::from_millis(2_500), &mut asked).await;
        assert!(ended.is_err(), "{ended:?}");
        let serve =
            async move { feed::serve(&socket, Arc::new(loads), Clock::system(), Shutdown::new()).await };
        tokio::spawn(serve);
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
            LoadDatabase::open(&dir).map(drop)
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
        drop(LoadDatabase::open(&dir).unwrap());
        for path in everything_below(&dir) {
            std::os::unix::fs::chown(path, Some(OWNER), Some(OWNER)).unwrap();
        }
        // What an earlier version has left, which the owner may remove.
        std::fs::write(dir.join("disk-error"), "").unwrap();
        std::fs::remove_file(dir.join("spare")).unwrap();
        std::fs::write(dir.join("spare"), "").unwrap();
        std::fs::set_permissions(dir.join("spare"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(dir.join("disk-error"), Some(OWNER), Some(OWNER)).unwrap();

        let part = ask(service(&dir, Clock::system())).await.unwrap();
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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_has_the_database_and_never_answers_is_named_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let _loads = LoadDatabase::open(dir.path()).unwrap();
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let mut asked = tokio::spawn(ask(service(dir.path(), clock.clone())));
        let failure = loop {
            match tokio::time::timeout(Duration::from_millis(1), &mut asked).await {
                Ok(ended) => break ended.unwrap().unwrap_err(),
                Err(_) => clock.advance(AGAIN),
            }
        };
        assert!((clock.wall() - DateTime::UNIX_EPOCH).to_std().unwrap() >= STARTING);
        assert_eq!(failure.exit(), Exit::Unavailable);
        let said = failure.to_string();
        let pid = std::process::id();
        assert!(said.contains(&format!("in use by process {pid}")), "{said}");
        assert!(said.contains("nobody has answered on") && said.contains("for 60 seconds"), "{said}");
    }
}

#[cfg(test)]
mod as_owner_tests {
    use super::*;

    #[test]
    fn a_directory_of_its_own_and_one_that_is_not_there_change_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(as_owner(dir.path()).unwrap().is_none());
        assert!(as_owner(&dir.path().join("nothing")).unwrap().is_none());
    }
}
