//! Exit codes, an interface like any other: service managers and scripts act on them (`sysexits.h`).

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// 0: the work is done, or a requested stop went in order.
    Done = 0,
    /// 64: the command line is wrong.
    Usage = 64,
    /// 65: stored data is damaged or of a format this version does not know.
    Data = 65,
    /// 66: what was requested does not exist.
    NoInput = 66,
    /// 69: an outside service refused for good (a stream that is not enabled, a client id that is unknown).
    Unavailable = 69,
    /// 70: a fault in the program itself.
    Software = 70,
    /// 74: the local disk failed or is full.
    Io = 74,
    /// 75: stopped before the work was done; the same command goes on.
    Unfinished = 75,
    /// 77: a file, socket or directory may not be used by this user.
    Permission = 77,
    /// 78: the configuration is wrong.
    Config = 78,
}

/// An error that knows with which code the program ends.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// Ends the program with `exit`, saying `error`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// The code the program ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Failure {}

/// An I/O error ends with the code of [`io_exit`].
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let exit = io_exit(&error);
        Self::new(exit, error)
    }
}

/// 77: a permission is missing; 78: a path leads through something that is no directory; 74: anything else.
pub fn io_exit(error: &std::io::Error) -> Exit {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::Permission,
        std::io::ErrorKind::NotADirectory => Exit::Config,
        _ => Exit::Io,
    }
}

/// The exit code of a result. Writes an error to standard error, where it is seen even if logging never started.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(crate::out::stderr(), "error: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// The whole of a program's `main`. Whatever the program makes is for its user alone.
pub fn main<C: clap::Parser>(execute: impl FnOnce(C) -> Result<(), Failure>) -> ExitCode {
    crate::private::from_now_on();
    match C::try_parse() {
        Ok(command) => finish(execute(command)),
        Err(help) => {
            let _ = help.print();
            ExitCode::from(if help.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
        }
    }
}
