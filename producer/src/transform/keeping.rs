//! How much is kept of a record that cannot become a row.

use std::sync::LazyLock;

use ring::hmac;
use shared::config::KeepRejects;
use state::log::KeptRecord;

use crate::transform::protect::hex;

/// 128 bits.
const HASH_CHARS: usize = 32;

/// A configuration that is read again keeps it.
static OF_PROCESS: LazyLock<Option<hmac::Key>> =
    LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok());

#[derive(Debug, Clone)]
pub(super) struct Keeping {
    pub(super) keep: KeepRejects,
    /// What records are hashed under, so that nobody without it can try records out.
    key: Option<hmac::Key>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { keep: KeepRejects::Full, key: None }
    }
}

impl Keeping {
    /// Hashes are under this key, or under one of this process alone.
    pub(super) fn new(keep: KeepRejects, key: Option<hmac::Key>) -> Self {
        Self { keep, key: key.or_else(|| OF_PROCESS.clone()) }
    }

    /// What is kept of a record that must not be kept itself: of so many bytes, of which `record` holds all, or the first.
    pub(super) fn digest(&self, record: &[u8], bytes: u64) -> KeptRecord {
        let hash = self.key.as_ref().map(|key| hex(hmac::sign(key, record).as_ref(), HASH_CHARS));
        KeptRecord::Digest { bytes, hash: hash.unwrap_or_default() }
    }
}
