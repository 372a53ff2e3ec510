//! Counts what the fuzzer tries, so that a run can be as long as `make fuzz` says in bytes.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

static TRIED: AtomicU64 = AtomicU64::new(0);

/// Counts an input that held. Once `FUZZ_BYTES` are reached the process is interrupted as by Ctrl-C, so that libFuzzer prints
/// what it did.
pub fn tried(input: &[u8]) {
    let before = TRIED.fetch_add(input.len() as u64, Ordering::Relaxed);
    let after = before + input.len() as u64;
    if before < wanted() && after >= wanted() {
        eprintln!("tried {after} bytes");
        let pid = std::process::id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
    }
}

fn wanted() -> u64 {
    static WANTED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *WANTED.get_or_init(|| {
        let bytes = std::env::var("FUZZ_BYTES").ok().and_then(|bytes| bytes.parse().ok());
        bytes.unwrap_or(u64::MAX)
    })
}
