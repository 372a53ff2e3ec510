//! What log, S3 and ledger say of a batch, and what follows from it.

pub(crate) mod gather;
pub(crate) mod judge;
pub(crate) mod compare;
pub(crate) mod folder;
pub(crate) mod unknown_folders;
pub(crate) mod rows;
