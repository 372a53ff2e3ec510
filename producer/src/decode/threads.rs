//! One session's bytes become blocks of records, on two threads, since inflating takes about as long as the rest:
//!
//! ```text
//! compressed bytes ──► inflate ──text──► frame, transform ──► blocks
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use state::log::KnownHits;
use tokio::sync::mpsc;

use super::blocks::Records;
use super::damage::Unreadable;
use super::frame::{Frame, Framer};
use super::inflate::{InflateError, Inflater};
use super::resume::Reread;
use crate::append::{Block, FromStream};
use crate::counters::Counters;
use crate::transform::Transform;

/// Pieces of text that may wait between the two threads, each 64 KiB at most.
const TEXTS_WAITING: usize = 4;
/// What Livestream has been seen to send in place of a record, or of the whole body, when the token has gone stale.
const NOT_AUTHORIZED: &str = "not authorized";

/// How a session's decoding ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The bytes did, after a record.
    Input,
    /// The bytes did, within something: of which, so far, this came. What was cut off is no reject: Adobe sends it
    /// again.
    Within(String),
    /// The bytes cannot be decoded: the position in them is lost.
    Damaged(String),
    /// The bytes can be decoded, to records that cannot be read.
    Unreadable(String),
    /// Adobe says that the token is not good any more.
    NotAuthorized,
    /// Nobody takes the blocks any more.
    Closed,
}

/// How the bytes of a session end.
#[derive(Debug)]
pub enum Piece {
    /// Compressed bytes.
    Bytes(Bytes),
    /// The body ended as a body should: a last line without its end may be a record.
    End,
}

/// How the records of a session are read.
#[derive(Debug, Default)]
pub struct Reading {
    /// A longer record is a reject.
    pub max_record_bytes: usize,
    /// What the log has, and is not transformed again.
    pub known: Option<KnownHits>,
    /// When unreadable records are damage.
    pub unreadable: Unreadable,
}

impl From<usize> for Reading {
    /// Every record of at most so many bytes is transformed, and none is damage.
    fn from(max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..Self::default() }
    }
}

/// What is left of a session when its decoding has ended.
#[derive(Debug)]
pub struct Finished {
    /// The transform, which is costly to make.
    pub transform: Transform,
    /// How it ended.
    pub ended: Ended,
    /// What of it had been read before.
    pub reread: Reread,
    /// What of it could not be read.
    pub unreadable: Unreadable,
}

/// Starts the two threads of one session.
///
/// # Errors
/// When there can be no more threads.
pub fn start(
    connection: u8,
    transform: Transform,
    reading: impl Into<Reading>,
    counters: Arc<Counters>,
    pieces: mpsc::Receiver<Piece>,
    out: mpsc::Sender<FromStream>,
) -> io::Result<JoinHandle<Finished>> {
    let (to_decoder, texts) = sync_channel(TEXTS_WAITING);
    let inflating = Inflating { inflater: Inflater::new(), counters: counters.clone() };
    let decoder = Decoder::new(transform, reading.into(), counters);
    let mut send = move |block| out.blocking_send(FromStream::Block(connection, block)).is_ok();
    Builder::new().name(format!("inflate-{connection}")).spawn(move || inflating.run(pieces, &to_decoder))?;
    Builder::new().name(format!("decode-{connection}")).spawn(move || decoder.run(&texts, &mut send))
}

/// Decodes a whole body, its compressed bytes cut into `pieces`: what a session's threads do, without the threads.
pub fn body<'p>(
    transform: Transform,
    reading: impl Into<Reading>,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Block>, Ended) {
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let mut inflating = Inflating { inflater: Inflater::new(), counters: counters.clone() };
    let mut decoder = Decoder::new(transform, reading.into(), counters);
    let mut blocks = Vec::new();
    let mut send = |block| {
        blocks.push(block);
        true
    };
    let mut pieces = pieces.into_iter();
    let over = pieces.find_map(|piece| {
        inflating.push(piece, &mut |text| {
            decoder.text(text, &mut send);
            decoder.ended.is_none()
        })
    });
    if decoder.ended.is_none() {
        decoder.over(over.unwrap_or_else(|| Over::Body(inflating.inflater.finish())), &mut send);
    }
    decoder.send(&mut send);
    (blocks, decoder.ended.unwrap_or(Ended::Input))
}

/// What the inflating thread hands on.
enum Inflated {
    Text(Vec<u8>),
    /// No more compressed bytes wait, so records are not to wait for others either.
    Pause,
    Over(Over),
}

/// Why there is no more text, and whether the compressed bytes may end where they do.
enum Over {
    /// The body has ended as it should.
    Body(Result<(), InflateError>),
    /// The connection is gone.
    Connection(Result<(), InflateError>),
    /// The bytes cannot be inflated any further.
    Damage(InflateError),
}

/// The first thread.
struct Inflating {
    inflater: Inflater,
    counters: Arc<Counters>,
}

impl Inflating {
    fn run(mut self, mut pieces: mpsc::Receiver<Piece>, to: &SyncSender<Inflated>) {
        loop {
            let over = match pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    self.push(&bytes, &mut |text| to.send(Inflated::Text(text.to_vec())).is_ok())
                }
                Some(Piece::End) => Some(Over::Body(self.inflater.finish())),
                None => Some(Over::Connection(self.inflater.finish())),
            };
            let ended = over.is_some();
            let sent = match over {
                Some(over) => to.send(Inflated::Over(over)),
                None if pieces.is_empty() => to.send(Inflated::Pause),
                None => Ok(()),
            };
            // Nobody takes it when decoding has ended before the bytes did.
            if ended || sent.is_err() {
                return;
            }
        }
    }

    /// Inflates a piece, until `text` says that nobody wants more. Why there will be no more, if so.
    fn push(&mut self, mut bytes: &[u8], text: &mut dyn FnMut(&[u8]) -> bool) -> Option<Over> {
        let before = (self.inflater.consumed(), self.inflater.produced());
        let over = loop {
            match self.inflater.piece(&mut bytes) {
                Ok(Some(piece)) if text(piece) => {}
                Ok(Some(_)) => break Some(Over::Connection(Ok(()))),
                Ok(None) => break None,
                Err(error) => break Some(Over::Damage(error)),
            }
        };
        self.counters.bytes.fetch_add(self.inflater.consumed() - before.0, Ordering::Relaxed);
        self.counters.inflated.fetch_add(self.inflater.produced() - before.1, Ordering::Relaxed);
        over
    }
}

/// Where blocks go; false when nobody takes them any more.
type Out<'s> = &'s mut dyn FnMut(Block) -> bool;

/// The second thread.
struct Decoder {
    framer: Framer,
    records: Records,
    counters: Arc<Counters>,
    ended: Option<Ended>,
}

impl Decoder {
    fn new(transform: Transform, reading: Reading, counters: Arc<Counters>) -> Self {
        let Reading { max_record_bytes, known, unreadable } = reading;
        Self {
            framer: Framer::new(max_record_bytes),
            records: Records::new(transform, counters.clone()).of_session(known, unreadable),
            counters,
            ended: None,
        }
    }

    fn run(mut self, texts: &Receiver<Inflated>, send: Out<'_>) -> Finished {
        loop {
            match texts.recv() {
                Ok(Inflated::Text(text)) => self.text(&text, send),
                Ok(Inflated::Pause) => self.send(send),
                Ok(Inflated::Over(over)) => self.over(over, send),
                Err(_) => self.ended = Some(Ended::Damaged("the inflating thread failed".to_owned())),
            }
            if self.ended.is_some() {
                self.send(send);
            }
            if let Some(ended) = self.ended.take() {
                return self.end(ended);
            }
        }
    }

    fn text(&mut self, text: &[u8], send: Out<'_>) {
        let Self { framer, records, counters, ended } = self;
        let before = framer.empty_lines();
        framer.push(text, |frame| record(records, ended, &frame, send));
        counters.empty_lines.fetch_add(framer.empty_lines() - before, Ordering::Relaxed);
        if ended.is_none() {
            records.line_grew(framer.pending_head(), framer.pending_bytes());
            *ended = damage(records);
        }
    }

    /// There is no more text. What came of a line that has not ended is a record only if nothing was cut off.
    fn over(&mut self, over: Over, send: Out<'_>) {
        let Self { framer, records, ended, .. } = self;
        let pending = framer.pending_bytes();
        match over {
            Over::Body(Ok(())) => {
                framer.finish(|frame| record(records, ended, &frame, send));
                ended.get_or_insert(Ended::Input);
            }
            // The line may have been cut off with what was to follow: then it is no reject.
            Over::Body(Err(InflateError::Truncated(bytes))) => {
                let mut whole = true;
                framer.finish(|frame| match frame {
                    Frame::Record(line) if line == NOT_AUTHORIZED.as_bytes() => {
                        *ended = Some(Ended::NotAuthorized);
                    }
                    frame => whole = records.add_if_whole(&frame),
                });
                ended.get_or_insert_with(|| match whole {
                    true => Ended::Within(format!("a gzip member, after {bytes} bytes")),
                    false => within_a_record(pending),
                });
            }
            Over::Body(Err(error)) | Over::Damage(error) => *ended = Some(undecodable(error)),
            Over::Connection(Err(error @ InflateError::NotGzip(_))) => *ended = Some(undecodable(error)),
            Over::Connection(_) if pending > 0 => *ended = Some(within_a_record(pending)),
            Over::Connection(_) => *ended = Some(Ended::Input),
        }
    }

    fn send(&mut self, send: Out<'_>) {
        if let Some(block) = self.records.take()
            && !send(block)
        {
            self.ended = Some(Ended::Closed);
        }
    }

    fn end(self, ended: Ended) -> Finished {
        let (records, empty_lines) = (self.records.count(), self.framer.empty_lines());
        tracing::info!(records, empty_lines, ?ended, "session decoded");
        let reread = self.records.reread();
        let (transform, unreadable) = self.records.end();
        Finished { transform, ended, reread, unreadable }
    }
}

/// What follows the end of the session in the same piece is passed over.
fn record(records: &mut Records, ended: &mut Option<Ended>, frame: &Frame<'_>, send: Out<'_>) {
    match frame {
        _ if ended.is_some() => {}
        Frame::Record(line) if *line == NOT_AUTHORIZED.as_bytes() => *ended = Some(Ended::NotAuthorized),
        frame => {
            let full = records.add(frame);
            *ended = damage(records);
            if ended.is_none()
                && full
                && let Some(block) = records.take()
                && !send(block)
            {
                *ended = Some(Ended::Closed);
            }
        }
    }
}

/// The end of a session whose records can no longer be read.
fn damage(records: &Records) -> Option<Ended> {
    let unreadable = records.unreadable();
    unreadable.is_damaged().then(|| Ended::Unreadable(unreadable.why()))
}

fn undecodable(error: InflateError) -> Ended {
    match error {
        InflateError::NotGzip(head) if head.contains(NOT_AUTHORIZED) => Ended::NotAuthorized,
        error => Ended::Damaged(error.to_string()),
    }
}

fn within_a_record(bytes: u64) -> Ended {
    Ended::Within(format!("a record, of which {bytes} bytes came"))
}
