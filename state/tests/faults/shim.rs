//! Builds the shim, and loads it into processes.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A process that takes longer has stopped for good: the slowest one takes a second.
const PATIENCE: Duration = Duration::from_secs(40);

/// A kind of call, numbered as in the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Sync,
    Open,
    Rename,
    Unlink,
    Truncate,
    Mkdir,
    /// An allocation.
    Memory = 9,
}

/// Where the shim counts calls that went wrong.
pub(crate) const STRUCK: usize = 8;

impl Kind {
    /// Those of files.
    pub(crate) const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Open,
        Self::Rename,
        Self::Unlink,
        Self::Truncate,
        Self::Mkdir,
    ];
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Eio,
    Enospc,
    Edquot,
    Short,
    Slow,
    /// The process is killed before the call, or after it.
    Before,
    After,
}

/// The call that goes wrong, and with `on` all of its kind after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) at: u64,
    pub(crate) how: How,
    pub(crate) on: bool,
}

/// How a process ended, and what it said before.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// It had to be killed because it did not end.
    pub(crate) hung: bool,
    pub(crate) said: Vec<String>,
    counts: [u64; 16],
}

impl Ended {
    /// Calls of a kind.
    pub(crate) fn calls(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// Calls that went wrong.
    pub(crate) fn struck(&self) -> u64 {
        self.counts[STRUCK]
    }

    /// What it says of its end.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.said.iter().rev().find_map(|line| line.strip_prefix("failed "))
    }
}

/// The shim, compiled once for all tests of this process.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let source = target.with_extension("c");
        std::fs::write(&source, include_str!("shim.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&target).arg(&source);
        let status =
            compiler.arg("-ldl").status().expect("a C compiler is missing: .ci/prerequisites installs it");
        assert!(status.success(), "{status}");
        target
    })
}

/// Loads the shim into the process of this command, so that calls on files below `below` go wrong as the fault says. Their numbers
/// are kept in the new file `counts`.
pub(crate) fn load_into(command: &mut Command, below: &Path, counts: &Path, fault: Option<Fault>) {
    std::fs::write(counts, [0; 16 * 8]).unwrap();
    command.env("LD_PRELOAD", shim()).env("FAULT_BELOW", below).env("FAULT_COUNTS", counts);
    if let Some(Fault { kind, at, how, on }) = fault {
        command.env("FAULT_CALLS", format!("{kind:?}").to_lowercase()).env("FAULT_AT", at.to_string());
        command.env("FAULT_HOW", format!("{how:?}").to_lowercase());
        command.env("FAULT_ON", if on { "on" } else { "once" });
    }
}

/// Calls of each [`Kind`] so far, and at [`STRUCK`] those that went wrong.
pub(crate) fn read_counts(counts: &Path) -> [u64; 16] {
    let bytes = std::fs::read(counts).unwrap();
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    std::array::from_fn(|_| numbers.next().unwrap())
}

/// Runs a process with the shim to its end.
pub(crate) fn run(mut command: Command, below: &Path, counts: &Path, fault: Option<Fault>) -> Ended {
    load_into(&mut command, below, counts, fault);
    let mut ended = run_to_end(command, PATIENCE);
    ended.counts = read_counts(counts);
    ended
}

/// Runs a process to its end, or kills it after some time.
pub(crate) fn run_to_end(mut command: Command, patience: Duration) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (said, all_said) = std::sync::mpsc::channel();
    // Standard output ends when the process does.
    let listener = std::thread::spawn(move || {
        let lines: Vec<_> = lines.map_while(Result::ok).collect();
        let _nobody_waits = said.send(());
        lines
    });
    let hung = all_said.recv_timeout(patience).is_err();
    if hung {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let said = listener.join().unwrap();
    Ended { code: status.code(), signal: status.signal(), hung, said, counts: [0; 16] }
}
