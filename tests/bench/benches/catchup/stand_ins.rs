//! The process of the stand-ins: it sends what it is told, shuts and opens doors, and says at the end what it saw.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bench::helper::{self, Helper};
use bench::stand_ins::{StandIns, announce};
use redshift::{Kind, Seen};
use sandbox::standins::Endpoints;
use serde::{Deserialize, Serialize};

use crate::door::Door;
use crate::livestream::{self, Sender};

/// The program starts itself with this argument, a folder, the hits of a part and those of the backlog.
pub(crate) const STAND_INS: &str = "--stand-ins";
const PREPARED: &str = "prepared";
/// Parts that are compressed before.
pub(crate) const PARTS: u64 = 4;
const QUIET: Duration = Duration::from_secs(1);

/// What the process is told.
pub(crate) mod told {
    /// To send the next part, the backlog, or live hits until told otherwise.
    pub(crate) const PART: u8 = b'p';
    pub(crate) const BACKLOG: u8 = b'b';
    pub(crate) const LIVE: u8 = b'l';
    pub(crate) const NO_MORE: u8 = b'n';
    /// To open and shut the doors.
    pub(crate) const S3_COMES: u8 = b'S';
    pub(crate) const S3_GOES: u8 = b's';
    pub(crate) const REDSHIFT_COMES: u8 = b'R';
    pub(crate) const REDSHIFT_GOES: u8 = b'r';
}

/// What it saw; moments are nanoseconds since 1970.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saw {
    /// The pieces of the live stream: how many hits were sent before each, and when it was written.
    pub(crate) live: Vec<(u64, u64)>,
    /// When each statement came to Redshift, and when each COPY ended.
    pub(crate) statements: Vec<u64>,
    pub(crate) copied: Vec<u64>,
}

/// Starts the process; it is ready when the parts are compressed.
pub(crate) fn start(dir: &Path, part: u64, backlog: u64) -> Helper {
    Helper::start(&[STAND_INS, dir.to_str().unwrap(), &part.to_string(), &backlog.to_string()]).unwrap()
}

/// In the process.
pub(crate) async fn run(dir: &Path, part: u64, backlog: u64) {
    let prepared = dir.join(PREPARED);
    livestream::prepare(&prepared, PARTS * part);
    let stand_ins = StandIns::start(dir).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = stand_ins.endpoints(listener.local_addr().unwrap());
    let s3: SocketAddr = direct.s3.strip_prefix("http://").unwrap().parse().unwrap();
    let (s3, redshift) = (Door::before(s3).await, Door::before(direct.redshift).await);
    // COPY reads S3 past the door, as Redshift does when it is the producer's network that is away.
    announce(dir, &Endpoints { s3: format!("http://{}", s3.at), redshift: redshift.at, ..direct }).unwrap();

    let (send, to_send) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sending = thread::spawn(move || {
        let sender = Sender::new(listener.accept().unwrap().0, &prepared, PARTS * part).unwrap();
        say(b"c");
        obey(sender, &to_send, &stopped, part, backlog)
    });
    let hear = move || {
        helper::serve(|byte| match byte {
            told::S3_COMES | told::S3_GOES => s3.set(byte == told::S3_COMES),
            told::REDSHIFT_COMES | told::REDSHIFT_GOES => redshift.set(byte == told::REDSHIFT_COMES),
            told::NO_MORE => stop.store(true, Ordering::Relaxed),
            what => {
                stop.store(false, Ordering::Relaxed);
                send.send(what).unwrap();
            }
        })
    };
    tokio::task::spawn_blocking(hear).await.unwrap().unwrap();
    let sender = sending.join().unwrap();
    let live = sender.live.iter().map(|(first, at)| (*first, nanos(*at))).collect();
    let (statements, copied) = moments(&stand_ins.redshift.faults().statements());
    let saw = Saw { live, statements, copied };
    say(&serde_json::to_vec(&saw).unwrap());
    stand_ins.stop().await;
}

/// Sends what it is told, one after the other, and an empty line a second meanwhile, as Livestream does.
fn obey(mut sender: Sender, told: &Receiver<u8>, stop: &AtomicBool, part: u64, backlog: u64) -> Sender {
    loop {
        match told.recv_timeout(QUIET) {
            Ok(told::PART) => sender.send_prepared(part),
            Ok(told::BACKLOG) => sender.send_made(backlog),
            Ok(told::LIVE) => sender.send_live(stop),
            Ok(other) => unreachable!("told {other}"),
            Err(RecvTimeoutError::Timeout) => sender.send_empty_line(),
            Err(RecvTimeoutError::Disconnected) => return sender,
        }
        .unwrap();
    }
}

/// When each statement came, and when each COPY ended: its session sends the next statement when it has the answer.
fn moments(statements: &[Seen]) -> (Vec<u64>, Vec<u64>) {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let moment = |seen: &Seen| nanos(wall - (now - seen.at));
    let next = |at: usize| statements[at + 1..].iter().find(|next| next.pid == statements[at].pid);
    let copies = (0..statements.len()).filter(|at| statements[*at].kind == Kind::Copy);
    (statements.iter().map(moment).collect(), copies.filter_map(|at| Some(moment(next(at)?))).collect())
}

pub(crate) fn nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn say(what: &[u8]) {
    let mut out = std::io::stdout();
    out.write_all(what).unwrap();
    out.flush().unwrap();
}
