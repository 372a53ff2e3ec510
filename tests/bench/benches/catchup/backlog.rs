//! What the backlog was as objects.

use std::fs;
use std::path::Path;

use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use shared::layout::SEAL;
use shared::seal::Seal;

/// Everything that waits for a load.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) batches: usize,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

impl Objects {
    /// By the seals in the folder of the S3 stand-in.
    pub(crate) fn below(dir: &Path) -> Self {
        let mut objects = Self::default();
        let files = files_below(&dir.join("s3").join(BUCKET).join("ToIngest")).unwrap();
        for seal in files.iter().filter(|file| file.ends_with(SEAL)) {
            let seal: Seal = serde_json::from_slice(&fs::read(seal).unwrap()).unwrap();
            objects.batches += 1;
            objects.files += seal.files.len();
            objects.bytes += seal.bytes;
            objects.rows += seal.rows;
        }
        objects
    }
}
