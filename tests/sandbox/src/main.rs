//! `demo`: the whole pipeline on one machine, killed while it runs, and judged from outside.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sandbox::cli::Cli::parse().execute()
}
