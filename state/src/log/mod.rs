//! The producer's log: makes accepted records safe until S3 has them. Comes in: staged rows and rejects. Goes out: files and
//! batches for S3. Survives a crash: every durable commit, and what of it is not yet in S3.
//!
//! ```text
//! record ─► staged (memory) ─► committed (durable: accepted) ─► in S3 ─► dropped here
//! ```
//! One [`Log`] writes, on one thread; any number of [`LogReader`]s read. Numbers of files, batches, rejects and sessions
//! only grow, also over restarts. Keys are big-endian, so that order is time order:
//!
//! | table | key | value |
//! |---|---|---|
//! | chunks | file, chunk, piece | the rows of one commit: count, length, then the CSV lines in one zstd frame, with the batch placeholder in place of the id of their batch |
//! | hits | file, chunk, piece | the lowest and highest time of the hits of that commit, then 16 bytes for each hit id in it |
//! | files | file | [`FileRecord`] |
//! | batches | batch | [`BatchRecord`] |
//! | rejects | reject, piece | one line of JSON, as it goes to S3 |
//! | sessions | session | [`Session`] |
//! | meta | `sums` | totals, what of them is sealed already, next numbers, what each connection has received |
//! | meta | `runs` | this run, and earlier ones with the last batch of each |
//! | meta | `mark` | the batch placeholder: what rows have in place of the id of their batch |
//! | meta | `columns/<fingerprint>/`, piece | the names of the columns of a schema that rows here were made for |
//! | meta | `rejects` | the rejects that go to S3 next as one object, first to last |

mod resume;
mod writer;
mod reader;
mod verify;
mod filling;
mod pipeline;
mod sessions;
mod uploading;
mod window;
mod known;
mod form;
mod columns;
mod batch_placeholder;
mod chunk;
mod record;
mod reject;
mod coverage;
mod status;
mod settings;

pub use form::Form;
pub use known::{HitSet, KnownHits};
pub use pipeline::Committed;
pub(crate) use reader::Figures;
pub use reader::{Dedup, LogReader};
pub use record::{BatchRecord, Chosen, FileRecord, Gap, GapTotals, HitId, Session};
pub use reject::{KeptRecord, ProtectedNote, RejectLine};
pub use resume::Resumed;
pub use sessions::ENDED_WITHOUT_A_WORD;
pub use settings::Settings;
pub use status::{BatchStatus, FileStatus, IllegalMove, LogError, Upload};
#[cfg(test)]
pub(crate) use verify::check;
pub use writer::{Log, Staged};
