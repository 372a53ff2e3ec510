//! Reads one input, piece by piece. An object whose connection breaks is read on where it broke off.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use shared::clock::Clock;
use shared::exit::{Exit, Failure, io_exit};
use shared::object_store::{ObjectStore, Opened as Object, StoreError, StoreErrorKind};
use shared::retry::Backoff;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;
/// Failures in a row after which an object is given up: a few minutes.
const TRIES: u32 = 10;

pub(crate) struct Opened {
    name: String,
    /// Changes with the content; None if a change cannot be seen.
    stamp: Option<String>,
    body: Body,
}

enum Body {
    Local(File),
    Object { store: ObjectStore, key: String, bytes: u64, object: Box<Object> },
}

impl Opened {
    pub(super) fn local(name: String, stamp: Option<String>, file: File) -> Self {
        Self { name, stamp, body: Body::Local(file) }
    }

    pub(super) async fn object(
        name: String,
        store: ObjectStore,
        key: String,
        bytes: u64,
        clock: &Clock,
    ) -> Result<Self, Failure> {
        let object = Box::new(open_object(&store, &key, 0, None, clock).await?);
        let stamp = Some(object.etag().to_owned());
        Ok(Self { name, stamp, body: Body::Object { store, key, bytes, object } })
    }

    pub(crate) fn stamp(&self) -> Option<String> {
        self.stamp.clone()
    }

    /// Passes its bytes on, and at last an empty piece; or until nobody takes them any more.
    pub(crate) async fn pump(
        &mut self,
        to: mpsc::Sender<Bytes>,
        bar: &ProgressBar,
        clock: &Clock,
    ) -> Result<(), Failure> {
        let (store, key, bytes, object) = match &mut self.body {
            Body::Local(file) => loop {
                let mut piece = BytesMut::with_capacity(READ_BYTES);
                let read = file.read_buf(&mut piece).await;
                let read = read.map_err(|error| unreadable(Path::new(&self.name), &error))?;
                bar.inc(read as u64);
                if to.send(piece.freeze()).await.is_err() || read == 0 {
                    return Ok(());
                }
            },
            Body::Object { store, key, bytes, object } => (store, key, *bytes, object),
        };
        let (mut at, mut backoff) = (0, object_backoff());
        while at < bytes {
            let piece = match object.chunk().await {
                Ok(piece) if !piece.is_empty() => piece,
                // Cut off, with or without an error: the rest is asked for.
                cut => {
                    let wait = backoff.failed();
                    let why = cut.err().map_or_else(|| "it ended too early".to_owned(), |e| e.to_string());
                    if backoff.failures() >= TRIES {
                        let error = anyhow!("{}: {why}, after {at} of {bytes} bytes", self.name);
                        return Err(Failure::new(Exit::Unavailable, error));
                    }
                    tracing::warn!(file = self.name, at, why, "reading on where it broke off");
                    clock.sleep(wait).await;
                    let etag = object.etag().to_owned();
                    **object = open_object(store, key, at, Some(&etag), clock).await?;
                    continue;
                }
            };
            backoff.succeeded();
            at += piece.len() as u64;
            bar.inc(piece.len() as u64);
            if to.send(piece).await.is_err() {
                return Ok(());
            }
        }
        let _ = to.send(Bytes::new()).await;
        Ok(())
    }
}

fn object_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(60))
}

/// Retries for a while: an error that passes must not end a long replay.
async fn open_object(
    store: &ObjectStore,
    key: &str,
    at: u64,
    etag: Option<&str>,
    clock: &Clock,
) -> Result<Object, Failure> {
    let mut backoff = object_backoff();
    loop {
        match store.open(key, at, etag).await {
            Ok(object) => return Ok(object),
            Err(error) if error.kind() == StoreErrorKind::Passing && backoff.failures() < TRIES => {
                tracing::warn!(%error, "trying again");
                clock.sleep(backoff.failed()).await;
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

pub(super) fn refused(error: StoreError) -> Failure {
    let exit = match error.kind() {
        StoreErrorKind::NotFound | StoreErrorKind::InArchive => Exit::NoInput,
        StoreErrorKind::Configuration => Exit::Config,
        StoreErrorKind::Passing => Exit::Unavailable,
    };
    Failure::new(exit, error)
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NoInput } else { io_exit(error) };
    Failure::new(exit, anyhow!("{}: {error}", path.display()))
}
