//! Starts the producer.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::exit::main(producer::Cli::execute)
}
