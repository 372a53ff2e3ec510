//! Where records come from: a file, standard input, or an object in S3, as the bytes that stand there. An object whose
//! connection breaks is read on where it broke off.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use shared::clock::Clock;
use shared::exit::{Exit, Failure, io_exit};
use shared::human::escaped;
use shared::object_store::{ObjectStore, ObjectStoreError, ObjectStoreErrorKind, Opened as Object};
use shared::retry::Backoff;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::commands::replay::read;

const READ_BYTES: usize = 256 << 10;
/// Failures in a row after which an object is given up: a few minutes.
const TRIES: u32 = 10;

#[derive(Debug)]
pub(crate) struct Input {
    /// An absolute path, an address in S3, or `-`.
    pub(crate) name: String,
    pub(crate) bytes: Option<u64>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Stdin,
    Object(ObjectStore, String),
}

pub(crate) async fn find(files: &[OsString], store: &ObjectStore) -> Result<Vec<Input>, Failure> {
    let mut inputs: Vec<Input> = Vec::new();
    for file in files {
        match file.to_str().and_then(|text| text.strip_prefix("s3://")) {
            Some(address) => inputs.extend(objects(address, store).await?),
            None if file == "-" => {
                inputs.push(Input { name: "-".to_owned(), bytes: None, place: Place::Stdin });
            }
            None => inputs.push(local(Path::new(file))?),
        }
    }
    let mut names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::new(Exit::Usage, anyhow!("{} is named twice", twice[0])));
    }
    Ok(inputs)
}

fn local(path: &Path) -> Result<Input, Failure> {
    let whole = path.canonicalize().map_err(|error| unreadable(path, &error))?;
    let metadata = whole.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        let error = anyhow!("{} is a directory: name the files in it", path.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    // Opened now, so that a file that may not be read is reported before anything is done.
    let file = std::fs::File::open(&whole).map_err(|error| unreadable(path, &error))?;
    // A pipe cannot be read twice: its form shows when it is read.
    if metadata.is_file()
        && let Some(why) = read::not_lines(file)
    {
        return Err(Failure::new(Exit::Data, anyhow!("{}: {why}; nothing was taken in", path.display())));
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok(Input { name: whole.display().to_string(), bytes, place: Place::File(whole) })
}

async fn objects(address: &str, store: &ObjectStore) -> Result<Vec<Input>, Failure> {
    let Some((bucket, key)) = address.split_once('/').filter(|(bucket, _)| !bucket.is_empty()) else {
        let error = anyhow!(
            "s3://{address} names no object: write s3://bucket/key, or s3://bucket/prefix/ for all below it"
        );
        return Err(Failure::new(Exit::Usage, error));
    };
    let store = store.of_bucket(bucket);
    let input = |key: String, bytes| Input {
        // Whoever writes to the bucket decides which characters are in it.
        name: escaped(&format!("s3://{bucket}/{key}")),
        bytes: Some(bytes),
        place: Place::Object(store.clone(), key),
    };
    if !key.is_empty() && !key.ends_with('/') {
        let bytes = store.size(key).await.map_err(refused)?;
        return Ok(vec![input(key.to_owned(), bytes)]);
    }
    let listed = store.list(key, None).await.map_err(refused)?;
    // Some tools make empty objects that stand for folders.
    let objects = listed.into_iter().filter(|object| !object.key.ends_with('/'));
    let inputs: Vec<_> = objects.map(|object| input(object.key, object.size)).collect();
    if inputs.is_empty() {
        return Err(Failure::new(Exit::NoInput, anyhow!("there is nothing below s3://{address}")));
    }
    Ok(inputs)
}

impl Input {
    pub(crate) async fn open(self, clock: &Clock) -> Result<Opened, Failure> {
        let Self { name, bytes, place } = self;
        let (stamp, body) = match place {
            Place::Stdin => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| unreadable(Path::new("-"), &error))?;
                (None, Body::Local(std::fs::File::from(stdin).into()))
            }
            Place::File(path) => {
                let opened = File::open(&path).await;
                let file = opened.map_err(|error| unreadable(&path, &error))?;
                let metadata = file.metadata().await.map_err(|error| unreadable(&path, &error))?;
                // What is no regular file, a pipe for instance, cannot be read twice.
                let stamp = metadata.is_file().then(|| {
                    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
                    format!("{} bytes, modified {seconds}.{nanos:09}", metadata.len())
                });
                (stamp, Body::Local(file))
            }
            Place::Object(store, key) => {
                let object = Box::new(open_object(&store, &key, 0, None, clock).await?);
                let (stamp, bytes) = (object.etag().to_owned(), bytes.unwrap_or_default());
                (Some(stamp), Body::Object { store, key, bytes, object })
            }
        };
        Ok(Opened { name, stamp, body })
    }
}

pub(crate) struct Opened {
    name: String,
    /// Changes with the content; None if a change cannot be seen.
    pub(crate) stamp: Option<String>,
    body: Body,
}

enum Body {
    Local(File),
    Object { store: ObjectStore, key: String, bytes: u64, object: Box<Object> },
}

impl Opened {
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
            Err(error) if error.kind() == ObjectStoreErrorKind::Passing && backoff.failures() < TRIES => {
                tracing::warn!(%error, "trying again");
                clock.sleep(backoff.failed()).await;
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

fn refused(error: ObjectStoreError) -> Failure {
    let exit = match error.kind() {
        ObjectStoreErrorKind::NotFound | ObjectStoreErrorKind::InArchive => Exit::NoInput,
        ObjectStoreErrorKind::Configuration => Exit::Config,
        ObjectStoreErrorKind::Passing => Exit::Unavailable,
    };
    Failure::new(exit, error)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NoInput } else { io_exit(error) };
    Failure::new(exit, anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
