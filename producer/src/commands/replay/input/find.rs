//! Where records come from: a file, standard input, or an object in S3, as the bytes that stand there.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use shared::exit::{Exit, Failure, io_exit};
use shared::object_store::{ObjectStore, Opened as Object, StoreError, StoreErrorKind};
use shared::retry::Backoff;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;
/// Failures in a row after which an object is given up: a few minutes.
const TRIES: u32 = 10;

/// Something to read.
#[derive(Debug)]
pub(super) struct Input {
    name: String,
    bytes: Option<u64>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Stdin,
    Object(ObjectStore, String),
}

/// What is being read.
pub(super) struct Opened {
    name: String,
    /// By which it is told whether it is the same as before; None if nothing tells.
    stamp: Option<String>,
    body: Body,
}

enum Body {
    Local(Box<dyn AsyncRead + Send + Unpin>),
    Object { store: ObjectStore, key: String, bytes: u64, object: Box<Object> },
}

/// Everything the arguments name, in their order.
///
/// # Errors
/// When something is not there or may not be read.
pub(super) async fn find(files: &[OsString], store: &ObjectStore) -> Result<Vec<Input>, Failure> {
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
    let mut names: Vec<&str> = inputs.iter().map(Input::name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let error = anyhow::anyhow!("{} is named twice", twice[0]);
        return Err(Failure::new(Exit::Usage, error));
    }
    Ok(inputs)
}

fn local(path: &Path) -> Result<Input, Failure> {
    let whole = path.canonicalize().map_err(|error| unreadable(path, &error))?;
    let metadata = whole.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        let error = anyhow::anyhow!("{} is a directory: name the files in it", path.display());
        return Err(Failure::new(Exit::Usage, error));
    }
    // Opened now, so that a file that may not be read is told before anything is done.
    let file = std::fs::File::open(&whole).map_err(|error| unreadable(path, &error))?;
    // A pipe cannot be read twice: of it, it shows when it is read.
    if metadata.is_file()
        && let Some(why) = crate::commands::replay::read::not_lines(file)
    {
        let error = anyhow::anyhow!("{}: {why}; nothing was taken in", path.display());
        return Err(Failure::new(Exit::Data, error));
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok(Input { name: whole.display().to_string(), bytes, place: Place::File(whole) })
}

async fn objects(address: &str, store: &ObjectStore) -> Result<Vec<Input>, Failure> {
    let Some((bucket, key)) = address.split_once('/').filter(|(bucket, _)| !bucket.is_empty()) else {
        let error = anyhow::anyhow!(
            "s3://{address} names no object: write s3://bucket/key, or s3://bucket/prefix/ for all below it"
        );
        return Err(Failure::new(Exit::Usage, error));
    };
    let store = store.of_bucket(bucket);
    let input = |key: String, bytes| {
        let name = format!("s3://{bucket}/{key}");
        Input { name, bytes: Some(bytes), place: Place::Object(store.clone(), key) }
    };
    if !key.is_empty() && !key.ends_with('/') {
        let bytes = store.size(key).await.map_err(refused)?;
        return Ok(vec![input(key.to_owned(), bytes)]);
    }
    let listed = store.list(key, None).await.map_err(refused)?;
    let inputs: Vec<_> = listed
        .into_iter()
        // Some tools make empty objects that stand for folders.
        .filter(|object| !object.key.ends_with('/'))
        .map(|object| input(object.key, object.size))
        .collect();
    if inputs.is_empty() {
        let error = anyhow::anyhow!("there is nothing below s3://{address}");
        return Err(Failure::new(Exit::NoInput, error));
    }
    Ok(inputs)
}

impl Input {
    /// By which it is known: an absolute path, an address in S3, or `-`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its size, if it has one.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Begins to read it.
    pub(super) async fn open(self) -> Result<Opened, Failure> {
        let (stamp, body) = match self.place {
            Place::Stdin => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| unreadable(Path::new("-"), &error))?;
                let file = tokio::fs::File::from_std(std::fs::File::from(stdin));
                (None, Body::Local(Box::new(file)))
            }
            Place::File(path) => {
                let opened = tokio::fs::File::open(&path).await;
                let file = opened.map_err(|error| unreadable(&path, &error))?;
                let metadata = file.metadata().await.map_err(|error| unreadable(&path, &error))?;
                // What is no regular file, a pipe for instance, cannot be read twice.
                let stamp = metadata.is_file().then(|| {
                    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
                    format!("{} bytes, modified {seconds}.{nanos:09}", metadata.len())
                });
                (stamp, Body::Local(Box::new(file)))
            }
            Place::Object(store, key) => {
                let object = Box::new(open_object(&store, &key, 0, None).await?);
                let stamp = Some(object.etag().to_owned());
                let bytes = self.bytes.unwrap_or(0);
                (stamp, Body::Object { store, key, bytes, object })
            }
        };
        Ok(Opened { name: self.name, stamp, body })
    }
}

impl Opened {
    pub(super) fn stamp(&self) -> Option<String> {
        self.stamp.clone()
    }

    /// Passes its bytes on, and at last an empty piece; or until nobody wants them any more.
    pub(super) async fn pump(&mut self, to: mpsc::Sender<Bytes>, bar: &ProgressBar) -> Result<(), Failure> {
        match &mut self.body {
            Body::Local(file) => loop {
                let mut piece = BytesMut::with_capacity(READ_BYTES);
                let read = file.read_buf(&mut piece).await;
                let read = read.map_err(|error| unreadable(Path::new(&self.name), &error))?;
                bar.inc(read as u64);
                if to.send(piece.freeze()).await.is_err() || read == 0 {
                    return Ok(());
                }
            },
            Body::Object { store, key, bytes, object } => {
                let (mut at, mut backoff) =
                    (0, Backoff::new(Duration::from_millis(500), Duration::from_secs(60)));
                while at < *bytes {
                    let piece = match object.chunk().await {
                        Ok(piece) if !piece.is_empty() => piece,
                        // Cut off, with or without an error: the rest is asked for.
                        cut => {
                            let wait = backoff.failed();
                            let why =
                                cut.err().map_or_else(|| "it ended too early".to_owned(), |e| e.to_string());
                            if backoff.failures() >= TRIES {
                                let error =
                                    anyhow::anyhow!("{}: {why}, after {at} of {bytes} bytes", self.name);
                                return Err(Failure::new(Exit::Unavailable, error));
                            }
                            tracing::warn!(file = self.name, at, why, "reading on where it broke off");
                            tokio::time::sleep(wait).await;
                            let etag = object.etag().to_owned();
                            **object = open_object(store, key, at, Some(&etag)).await?;
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
    }
}

/// Tries for a while: what passes must not end a long replay.
async fn open_object(store: &ObjectStore, key: &str, at: u64, etag: Option<&str>) -> Result<Object, Failure> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    loop {
        match store.open(key, at, etag).await {
            Ok(body) => return Ok(body),
            Err(error) if error.kind() == StoreErrorKind::Passing && backoff.failures() < TRIES => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(backoff.failed()).await;
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

fn refused(error: StoreError) -> Failure {
    let exit = match error.kind() {
        StoreErrorKind::NotFound | StoreErrorKind::Asleep => Exit::NoInput,
        StoreErrorKind::Configuration => Exit::Config,
        StoreErrorKind::Passing => Exit::Unavailable,
    };
    Failure::new(exit, error)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NoInput,
        _ => io_exit(error),
    };
    Failure::new(exit, anyhow::anyhow!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
