//! Makes durable what sled 0.34.7 takes for stable. sled waits for its writes with `sync_file_range`, which leaves the
//! device's write cache and the file's length as they are, and then writes new things over what it has moved. After a power
//! cut the new could be there and the moved could not. Nothing else in these programs calls this function.
#![allow(unsafe_code, reason = "a function of the C library is given another body, and calls the C library")]

use std::ffi::{c_int, c_uint};

/// Takes the place of the C library's function of this name in every program that is linked with this crate.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: c_int, _offset: i64, _bytes: i64, _flags: c_uint) -> c_int {
    // SAFETY: takes a number and touches no memory but errno; a wrong number is an error like any other.
    unsafe { libc::fdatasync(file) }
}
