//! Both services on disks that fail at the n-th call, and with too little memory: each ends as it may, and the next start goes on. How
//! the log and the load store take every single call is the matter of `state/tests/faults/`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::config::Shape;
use sandbox::service;
use shared::exit::Exit;

use crate::shim::{self, Fault, How, Kind, STRUCK};
use crate::world::{STOP, World, assert_clean, options};

/// KiB of address space: from what no service starts with to what is enough.
const ADDRESSES: std::ops::Range<u64> = 50 << 10..900 << 10;
/// How long a service may run until its call comes; then it is asked to stop.
const WHILE: Duration = Duration::from_secs(3);

/// A service that something goes wrong with.
struct Failing {
    name: &'static str,
    what: String,
    child: Child,
    said: PathBuf,
    /// When it was asked to stop.
    stopped: Option<Instant>,
}

impl Failing {
    /// On a disk that fails.
    fn on_disk(world: &World, name: &'static str, fault: Fault) -> Self {
        let mut command = service::command(name, &["run"], &world.config).unwrap();
        shim::load_into(&mut command, &world.path(name), &counts(world, name), Some(fault));
        Self::start(world, name, format!("{fault:?}"), command)
    }

    /// With so much address space.
    fn with_memory(world: &World, name: &'static str, kib: u64) -> Self {
        let inner = service::command(name, &["run"], &world.config).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v $0 && exec \"$@\"", &kib.to_string()]);
        command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::start(world, name, format!("{} MiB", kib >> 10), command)
    }

    fn start(world: &World, name: &'static str, what: String, mut command: Command) -> Self {
        let said = world.path(&format!("failing-{name}"));
        let out = File::create(&said).unwrap();
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { name, what, child, said, stopped: None }
    }

    /// Waits until it has ended.
    async fn end(&mut self, begun: Instant) -> ExitStatus {
        loop {
            match self.poll(begun) {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// How it has ended, if it has. Once its time is over it is asked to stop.
    fn poll(&mut self, begun: Instant) -> Option<ExitStatus> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(status);
        }
        if self.stopped.is_none() && begun.elapsed() > WHILE {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
            // It may be ending at this moment.
            let _gone = kill_process(pid, Signal::TERM);
            self.stopped = Some(Instant::now());
        }
        let hangs = self.stopped.is_some_and(|stopped| stopped.elapsed() > STOP);
        assert!(!hangs, "{} hangs after {}: {}", self.name, self.what, self.said());
        None
    }

    fn said(&self) -> String {
        service::tail(&std::fs::read_to_string(&self.said).unwrap())
    }

    fn about(&self, status: ExitStatus) -> String {
        format!("{} ended with {status} after {}: {}", self.name, self.what, self.said())
    }

    /// What came of it on a disk that failed.
    fn judge(&self, status: ExitStatus, how: How, struck: bool) -> &'static str {
        let killed = matches!(how, How::Before | How::After) && status.signal() == Some(9);
        let refuses = matches!(how, How::Eio | How::Enospc | How::Edquot);
        match status.code() {
            Some(0) => {
                assert!(self.stopped.is_some(), "by itself: {}", self.about(status));
                if struck { "went on" } else { "met no such call" }
            }
            _ if !struck => panic!("{}", self.about(status)),
            None if killed => "killed",
            Some(code) if refuses && code == Exit::Io as i32 => "ended with 74",
            _ => panic!("{}", self.about(status)),
        }
    }

    /// What came of it with too little memory. A process that gets none may end in any way, but must not call it damage.
    fn judge_starved(&self, status: ExitStatus) -> &'static str {
        match (status.code(), status.signal()) {
            (Some(0), _) => "went on",
            (Some(code), _) if code == Exit::Data as i32 || code == Exit::Config as i32 => {
                panic!("{}", self.about(status))
            }
            (Some(_), _) => "ended with a code",
            _ => "aborted",
        }
    }
}

fn counts(world: &World, name: &str) -> PathBuf {
    world.path(&format!("counts-{name}"))
}

fn is_long() -> bool {
    std::env::var_os("FAULTS_ALL").is_some()
}

/// What draws the faults, with its seed told.
fn random() -> Rng {
    let seed = std::env::var("FAULTS_SEED").map_or(1, |value| value.parse().unwrap());
    println!("FAULTS_SEED={seed} draws the same faults");
    Rng::with_seed(seed)
}

fn draw(random: &mut Rng) -> Fault {
    let kind = *random.choice(&Kind::ALL).unwrap();
    let mut hows = vec![How::Eio, How::Enospc, How::Edquot, How::Slow, How::Before, How::After];
    if matches!(kind, Kind::Read | Kind::Write) {
        hows.push(How::Short);
    }
    let how = *random.choice(&hows).unwrap();
    let most = match kind {
        Kind::Write | Kind::Sync => 120,
        Kind::Read | Kind::Open => 40,
        _ => 3,
    };
    Fault { kind, at: random.u64(1..=most), how, on: how == How::Enospc }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_whose_disks_fail_end_with_74_and_the_next_start_goes_on() {
    let rounds = if is_long() { 100 } else { 5 };
    let mut random = random();
    let shape = Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let adobe = adobe::Options { rate: Some(1_000), ..options(rounds * 2_000) };
    let world = World::with(adobe, &shape).await;
    let mut struck = 0;
    for round in 0..rounds {
        let services = ["producer", "ingester"].map(|name| {
            let fault = draw(&mut random);
            (Failing::on_disk(&world, name, fault), fault)
        });
        let begun = Instant::now();
        for (mut service, fault) in services {
            let status = service.end(begun).await;
            let has_struck = shim::read_counts(&counts(&world, service.name))[STRUCK] > 0;
            let word = service.judge(status, fault.how, has_struck);
            println!("round {round}: {} {word} after {}", service.name, service.what);
            struck += u64::from(word != "met no such call");
        }
    }
    assert!(struck >= rounds, "only {struck} calls failed in {rounds} rounds");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_with_too_little_memory_lose_and_double_nothing() {
    let rounds = if is_long() { 60 } else { 4 };
    let mut random = random();
    let shape = Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let adobe = adobe::Options { rate: Some(1_000), ..options(rounds * 2_000) };
    let world = World::with(adobe, &shape).await;
    let mut starved = 0;
    for round in 0..rounds {
        let services =
            ["producer", "ingester"].map(|name| Failing::with_memory(&world, name, random.u64(ADDRESSES)));
        let begun = Instant::now();
        for mut service in services {
            let status = service.end(begun).await;
            let word = service.judge_starved(status);
            println!("round {round}: {} {word} with {}", service.name, service.what);
            starved += u64::from(word != "went on");
        }
    }
    assert!(starved * 4 >= rounds, "only {starved} were starved in {rounds} rounds");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
}
