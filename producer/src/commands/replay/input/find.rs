//! Finds everything that the arguments name.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;

use crate::commands::replay::input::opened::{Opened, refused, unreadable};
use crate::commands::replay::read;

#[derive(Debug)]
pub(crate) struct Input {
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

/// Everything the arguments name, in their order.
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
    let mut names: Vec<&str> = inputs.iter().map(Input::name).collect();
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
        name: format!("s3://{bucket}/{key}"),
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
    /// An absolute path, an address in S3, or `-`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    pub(crate) async fn open(self, clock: &Clock) -> Result<Opened, Failure> {
        let Self { name, bytes, place } = self;
        match place {
            Place::Stdin => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| unreadable(Path::new("-"), &error))?;
                Ok(Opened::local(name, None, std::fs::File::from(stdin).into()))
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
                Ok(Opened::local(name, stamp, file))
            }
            Place::Object(store, key) => {
                Opened::object(name, store, key, bytes.unwrap_or_default(), clock).await
            }
        }
    }
}
