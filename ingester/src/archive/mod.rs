//! Archives loaded batches: puts their folders where the configuration wants them. [`mod@put_away`] says why a crash
//! between any two requests is harmless.

mod archiver;
pub(crate) mod put_away;
mod occupied;

pub use archiver::Archiver;
pub use put_away::{Archiving, put_away};
