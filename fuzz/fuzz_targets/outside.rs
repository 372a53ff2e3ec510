//! What comes from a bucket, a socket, Redshift or a file. `FUZZ_CHECK` names the check (`ingester/src/fuzzed.rs`).
#![no_main]

use std::sync::OnceLock;

use ingester::fuzzed::{CHECKS, Check};

static CHECK: OnceLock<Check> = OnceLock::new();

fn check() -> Check {
    let name = std::env::var("FUZZ_CHECK").unwrap_or_default();
    let found = CHECKS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("FUZZ_CHECK names no check: {name:?}")).1
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    CHECK.get_or_init(check)(input);
    fuzz::tried(input);
});
