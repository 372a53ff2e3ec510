//! The process of the stand-ins: it sends the stream when it is told, and says at the end what it saw.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bench::helper::{self, Helper};
use bench::stand_ins::{StandIns, announce};
use redshift::{Kind, Seen};
use sandbox::s3::Operation;
use serde::{Deserialize, Serialize};

use crate::livestream::{self, Pace, Sent, Stream};

/// The program starts itself with this argument, a folder and a file in which the rest stands.
pub(crate) const STAND_INS: &str = "--stand-ins";
/// Said when the producer is connected.
const CONNECTED: &[u8] = b"c";
const ASKED: &str = "asked.json";

/// What the process is to send.
#[derive(Serialize, Deserialize)]
struct Asked {
    rate: u64,
    seconds: u64,
}

/// What it saw.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saw {
    /// Nanoseconds since 1970 at which each piece was written.
    pub(crate) pieces: Vec<u64>,
    /// How late the latest piece was, in milliseconds.
    pub(crate) late: f64,
    /// How long each COPY took, in milliseconds.
    pub(crate) copies: Vec<f64>,
    /// Requests to S3 that cost as writes do: PUT, COPY and LIST.
    pub(crate) writes: u64,
}

/// Starts the process for a turn.
pub(crate) fn start(dir: &Path, stream: &Stream, seconds: u64) -> Helper {
    let asked = Asked { rate: stream.rate, seconds };
    std::fs::write(dir.join(ASKED), serde_json::to_vec(&asked).unwrap()).unwrap();
    Helper::start(&[STAND_INS, dir.to_str().unwrap(), stream.file.to_str().unwrap()]).unwrap()
}

/// In the process.
pub(crate) async fn run(dir: &Path, stream: &Path) {
    let asked: Asked = serde_json::from_slice(&std::fs::read(dir.join(ASKED)).unwrap()).unwrap();
    let stand_ins = StandIns::start(dir).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    announce(dir, &stand_ins.endpoints(listener.local_addr().unwrap())).unwrap();
    let (go, told) = mpsc::channel();
    let stream = stream.to_owned();
    let sender = thread::spawn(move || {
        let mut socket = livestream::accept(&listener);
        say(CONNECTED);
        told.recv().unwrap();
        let pace = Pace::of(asked.rate);
        let sent = livestream::send(&stream, &pace, pace.pieces(asked.seconds), &mut socket).unwrap();
        // The connection stays open until the benchmark has seen everything.
        let _ = told.recv();
        sent
    });
    tokio::task::spawn_blocking(move || helper::serve(|_| go.send(()).unwrap())).await.unwrap().unwrap();
    let sent = sender.join().unwrap();
    say(&serde_json::to_vec(&saw(&sent, &stand_ins)).unwrap());
    stand_ins.stop().await;
}

fn saw(sent: &Sent, stand_ins: &StandIns) -> Saw {
    let nanos = |at: &SystemTime| u64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let requests = stand_ins.s3.requests();
    Saw {
        pieces: sent.pieces.iter().map(nanos).collect(),
        late: millis(sent.latest),
        copies: copies(&stand_ins.redshift.faults().statements()),
        writes: [Operation::Put, Operation::Copy, Operation::List].map(|kind| requests.of(kind)).iter().sum(),
    }
}

/// From each COPY to the next statement of its session, which the ingester sends when it has the answer.
fn copies(statements: &[Seen]) -> Vec<f64> {
    let ended = |at: usize| statements[at + 1..].iter().find(|next| next.pid == statements[at].pid);
    let copies = (0..statements.len()).filter(|at| statements[*at].kind == Kind::Copy);
    copies.filter_map(|at| Some(millis(ended(at)?.at - statements[at].at))).collect()
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn say(what: &[u8]) {
    let mut out = std::io::stdout();
    out.write_all(what).unwrap();
    out.flush().unwrap();
}
