//! Whether the page, open in ten browsers, slows the log down: `cargo bench --workspace --bench page`.
//!
//! A log with 1,000 batches that wait, the service's server with the page's data, an ingester beside it that has 1,000 batches
//! to load, and appends of 256 rows a commit: no page is open, or ten are. Those who have it open ask as the page's script
//! does, over a connection each that stays open, from a process of their own: what a browser does with an answer costs the
//! machine of its reader. As in `feed`, each turn with browsers stands beside one without, in either order, and what counts is
//! the middle of the ratios. The processor time of the service says the same with less noise on a machine that others use.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::helper::{self, Helper};
use bench::pending::{Pending, ROWS_PER_COMMIT, quarter};
use bench::{cpu_time, cpu_time_of};
use chrono::Utc;
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::ids::{BatchId, Instance};
use shared::metrics::Page;
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use state::inspect::board::{Board, Own};
use state::loads::{Load, LoadDatabase};
use state::log::LogReader;
use state::status::feed::{self, Owner};
use state::status::history::{History, Reading};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// Pairs of turns; even, so that each order comes as often as the other.
const PAIRS: usize = 40;
/// A turn is to take as long as the page's script waits between two questions, and no longer: a machine that others use is
/// another one half a minute later.
const COMMITS: usize = 4_000;
const BROWSERS: usize = 10;
/// So long the page is open while nothing is appended.
const ALONE: Duration = Duration::from_secs(30);
/// Samples of six hours.
const SAMPLES: u64 = 6 * 60 * 4;
/// The program starts itself with one of these: to be the browsers, or the ingester.
const BROWSE: &str = "--browse";
const INGESTER: &str = "--ingester";
/// What the browsers are told.
const OPEN: u8 = b'1';
const CLOSED: u8 = b'0';
/// What the browsers run: its intervals are theirs.
const SCRIPT: &str = include_str!("../../../state/src/inspect/board/page/main.js");

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].as_str());
    match (after(BROWSE), after(INGESTER)) {
        (Some(at), _) => browse(at.parse().unwrap()),
        (_, Some(config)) => be_ingester(Path::new(config)),
        // `-- 8` compares so many pairs only.
        _ => measure(args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(PAIRS)),
    }
}

fn measure(pairs: usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("pipeline.toml");
    std::fs::write(&path, config_text(dir.path())).unwrap();
    let config = Config::load(&path, Secrets::Unused).unwrap();
    let mut log = Pending::new(&config.log.dir, COMMITS).unwrap();
    let ingester = Helper::start(&[INGESTER, path.to_str().unwrap()]).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = Arc::new(AtomicU64::new(0));
    let (board, clock) = (board(config, log.reader(), made.clone()), Clock::system());
    let (_, token) = tokio::sync::watch::channel(Secret::default());
    runtime.spawn(shared::admin::serve(at.to_string(), token, board, clock, Shutdown::new()));
    let bytes = runtime.block_on(first_answer(at));
    println!("1,000 batches wait in the log and 1,000 for a load: the page's data are {} KB", bytes / 1_000);
    let mut browsers = Helper::start(&[BROWSE, &at.to_string()]).unwrap();
    alone(&mut browsers, &ingester, &made);
    println!(
        "\n{ROWS_PER_COMMIT} rows a commit; turns of {:.0} rows, the middle of {pairs} pairs of them\n",
        log.rows()
    );
    println!(
        "{:>8}  {:>9}  {:>11}  {:>14}  {:>10}  {:>11}  {:>14}",
        "browsers", "rows/s", "of none's", "middle half", "CPU µs/row", "of none's", "middle half"
    );
    compare(&mut log, None, pairs);
    compare(&mut log, Some(&mut browsers), pairs);
    let said = browsers.end().unwrap();
    let (count, waited) = said.trim().split_once(' ').unwrap();
    let (count, waited): (f64, f64) = (count.parse().unwrap(), waited.parse().unwrap());
    println!("\nthe browsers had {count:.0} answers, each after {:.0} ms", waited / count.max(1.0));
    ingester.end().unwrap();
}

/// What the open pages cost while nothing is appended.
fn alone(browsers: &mut Helper, ingester: &Helper, made: &AtomicU64) {
    browsers.tell(OPEN).unwrap();
    let cpu = || (cpu_time(), cpu_time_of(&ingester.id()));
    let (before, begun) = (cpu(), Instant::now());
    made.store(0, Ordering::Relaxed);
    std::thread::sleep(ALONE);
    let (after, seconds) = (cpu(), begun.elapsed().as_secs_f64());
    browsers.tell(CLOSED).unwrap();
    let share = |before: Duration, after: Duration| (after - before).as_secs_f64() / seconds * 100.0;
    println!(
        "{BROWSERS} browsers, nothing appended: the data are made {:.2} times a second; the service takes {:.2} % of a core for \
         it all, the ingester {:.2} %",
        made.load(Ordering::Relaxed) as f64 / seconds,
        share(before.0, after.0),
        share(before.1, after.1)
    );
}

/// Turns with the page open in all browsers beside turns without. Without browsers both turns are alike: what their ratio
/// scatters by is the machine's doing.
fn compare(log: &mut Pending, mut browsers: Option<&mut Helper>, pairs: usize) {
    let (mut ratios, mut speeds, mut cpu_ratios, mut cpus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let (mut times, mut cpu) = ([0.0; 2], [0.0; 2]);
        for turn in [pair % 2, 1 - pair % 2] {
            if let Some(browsers) = &mut browsers {
                browsers.tell(if turn == 1 { OPEN } else { CLOSED }).unwrap();
            }
            let before = cpu_time();
            let (time, ready) = log.append().unwrap();
            cpu[turn] = (cpu_time() - before).as_secs_f64() * 1e6 / log.rows();
            times[turn] = time.as_secs_f64();
            log.upload(ready).unwrap();
        }
        ratios.push(times[0] / times[1]);
        speeds.push(log.rows() / times[1]);
        cpu_ratios.push(cpu[1] / cpu[0]);
        cpus.push(cpu[1]);
    }
    let half = |values: &[f64]| format!("{:.2} to {:.2}", quarter(values, 1), quarter(values, 3));
    println!(
        "{:>8}  {:>9.0}  {:>11.3}  {:>14}  {:>10.2}  {:>11.3}  {:>14}",
        if browsers.is_some() { BROWSERS } else { 0 },
        quarter(&speeds, 2),
        quarter(&ratios, 2),
        half(&ratios),
        quarter(&cpus, 2),
        quarter(&cpu_ratios, 2),
        half(&cpu_ratios)
    );
}

fn config_text(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "[instance]\nname = \"bench\"\n[adobe]\nclient_id = \"0123456789abcdef0123456789abcdef\"\n\
         stream_url = \"https://livestream.adobe.net/api/1/stream/bench\"\n[log]\ndir = \"{dir}/producer\"\n\
         [s3]\nbucket = \"bucket\"\nregion = \"eu-central-1\"\n[redshift]\nhost = \"localhost\"\ndatabase = \"analytics\"\n\
         user = \"loader\"\niam_role = \"default\"\n[ingester]\ndir = \"{dir}/ingester\"\n"
    )
}

/// The page of a producer that has run for six hours.
fn board(config: Config, log: LogReader, made: Arc<AtomicU64>) -> Board {
    let clock = Clock::system();
    let history = History::new(clock.clone());
    for n in 0..SAMPLES {
        history.add(Reading { total: n * 1_000, newest: Some(Utc::now()), waiting_rows: n });
    }
    let (figures, missing) = (Box::new(|| Ok(Page::new("bench"))), Box::new(Vec::new));
    Board::of_producer(Own { config, clock, history, figures, missing }, move || {
        made.fetch_add(1, Ordering::Relaxed);
        Owner::snapshot(&log)
    })
}

/// An ingester with 1,000 batches to load, which answers on its socket.
fn be_ingester(config: &Path) {
    let config = Config::load(config, Secrets::Unused).unwrap();
    let loads = LoadDatabase::open(&config.ingester.dir).unwrap();
    let instance = Instance::try_from("bench".to_owned()).unwrap();
    for _ in 0..1_000 {
        loads
            .discovered(Load::new(BatchId::new(), instance.clone(), 10, 10_000, 2_000_000, Utc::now()))
            .unwrap();
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let socket = config.ingester_socket();
    let served = socket.clone();
    runtime
        .spawn(async move { feed::serve(&served, Arc::new(loads), Clock::system(), Shutdown::new()).await });
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    helper::ready().unwrap();
}

/// A constant of the page's script, in milliseconds.
fn constant(name: &str) -> Duration {
    let text = SCRIPT.split_once(&format!("const {name} = ")).unwrap().1.split_once(';').unwrap().0;
    Duration::from_millis(text.replace('_', "").parse().unwrap())
}

/// Has the page open in all browsers, or in none, as it is told. Who waits for an answer at the end is not waited for.
fn browse(at: SocketAddr) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (told, mut answers) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let every = constant("EVERY");
        for browser in 0..BROWSERS {
            // Nobody opens ten pages at the same moment.
            let first = every * u32::try_from(browser).unwrap() / u32::try_from(BROWSERS).unwrap();
            tokio::spawn(look_again_and_again(at, first, open.clone(), told.clone()));
        }
        let hear = move || helper::serve(|byte| open.store(byte == OPEN, Ordering::Relaxed));
        tokio::task::spawn_blocking(hear).await.unwrap().unwrap();
    });
    let (mut count, mut waited) = (0, Duration::ZERO);
    while let Ok(answer) = answers.try_recv() {
        count += 1;
        waited += answer;
    }
    println!("{count} {}", waited.as_secs_f64() * 1e3);
}

/// As `look` of the script, for a reader whose machine is fast: on a slow one it asks less often.
async fn look_again_and_again(
    at: SocketAddr,
    first: Duration,
    open: Arc<AtomicBool>,
    told: mpsc::UnboundedSender<Duration>,
) {
    let (every, past_every) = (constant("EVERY"), constant("PAST_EVERY"));
    tokio::time::sleep(first).await;
    let mut connected: Option<BufStream<TcpStream>> = None;
    let mut past_asked: Option<Instant> = None;
    loop {
        tokio::time::sleep(every).await;
        if !open.load(Ordering::Relaxed) {
            connected = None;
            continue;
        }
        if connected.is_none() {
            connected = Some(BufStream::new(TcpStream::connect(at).await.unwrap()));
        }
        let stream = connected.as_mut().unwrap();
        let begun = Instant::now();
        if past_asked.is_none_or(|asked| begun - asked >= past_every) {
            get(stream, at, "/api/history").await;
            past_asked = Some(begun);
        }
        let asked = Instant::now();
        get(stream, at, "/api/status").await;
        told.send(asked.elapsed()).unwrap();
    }
}

/// The bytes of an answer.
async fn get(stream: &mut BufStream<TcpStream>, at: SocketAddr, path: &str) -> usize {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    length
}

/// The bytes of an answer, as soon as the server listens.
async fn first_answer(at: SocketAddr) -> usize {
    loop {
        if let Ok(stream) = TcpStream::connect(at).await {
            return get(&mut BufStream::new(stream), at, "/api/status").await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
