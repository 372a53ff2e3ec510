//! Ends the process when sled cannot read its file. sled 0.34.7 goes on as if nothing had happened where it must not:
//!
//! - As it opens its file it takes such an error for the end of its log, or for free space (`src/pagecache/iterator.rs`). It clears what
//!   follows, and what was accepted is gone, although the disk has it.
//! - In the middle of a change it leaves the change half applied, and writes that half with the next flush.
//!
//! A process that ends at once is like a kill, which does no harm.
#![allow(unsafe_code, reason = "a function of the C library is given another body, and calls the C library")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use shared::exit::Failure;
use shared::out;

use crate::store::error::StoreError;
use crate::store::{disk_error, paths};

/// Takes the place of the C library's function of this name, with which Rust's library reads at a place of a file, in every
/// program that is linked with this crate.
#[unsafe(no_mangle)]
extern "C" fn pread64(file: c_int, to: *mut c_void, bytes: usize, from: i64) -> isize {
    let place = libc::iovec { iov_base: to, iov_len: bytes };
    // SAFETY: the same call in another form. Whoever calls this promises that `to` has room for so many bytes.
    let read = unsafe { libc::preadv64(file, &raw const place, 1, from) };
    if read < 0 {
        let error = io::Error::last_os_error();
        let path = fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default();
        let harmless = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::IsADirectory);
        if path.ends_with(paths::DATABASE) && !harmless {
            end(&path, error);
        }
        // SAFETY: the C library has such a place for each thread. What was called since may have written there.
        unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or_default() };
    }
    read
}

fn end(path: &Path, error: io::Error) -> ! {
    if let Some(dir) = path.ancestors().nth(2) {
        disk_error::note(dir, path, &error);
    }
    let failure = Failure::from(StoreError::Io { path: path.to_owned(), error });
    tracing::error!(error = %failure, "cannot read the database; the next start goes on");
    let failure = failure.logged();
    if !failure.is_logged() {
        let _best_effort = writeln!(out::stderr(), "error: {failure}");
    }
    std::process::exit(failure.exit() as i32)
}
