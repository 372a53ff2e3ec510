//! Both services on disks that fail at the n-th call: each ends with the code for that, and the next start goes on. How the log and
//! the load store take every single call is the matter of `state/tests/faults/`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use sandbox::config::Shape;
use sandbox::service;
use shared::exit::Exit;

use crate::shim::{self, Fault, How, Kind, STRUCK};
use crate::world::{STOP, World, assert_clean, options};

/// How long a service may run until its call comes; then it is asked to stop.
const WHILE: Duration = Duration::from_secs(3);

/// A service on a disk that fails.
struct Failing {
    name: &'static str,
    fault: Fault,
    child: Child,
    counts: PathBuf,
    said: PathBuf,
    /// When it was asked to stop.
    stopped: Option<Instant>,
}

impl Failing {
    fn start(world: &World, name: &'static str, fault: Fault) -> Self {
        let (counts, said) = (world.path(&format!("counts-{name}")), world.path(&format!("failing-{name}")));
        let mut command = service::command(name, &["run"], &world.config).unwrap();
        shim::load_into(&mut command, &world.path(name), &counts, Some(fault));
        let out = File::create(&said).unwrap();
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { name, fault, child, counts, said, stopped: None }
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
        assert!(!hangs, "{} hangs after {:?}: {}", self.name, self.fault, self.said());
        None
    }

    fn said(&self) -> String {
        service::tail(&std::fs::read_to_string(&self.said).unwrap())
    }

    /// What came of it.
    fn judge(&self, status: ExitStatus) -> &'static str {
        let struck = shim::read_counts(&self.counts)[STRUCK] > 0;
        let about = || format!("{} ended with {status} after {:?}: {}", self.name, self.fault, self.said());
        let killed = self.fault.how == How::After && status.signal() == Some(9);
        match status.code() {
            Some(0) => {
                assert!(self.stopped.is_some(), "by itself: {}", about());
                if struck { "went on" } else { "met no such call" }
            }
            _ if !struck => panic!("{}", about()),
            None if killed => "killed",
            Some(code) if code == Exit::Io as i32 => "ended with 74",
            _ => panic!("{}", about()),
        }
    }
}

fn draw(random: &mut Rng) -> Fault {
    let kinds = [Kind::Write, Kind::Sync, Kind::Read, Kind::Open, Kind::Rename, Kind::Unlink];
    let kind = *random.choice(&kinds).unwrap();
    let how = *random.choice(&[How::Eio, How::Enospc, How::After]).unwrap();
    let most = match kind {
        Kind::Write | Kind::Sync => 120,
        Kind::Read | Kind::Open => 40,
        _ => 3,
    };
    Fault { kind, at: random.u64(1..=most), how, on: how == How::Enospc }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_whose_disks_fail_end_with_74_and_the_next_start_goes_on() {
    let rounds = if std::env::var_os("FAULTS_ALL").is_some() { 60 } else { 5 };
    let seed = std::env::var("FAULTS_SEED").map_or(1, |value| value.parse().unwrap());
    println!("FAULTS_SEED={seed} draws the same faults");
    let mut random = Rng::with_seed(seed);
    let shape = Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let adobe = adobe::Options { rate: Some(1_000), ..options(rounds * 2_000) };
    let world = World::with(adobe, &shape).await;
    let mut struck = 0;
    for round in 0..rounds {
        let services = ["producer", "ingester"].map(|name| Failing::start(&world, name, draw(&mut random)));
        let begun = Instant::now();
        for mut service in services {
            let status = loop {
                match service.poll(begun) {
                    Some(status) => break status,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let word = service.judge(status);
            println!("round {round}: {} {word} after {:?}", service.name, service.fault);
            struck += u64::from(word != "met no such call");
        }
    }
    assert!(struck >= rounds, "only {struck} calls failed in {rounds} rounds");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
}
