//! From one line to a row: whatever the line holds, it is a row that COPY takes as it is, or a reject.
#![no_main]

use std::cell::RefCell;

use reference::{Checker, every_kind};

thread_local! {
    static CHECKER: RefCell<Checker> =
        RefCell::new(every_kind().map_err(Into::into).and_then(|schema| Checker::new(&schema)).unwrap());
}

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    CHECKER.with_borrow_mut(|checker| {
        checker.line(line).unwrap_or_else(|fault| panic!("{fault:#}"));
    });
    fuzz::tried(line);
});
