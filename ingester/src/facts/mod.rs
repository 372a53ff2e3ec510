//! What log, S3 and ledger say of a batch, and what follows from it.

pub mod judge;
pub mod gather;
pub mod compare;
pub mod folder;
pub mod rows;
