//! What all places share: what is looked for, where, and whether it is removed.

use std::sync::Arc;

use bytes::Bytes;
use shared::blocking::blocking;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::human::duration;
use shared::layout::Compression;
use shared::object_store::{ObjectStore, ObjectStoreError};

use crate::commands::connect::store_failed;
use crate::facts::rows::{self as facts_rows, Watched};
use crate::failure::LoadFailure;
use crate::redshift::lock;
use crate::redshift::{Session, Target};
use crate::sought::Sought;

use super::rows::{self, Counted, Form};

/// How often the lock is asked for, each time for `redshift.lock_timeout`.
const LOCK_TRIES: u32 = 6;
/// Folders, or objects of rejects, that are read at once. Each holds a file in memory, compressed.
pub(super) const AT_ONCE: usize = 4;

pub(super) struct Task<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a ObjectStore,
    pub(super) session: &'a Session,
    pub(super) target: &'a Target,
    pub(super) sought: Arc<Sought>,
    pub(super) clock: &'a Clock,
    /// Without it nothing is changed.
    pub(super) apply: bool,
}

/// What became of an object that is read.
pub(super) enum Read {
    Content(Bytes),
    Gone,
    /// Why it cannot be read, and no try by itself will.
    Unreadable(String),
}

impl Task<'_> {
    /// The same, which changes nothing.
    pub(super) fn searching(&self) -> Task<'_> {
        Task { sought: Arc::clone(&self.sought), apply: false, ..*self }
    }

    /// Does what needs the lock of loads; while another has it, waits and tries again.
    pub(super) async fn locked<T>(
        &self,
        work: impl AsyncFn() -> Result<T, LoadFailure>,
    ) -> Result<T, LoadFailure> {
        let retry = &self.config.ingester;
        let mut wait = retry.retry_first.0;
        for _ in 1..LOCK_TRIES {
            match work().await {
                Err(failure) if lock::is_held(&failure) => {
                    tracing::warn!("waiting for the lock of loads, again in {}: {failure}", duration(wait));
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(retry.retry_max.0);
                }
                ended => return ended,
            }
        }
        work().await
    }

    /// Reads an object of at most so many bytes.
    pub(super) async fn read(&self, key: &str, limit: u64) -> Result<Read, Failure> {
        match self.store.get_at_most(key, limit).await {
            Ok(content) => Ok(Read::Content(content)),
            Err(error) if error.is_not_found() => Ok(Read::Gone),
            Err(error) => unreadable(error).map(Read::Unreadable),
        }
    }

    pub(super) async fn count(
        &self,
        content: &Bytes,
        form: Form,
    ) -> Result<Result<Counted, String>, Failure> {
        let (content, sought) = (content.clone(), Arc::clone(&self.sought));
        blocking(move || rows::count(&content, form, &sought)).await
    }

    pub(super) async fn without(
        &self,
        content: &Bytes,
        form: Form,
        counted: Counted,
    ) -> Result<Result<Bytes, String>, Failure> {
        let (content, sought) = (content.clone(), Arc::clone(&self.sought));
        blocking(move || rows::without(&content, form, &sought, &counted)).await
    }

    /// The number of columns of a file.
    pub(super) async fn columns(
        &self,
        content: &Bytes,
        compression: Compression,
    ) -> Result<Result<usize, String>, Failure> {
        let content = content.clone();
        let read = move || facts_rows::read(&content, compression, Watched::default());
        Ok(blocking(read).await?.map(|contents| contents.columns))
    }
}

/// Why one object cannot be read; any other failure ends the run.
pub(super) fn unreadable(error: ObjectStoreError) -> Result<String, Failure> {
    if error.is_in_archive() {
        return Ok(format!("{error}: restore it from its archive class, then run this again"));
    }
    if error.is_too_large() { Ok(error.to_string()) } else { Err(store_failed(error)) }
}
