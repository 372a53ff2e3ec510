//! Adobe and S3 in a process of their own, so that what they take of the processor is not counted as the producer's.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use adobe::Adobe;
use bench::helper::{self, Helper};
use sandbox::s3::{Operation, S3};
use sandbox::standins::{CLIENT_ID, CLIENT_SECRET, Endpoints};

use crate::livestream;

/// The program starts itself with this argument, a folder and the files of the bodies.
pub(crate) const STAND_INS: &str = "--stand-ins";
const ENDPOINTS: &str = "endpoints.json";

/// Starts the process; it keeps its files below `dir`.
pub(crate) fn start(dir: &Path, bodies: &[PathBuf]) -> (Helper, Endpoints) {
    let paths = [dir].into_iter().chain(bodies.iter().map(PathBuf::as_path));
    let args: Vec<&str> = [STAND_INS].into_iter().chain(paths.map(|path| path.to_str().unwrap())).collect();
    let helper = Helper::start(&args).unwrap();
    let endpoints = serde_json::from_slice(&fs::read(dir.join(ENDPOINTS)).unwrap()).unwrap();
    (helper, endpoints)
}

/// In the process: serves until it is to end, then says how many objects were put.
pub(crate) fn run(dir: &Path, bodies: &[PathBuf]) {
    let bodies: Vec<_> = bodies.iter().map(|body| fs::read(body).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let s3 = runtime.block_on(S3::start(&dir.join("s3"))).unwrap();
    let (client_id, client_secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
    // For its tokens. Its Livestream compresses while it sends, which would measure the stand-in.
    let ims = Adobe::start(adobe::Options { client_id, client_secret, ..adobe::Options::default() }).unwrap();
    let go = Arc::new(Barrier::new(bodies.len() + 1));
    let stream = livestream::serve(bodies, Arc::clone(&go), || say(b"c"));
    let endpoints = Endpoints {
        token_url: ims.token_url(),
        stream_url: format!("http://{stream}/api/1/stream/bench"),
        redirect_host: ims.redirect_host().to_owned(),
        s3: s3.endpoint().to_owned(),
        // The producer never calls it.
        redshift: SocketAddr::from((Ipv4Addr::LOCALHOST, 5439)),
        postgres: String::new(),
    };
    fs::write(dir.join(ENDPOINTS), serde_json::to_vec(&endpoints).unwrap()).unwrap();
    helper::serve(|_| _ = go.wait()).unwrap();
    say(s3.requests().of(Operation::Put).to_string().as_bytes());
}

fn say(what: &[u8]) {
    let mut out = std::io::stdout();
    out.write_all(what).unwrap();
    out.flush().unwrap();
}
