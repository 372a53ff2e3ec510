//! Moves the bytes of a COPY: S3 → judge (a blocking thread) → PostgreSQL.

use std::fmt;
use std::io::{self, Read};

use aws_sdk_s3::Client as S3;
use bytes::{Buf, Bytes};
use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::files::File;
use super::load_errors::LoadError;
use super::options::Compression;
use super::rows::{Loader, Rules, Stop};
use crate::s3::{self, S3Error};

/// How a COPY ended.
pub(crate) struct Done {
    pub(crate) loaded: u64,
    /// The files that were read to their end, and their lines.
    pub(crate) files: Vec<(String, u64)>,
    pub(crate) errors: Vec<LoadError>,
    pub(crate) result: Result<(), Failure>,
}

/// What ended it.
pub(crate) enum Failure {
    S3(S3Error),
    Rows(Stop),
    Postgres(tokio_postgres::Error),
    Judge,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(error) => error.fmt(f),
            // gzip's own wording; that of zstd is not known.
            Self::Rows(Stop::Unreadable(error)) => {
                write!(f, "failed to inflate: invalid or incomplete compressed data. {error}")
            }
            Self::Rows(stop) => write!(f, "the load stopped: {stop:?}"),
            Self::Postgres(error) => error.fmt(f),
            Self::Judge => f.write_str("the stand-in's own thread failed"),
        }
    }
}

/// From the fetching side to the judge.
enum Input {
    File(String),
    Chunk(Bytes),
    End,
    Broken(String),
}

struct Judged {
    loaded: u64,
    files: Vec<(String, u64)>,
    errors: Vec<LoadError>,
    result: Result<(), Stop>,
}

/// Loads the files through `sql`, a COPY FROM STDIN; without it the rows are only judged.
pub(crate) async fn run(
    s3: &S3,
    client: &Client,
    sql: Option<String>,
    compression: Compression,
    files: Vec<File>,
    rules: Rules,
) -> Done {
    let (to_judge, input) = mpsc::channel(16);
    let (output, rows) = mpsc::channel(4);
    let judge = tokio::task::spawn_blocking(move || judge(rules, compression, input, &output));
    let (fetched, sunk) = tokio::join!(fetch(s3, files, to_judge), sink(client, sql, rows));
    let Ok(judged) = judge.await else {
        return Done { loaded: 0, files: Vec::new(), errors: Vec::new(), result: Err(Failure::Judge) };
    };
    // The first cause: a failing sink or fetch makes the judge stop, and not the other way round.
    let mut result = match (fetched, judged.result) {
        (_, Err(stop @ (Stop::TooManyErrors | Stop::Unreadable(_)))) => Err(Failure::Rows(stop)),
        (Err(error), _) => Err(Failure::S3(error)),
        (Ok(()), Err(stop)) => Err(Failure::Rows(stop)),
        (Ok(()), Ok(())) => Ok(()),
    };
    match sunk {
        Err(error) => result = Err(Failure::Postgres(error)),
        // Only a finished sink makes PostgreSQL keep the rows.
        Ok(Some(mut sink)) if result.is_ok() => {
            if let Err(error) = sink.as_mut().finish().await {
                result = Err(Failure::Postgres(error));
            }
        }
        Ok(_) => {}
    }
    Done { loaded: judged.loaded, files: judged.files, errors: judged.errors, result }
}

async fn fetch(s3: &S3, files: Vec<File>, to_judge: mpsc::Sender<Input>) -> Result<(), S3Error> {
    for file in files {
        let mut body = match s3::get(s3, &file.at).await {
            Ok(body) => body,
            Err(error) if error.is_missing() && !file.mandatory => continue,
            Err(error) => return Err(error),
        };
        // A closed channel means that the judge has seen enough.
        if to_judge.send(Input::File(file.at.to_string())).await.is_err() {
            return Ok(());
        }
        loop {
            let input = match body.try_next().await {
                Ok(Some(chunk)) => Input::Chunk(chunk),
                Ok(None) => Input::End,
                Err(error) => Input::Broken(error.to_string()),
            };
            let ended = matches!(input, Input::End | Input::Broken(_));
            if to_judge.send(input).await.is_err() {
                return Ok(());
            }
            if ended {
                break;
            }
        }
    }
    Ok(())
}

type CopyIn = std::pin::Pin<Box<tokio_postgres::CopyInSink<Bytes>>>;

async fn sink(
    client: &Client,
    sql: Option<String>,
    mut rows: mpsc::Receiver<Bytes>,
) -> Result<Option<CopyIn>, tokio_postgres::Error> {
    let Some(sql) = sql else {
        while rows.recv().await.is_some() {}
        return Ok(None);
    };
    let mut sink: CopyIn = Box::pin(client.copy_in(&sql).await?);
    while let Some(bytes) = rows.recv().await {
        sink.send(bytes).await?;
    }
    Ok(Some(sink))
}

fn judge(
    rules: Rules,
    compression: Compression,
    mut input: mpsc::Receiver<Input>,
    output: &mpsc::Sender<Bytes>,
) -> Judged {
    let mut loader = Loader::new(rules);
    let mut sink = |rows: Vec<u8>| output.blocking_send(Bytes::from(rows)).is_ok();
    let mut files = Vec::new();
    let mut each = || {
        while let Some(first) = input.blocking_recv() {
            let Input::File(name) = first else { continue };
            let mut body = Body { input: &mut input, chunk: Bytes::new(), ended: false };
            let lines = match compression {
                Compression::None => loader.file(&name, &mut body, &mut sink)?,
                Compression::Gzip => {
                    loader.file(&name, &mut flate2::read::MultiGzDecoder::new(&mut body), &mut sink)?
                }
                Compression::Zstd => {
                    let mut decoder =
                        zstd::stream::read::Decoder::new(&mut body).map_err(Stop::Unreadable)?;
                    loader.file(&name, &mut decoder, &mut sink)?
                }
            };
            files.push((name, lines));
            io::copy(&mut body, &mut io::sink()).map_err(Stop::Unreadable)?;
        }
        loader.finish(&mut sink)
    };
    let result = each();
    Judged { loaded: loader.loaded, files, errors: loader.errors, result }
}

/// The body of one object.
struct Body<'a> {
    input: &'a mut mpsc::Receiver<Input>,
    chunk: Bytes,
    ended: bool,
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.input.blocking_recv() {
                Some(Input::Chunk(chunk)) => self.chunk = chunk,
                Some(Input::End) => self.ended = true,
                Some(Input::Broken(why)) => return Err(io::Error::other(why)),
                Some(Input::File(_)) | None => return Err(io::Error::other("the fetching ended early")),
            }
        }
        let length = out.len().min(self.chunk.len());
        self.chunk.split_to(length).copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}
