//! Asks the services again and again, each at its own pace, so that one that hangs does not hold up what is shown of the
//! other.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use tokio::sync::{mpsc, watch};

use crate::status::feed::Question;
use crate::status::service::{Part, Service, Tried};

/// What was heard of a service.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// It is being asked.
    Asked,
    /// What it has.
    Part(Part<T>),
    /// Why it, or its database, tells nothing.
    Trouble(String),
}

/// How often to ask, and when to look into a database once more.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) clock: Clock,
    pub(super) interval: Duration,
    /// Changes when the operator asks for it.
    pub(super) again: watch::Receiver<u64>,
}

/// Asks until nobody hears it.
///
/// To open a database takes a service's lock, and the time to read its file. So the database of a service that does not
/// run is read once, and then no more until the service has run in between, or the operator asks for it.
pub(super) async fn ask<D: 'static, T: DeserializeOwned + Send + 'static, N: Send + 'static>(
    service: Service<D>,
    question: Question,
    read: impl Fn(&D) -> Result<T, Failure> + Clone + Send + 'static,
    mut pace: Pace,
    hear: impl Fn(Heard<T>) -> N + Send + Sync + 'static,
    news: mpsc::Sender<N>,
) {
    let (service, mut is_read) = (Arc::new(service), false);
    let tell = async |heard| news.send(hear(heard)).await.is_ok();
    loop {
        if !tell(Heard::Asked).await {
            return;
        }
        let heard = match service.try_ask(&question).await {
            Tried::Answered(part) => {
                is_read = false;
                Some(Heard::Part(part))
            }
            Tried::Unanswered(why) => {
                is_read = false;
                Some(Heard::Trouble(why))
            }
            Tried::Nobody if is_read => None,
            Tried::Nobody => {
                let (service, read) = (service.clone(), read.clone());
                let reading = tokio::task::spawn_blocking(move || service.read_now(read));
                // A service that has its database and does not listen yet is about to start: it is asked again.
                let read = reading.await.unwrap_or_else(|error| Err(Failure::new(Exit::Software, error)));
                is_read = read.as_ref().err().is_none_or(|failure| failure.exit() != Exit::Unavailable);
                Some(read.map_or_else(|failure| Heard::Trouble(failure.to_string()), Heard::Part))
            }
        };
        if let Some(heard) = heard
            && !tell(heard).await
        {
            return;
        }
        tokio::select! {
            () = pace.clock.sleep(pace.interval) => {}
            changed = pace.again.changed() => match changed {
                Ok(()) => is_read = false,
                Err(_) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::DateTime;
    use shared::shutdown::Shutdown;

    use super::*;
    use crate::loads::LoadDatabase;
    use crate::status::feed::{self, Owner};
    use crate::status::snapshot::IngesterSnapshot;

    static READ: AtomicU32 = AtomicU32::new(0);

    fn read(loads: &LoadDatabase) -> Result<IngesterSnapshot, Failure> {
        READ.fetch_add(1, Ordering::SeqCst);
        Owner::snapshot(loads)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_database_of_a_service_that_does_not_run_is_read_once_until_it_has_run_or_somebody_asks() {
        let dir = tempfile::tempdir().unwrap();
        drop(LoadDatabase::open(dir.path()).unwrap());
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let (again, changed) = watch::channel(0);
        let interval = Duration::from_secs(1);
        let pace = Pace { clock: clock.clone(), interval, again: changed };
        let (news, mut told) = mpsc::channel(1);
        let service = Service::in_dir(dir.path(), clock.clone(), LoadDatabase::open_to_read);
        tokio::spawn(ask(service, Question::Snapshot, read, pace, |heard| heard, news));
        // The next that is told, and how often it was asked before that.
        let mut next = async || {
            let mut asked = 0;
            loop {
                match tokio::time::timeout(Duration::from_millis(20), told.recv()).await {
                    Ok(heard) => match heard.unwrap() {
                        Heard::Asked => asked += 1,
                        Heard::Part(part) => return (Some(part), asked),
                        Heard::Trouble(why) => panic!("{why}"),
                    },
                    Err(_) if asked >= 5 => return (None, asked),
                    Err(_) => clock.advance(interval),
                }
            }
        };
        let (part, _) = next().await;
        assert!(part.is_some_and(|part| part.pid.is_none()) && READ.load(Ordering::SeqCst) == 1);
        let (part, asked) = next().await;
        assert!(part.is_none() && asked >= 5 && READ.load(Ordering::SeqCst) == 1, "read every second");
        again.send_modify(|times| *times += 1);
        assert!(next().await.0.is_some() && READ.load(Ordering::SeqCst) == 2, "somebody has asked");
        // It runs for a while.
        let (shutdown, socket) = (Shutdown::new(), socket(dir.path()));
        let loads = Arc::new(LoadDatabase::open(dir.path()).unwrap());
        let serving = tokio::spawn({
            let (clock, shutdown) = (Clock::system(), shutdown.clone());
            async move { feed::serve(&socket, loads, clock, shutdown).await }
        });
        while next().await.0.is_none_or(|part| part.pid.is_none()) {}
        shutdown.stop();
        serving.await.unwrap().unwrap();
        while next().await.0.is_none_or(|part| part.pid.is_some()) {}
        assert_eq!(READ.load(Ordering::SeqCst), 3);
    }

    fn socket(dir: &Path) -> std::path::PathBuf {
        dir.join("feed.sock")
    }
}
