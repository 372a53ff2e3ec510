//! The two objects that end a batch's folder: the manifest that COPY reads, and the seal.

mod read;

mod format;

pub use format::{
    AHEAD, BadSeal, Compared, Counts, KnownRun, Manifest, ManifestEntry, SEAL_FORMAT, Seal, SealedFile,
    believed,
};
pub use read::MAX_OBJECT_BYTES;
#[cfg(test)]
pub(crate) use read::{MAX_FILE_BYTES, MAX_FILE_ROWS};
