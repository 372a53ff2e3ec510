//! From bytes to rows: `make fuzz`.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    check::check(input);
    fuzz::tried(input);
});
