//! One turn of the whole way: the real program between the stand-ins, from the first byte to the last row in S3.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bench::cpu_time_of;
use bench::helper::Helper;
use sandbox::config::{Shape, pipeline};
use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use sandbox::service;
use sandbox::standins::Endpoints;
use shared::layout::SEAL;
use shared::seal::Seal;

use crate::stand_ins;
use crate::threads::Threads;
use crate::way::Taken;

/// The sizes of the daemon, which cost most: more objects, and each compressed anew. The records of a run fill them without a rest, so
/// that none waits for its age.
const SHAPE: Shape = Shape {
    max_file_age: "1m",
    max_batch_age: "5m",
    records_per_file: 1000,
    files_per_batch: 10,
    compression: "zstd",
};
/// Nothing here takes as long.
const LONGEST: Duration = Duration::from_secs(180);
/// What connections and threads may take to come to rest.
const REST: Duration = Duration::from_millis(300);

/// What all turns of a schema share.
pub(crate) struct Setup<'a> {
    pub(crate) records: u64,
    pub(crate) text_bytes: u64,
    /// The text of a schema file; none is the built-in schema.
    pub(crate) schema: Option<&'a str>,
    /// A file for each connection.
    pub(crate) bodies: &'a [PathBuf],
}

/// The program; killed at the end, when all that is asked of it is done.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was taken until now.
struct Moment {
    threads: Threads,
    cpu: Duration,
    stand_ins: Duration,
    syncs: usize,
}

impl Moment {
    fn now(pid: u32, stand_ins: &Helper, trace: &Path) -> Self {
        let (cpu, stand_ins) = (cpu_time_of(&pid.to_string()), cpu_time_of(&stand_ins.id()));
        Self { threads: Threads::of(pid), cpu, stand_ins, syncs: syncs(trace) }
    }
}

/// What a turn took, and how many calls of fsync and fdatasync there were if it is `traced`. Under strace the program is
/// slower: its times say nothing then.
pub(crate) fn turn(setup: &Setup<'_>, traced: bool) -> (Taken, usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let trace = dir.path().join("trace");
    let (mut stand_ins, endpoints) = stand_ins::start(dir.path(), setup.bodies);
    let config = configure(dir.path(), &endpoints, setup);
    let program = start(&config, dir.path(), traced.then_some(trace.as_path()));
    let pid = program.0.id();
    stand_ins.hear().unwrap();
    thread::sleep(REST);

    let before = Moment::now(pid, &stand_ins, &trace);
    let begun = SystemTime::now();
    stand_ins.tell(b'g').unwrap();
    let bucket = dir.path().join("s3").join(BUCKET).join("ToIngest");
    let ended = last_file(&bucket, files_of(setup.records));
    let after = Moment::now(pid, &stand_ins, &trace);

    until(|| (rows_sealed(&bucket) == setup.records).then_some(()));
    let peak_memory = service::peak_rss_of(pid).unwrap();
    drop(program);
    let taken = Taken {
        records: setup.records,
        text_bytes: setup.text_bytes,
        time: ended.duration_since(begun).unwrap(),
        cpu: after.cpu - before.cpu,
        peak_memory,
        threads: after.threads.since(&before.threads),
        stand_ins: after.stand_ins - before.stand_ins,
        puts: stand_ins.end().unwrap().parse().unwrap(),
    };
    (taken, after.syncs - before.syncs)
}

/// Files of so many records.
fn files_of(records: u64) -> u64 {
    let files = records / u64::from(SHAPE.records_per_file);
    let whole = files.is_multiple_of(u64::from(SHAPE.files_per_batch));
    assert!(whole && records.is_multiple_of(SHAPE.records_per_file.into()), "take whole batches of records");
    files
}

/// The configuration of the sandbox, for these connections and this schema.
fn configure(dir: &Path, endpoints: &Endpoints, setup: &Setup<'_>) -> PathBuf {
    let connections = setup.bodies.len();
    let keys = format!("[adobe]\nmax_connections = {connections}\nconnections = {connections}");
    let mut text = pipeline(dir, endpoints, &SHAPE).replace("[adobe]", &keys);
    if let Some(schema) = setup.schema {
        let file = dir.join("schema.toml");
        fs::write(&file, schema).unwrap();
        text += &format!("\n[schema]\nfile = '{}'\n", file.display());
    }
    let config = dir.join("pipeline.toml");
    fs::write(&config, text).unwrap();
    config
}

fn start(config: &Path, dir: &Path, trace: Option<&Path>) -> Program {
    let mut command = service::command("producer", &["run"], config).unwrap();
    if let Some(trace) = trace {
        command = under_strace(&command, trace);
    }
    let out = File::create(dir.join("producer.out")).unwrap();
    Program(command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap())
}

/// As a detached grandchild (`-D`), so that the program keeps its place as the child; only syncs stop it.
fn under_strace(command: &Command, trace: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o"]).arg(trace);
    strace.arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace
}

/// Calls that the trace tells of; one that another thread interrupts is begun on one line and ended on another.
fn syncs(trace: &Path) -> usize {
    let text = fs::read_to_string(trace).unwrap_or_default();
    text.lines().filter(|line| line.contains(" fsync(") || line.contains(" fdatasync(")).count()
}

/// Waits until so many files of rows are there; when the last one was written.
fn last_file(bucket: &Path, files: u64) -> SystemTime {
    let is_of_rows = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".csv.zst") && name.starts_with(|c: char| c.is_ascii_digit())
    };
    let all = until(|| {
        let mut all = files_below(bucket).unwrap_or_default();
        all.retain(is_of_rows);
        (all.len() as u64 >= files).then_some(all)
    });
    all.iter().map(|file| fs::metadata(file).unwrap().modified().unwrap()).max().unwrap()
}

/// Rows of all batches that are published.
fn rows_sealed(bucket: &Path) -> u64 {
    let files = files_below(bucket).unwrap_or_default();
    let seals = files.iter().filter(|file| file.ends_with(SEAL));
    seals
        .filter_map(|seal| serde_json::from_slice::<Seal>(&fs::read(seal).ok()?).ok())
        .map(|seal| seal.rows)
        .sum()
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LONGEST, "the producer did not put all rows into S3");
        thread::sleep(Duration::from_millis(10));
    }
}
