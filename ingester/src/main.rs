//! Starts the ingester.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::exit::main(ingester::Cli::execute)
}
