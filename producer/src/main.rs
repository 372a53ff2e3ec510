//! Starts the producer.

use std::process::ExitCode;

/// Uploads free megabytes on whatever thread of the pool they end. glibc keeps an arena for each thread, and these together held
/// 500 MB while a backlog went to S3; this one gives such memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shared::exit::main(producer::Cli::execute)
}
