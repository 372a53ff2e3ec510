//! `state`: what is pending and whether it is as it was written, whether the services run or not.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::exit::main(state::cli::Cli::execute)
}
