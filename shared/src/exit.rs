//! Exit codes, an interface like any other: service managers and scripts act on them (`sysexits.h`).

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::Command;
use serde::{Deserialize, Serialize};

use crate::causes::causes;

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
    logged: bool,
}

impl Failure {
    /// Ends the program with `exit`, saying `error`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), logged: false }
    }

    /// For `what` has panicked; `todo` ends the sentence. What the panic said stands on standard error, and may hold anything, so
    /// it is said nowhere else.
    pub fn panicked(what: &str, todo: &str) -> Self {
        let why = "panicked, which is a fault of this program: report it with what stands on standard error";
        Self::new(Exit::Software, anyhow::anyhow!("{what} {why}{todo}"))
    }

    /// The code the program ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Notes that it was logged as an error, so that standard error does not have it twice.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.logged = tracing::enabled!(tracing::Level::ERROR);
        self
    }

    /// Whether it was logged as an error.
    pub fn is_logged(&self) -> bool {
        self.logged
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Unlike `{:#}`, this leaves out a cause that the error itself says already.
        f.write_str(&causes(self.error.as_ref()))
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

/// The exit code of a result. Writes an error to standard error, unless the log there has it already.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.logged {
                let _ = writeln!(crate::out::stderr(), "error: {failure}");
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Every code, for the help of every command.
const CODES: &str = "\
Exit codes:
    0  done
   64  usage: the command line is wrong, or an answer was no
   65  data: damaged, refused, or left for an operator to decide
   66  no input: what was named does not exist
   69  unavailable: a service refuses, does not answer, or is in use
   70  fault of the program itself
   74  disk: it failed or is full
   75  unfinished: stopped before the end; run the same command again
   77  permission: this user may not use a file, socket or directory
   78  configuration: a key, a role, a grant or a credential is wrong
  130  ended at once by a second signal";

/// The command and all below it, with the exit codes at the end of their help.
pub fn with_codes(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let examples = command.get_after_help().map(|examples| format!("{examples}\n\n")).unwrap_or_default();
    let command = command.after_help(examples + CODES);
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_codes))
}

/// The whole of a program's `main`. Whatever the program makes is for its user alone.
pub fn main<C: clap::Parser>(execute: impl FnOnce(C) -> Result<(), Failure>) -> ExitCode {
    crate::private::from_now_on();
    let parsed = with_codes(C::command()).try_get_matches();
    match parsed.and_then(|matches| C::from_arg_matches(&matches)) {
        Ok(command) => finish(execute(command)),
        Err(help) => {
            let _ = help.print();
            ExitCode::from(if help.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("filter: {source}")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_the_error_says_itself_is_said_once() {
        let outer = Outer { source: std::io::Error::other("unclosed group") };
        assert_eq!(Failure::new(Exit::Config, outer).to_string(), "filter: unclosed group");
    }

    #[test]
    fn every_code_is_in_the_help_of_every_command() {
        let deep = Command::new("deep").after_help("Example:\n  program outer deep");
        let program = Command::new("program").subcommand(Command::new("outer").subcommand(deep));
        let mut program = with_codes(program);
        let outer = program.find_subcommand_mut("outer").unwrap();
        let help = outer.find_subcommand_mut("deep").unwrap().render_help().to_string();
        assert!(help.contains("program outer deep\n\nExit codes:"), "{help}");
        for exit in [Exit::Done, Exit::Usage, Exit::Data, Exit::NoInput, Exit::Unavailable, Exit::Software]
            .into_iter()
            .chain([Exit::Io, Exit::Unfinished, Exit::Permission, Exit::Config])
        {
            assert!(help.contains(&format!("\n{:>5}  ", exit as u8)), "{exit:?}: {help}");
        }
    }
}
