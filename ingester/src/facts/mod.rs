//! What log, S3, ledger and load store say of a batch ([`gather`], [`count`]), and what follows from it: a verdict for
//! `reconcile` ([`judge`]), the faults for `audit` ([`faults`]). Everything here only reads, so a crash loses nothing.

pub(crate) mod count;
pub(crate) mod gather;
pub(crate) mod judge;
pub(crate) mod faults;
pub(crate) mod folder;
pub(crate) mod batch;
pub(crate) mod rows;
pub(crate) mod listing;
pub(crate) mod unknown_folders;
mod wording;
