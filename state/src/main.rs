//! `state` shows what is pending and verifies what is stored, whether the services run or not.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::exit::main(state::cli::Cli::execute)
}
