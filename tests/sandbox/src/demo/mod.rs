//! The parts of the demo.

pub(crate) mod keeper;
pub(crate) mod progress;
pub(crate) mod psql;
pub(crate) mod run;
