//! One session: the body of one response, from its first byte to its end.

use std::thread::JoinHandle;
use std::time::Duration;

use reqwest::Response;
use shared::clock::{Clock, Steady};
use shared::human;
use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};

use crate::decode::damage::DamageDetector;
use crate::decode::resume::CatchUp;
use crate::decode::{self, Finished, Piece};
use crate::source::reconnect::{End, Session};
use crate::source::shared_state::Shared;

pub(crate) struct SessionEnd {
    pub session: Session,
    pub why: String,
    /// False when Adobe says that the token is no longer authorized.
    pub authorized: bool,
    pub damage: DamageDetector,
}

/// Passes the body to the decoding `threads`, until it ends or another connection breaks. None when the log takes no
/// more.
pub(crate) async fn read(
    shared: &Shared,
    response: Response,
    pieces: mpsc::Sender<Piece>,
    threads: JoinHandle<Finished>,
    mut broken: watch::Receiver<u64>,
    begun: Steady,
    shutdown: &Shutdown,
) -> Option<SessionEnd> {
    let clock = &shared.clock;
    let (why, end) = tokio::select! {
        ended = pump(response, pieces, shared.config.idle_timeout.0, clock, shutdown) => ended,
        // The sender is in `shared`.
        Ok(()) = broken.changed() => ("another connection broke".to_owned(), End::Interrupted),
    };
    let joined = tokio::task::spawn_blocking(move || threads.join()).await;
    let lasted = begun.until(clock.steady());
    let Finished { ended, catch_up, damage } = match joined {
        Ok(Ok(finished)) => finished,
        _ => {
            let ended = decode::Ended::Damaged("the decoding thread failed".to_owned());
            Finished { ended, catch_up: CatchUp::default(), damage: DamageDetector::default() }
        }
    };
    let authorized = ended != decode::Ended::NotAuthorized;
    let (why, end) = match ended {
        decode::Ended::Input => (why, end),
        decode::Ended::Within(what) => (format!("{why}, within {what}"), end),
        decode::Ended::Damaged(how) | decode::Ended::Unreadable(how) => match damage.is_exhausted() {
            true => (how, End::Exhausted),
            false => (how, End::Damaged),
        },
        decode::Ended::NotAuthorized => {
            ("Adobe says the token is not authorized any more".to_owned(), End::Broken)
        }
        decode::Ended::Closed => return None,
    };
    let (catching_up, behind) = (catch_up.took.min(lasted), catch_up.behind);
    let session = Session { lasted, catching_up, behind, end, others_wait: false };
    Some(SessionEnd { session, why, authorized, damage })
}

/// The cause that says what happened: those around it name parts of libraries.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Says why the body ended. Waits while the decoding threads are behind: then nothing reads the socket.
async fn pump(
    mut response: Response,
    pieces: mpsc::Sender<Piece>,
    idle: Duration,
    clock: &Clock,
    shutdown: &Shutdown,
) -> (String, End) {
    let pumping = async {
        loop {
            let read = tokio::select! {
                biased;
                read = response.chunk() => read,
                () = clock.sleep(idle) => return (format!("no byte for {}", human::duration(idle)), End::Broken),
            };
            let piece = match read {
                Ok(Some(bytes)) => Piece::Bytes(bytes),
                Ok(None) => return ("Adobe ended it".to_owned(), End::Complete),
                Err(error) => return (format!("the connection broke: {}", innermost(&error)), End::Broken),
            };
            if pieces.send(piece).await.is_err() {
                // The decoding threads have ended, and know why.
                return (String::new(), End::Broken);
            }
        }
    };
    let stopped = || ("the producer was stopped".to_owned(), End::Interrupted);
    let (why, end) = shutdown.until(pumping).await.unwrap_or_else(stopped);
    if end == End::Complete {
        // Not cut short by a stop: what was read to its end is complete.
        let _ = pieces.send(Piece::End).await;
    }
    (why, end)
}
