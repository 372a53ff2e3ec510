//! One session's bytes become blocks of records: inflate, frame, transform, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::append::{Block, FromStream};
use crate::counters::Counters;
use crate::frame::{Frame, Framer};
use crate::inflate::{InflateError, Inflater};
use crate::records::Records;
use crate::transform::Transform;

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

/// Starts the thread of one session. It gives the transform back, which is costly to make.
///
/// # Errors
/// When there can be no more threads.
pub fn start(
    connection: u8,
    transform: Transform,
    max_record_bytes: usize,
    counters: Arc<Counters>,
    mut pieces: mpsc::Receiver<Piece>,
    out: mpsc::Sender<FromStream>,
) -> io::Result<JoinHandle<(Transform, Ended)>> {
    let mut decoder = Decoder::new(transform, max_record_bytes, counters);
    let mut send = move |block| out.blocking_send(FromStream::Block(connection, block)).is_ok();
    std::thread::Builder::new().name(format!("decode-{connection}")).spawn(move || {
        loop {
            let piece = pieces.blocking_recv();
            match &piece {
                Some(Piece::Bytes(bytes)) => decoder.push(bytes, &mut send),
                Some(Piece::End) => decoder.finish(&mut send),
                None => decoder.lost(),
            }
            // Records wait for others only while more bytes are there.
            if pieces.is_empty() || decoder.ended.is_some() {
                decoder.send(&mut send);
            }
            if let Some(ended) = decoder.ended.take() {
                return (decoder.end(&ended), ended);
            }
        }
    })
}

/// Decodes a whole body, its compressed bytes cut into `pieces`: what a session's thread does, without the thread.
pub fn body<'p>(
    transform: Transform,
    max_record_bytes: usize,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Block>, Ended) {
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let mut decoder = Decoder::new(transform, max_record_bytes, counters);
    let mut blocks = Vec::new();
    let mut send = |block| {
        blocks.push(block);
        true
    };
    for piece in pieces {
        if decoder.ended.is_none() {
            decoder.push(piece, &mut send);
        }
    }
    if decoder.ended.is_none() {
        decoder.finish(&mut send);
    }
    decoder.send(&mut send);
    (blocks, decoder.ended.unwrap_or(Ended::Input))
}

/// Where blocks go; false when nobody takes them any more.
type Out<'s> = &'s mut dyn FnMut(Block) -> bool;

struct Decoder {
    inflater: Inflater,
    framer: Framer,
    records: Records,
    counters: Arc<Counters>,
    ended: Option<Ended>,
}

impl Decoder {
    fn new(transform: Transform, max_record_bytes: usize, counters: Arc<Counters>) -> Self {
        Self {
            inflater: Inflater::new(),
            framer: Framer::new(max_record_bytes),
            records: Records::new(transform, counters.clone()),
            counters,
            ended: None,
        }
    }

    fn push(&mut self, mut bytes: &[u8], send: Out<'_>) {
        let Self { inflater, framer, records, counters, ended } = self;
        let before = (inflater.consumed(), inflater.produced(), framer.empty_lines());
        while ended.is_none() {
            match inflater.piece(&mut bytes) {
                Ok(Some(piece)) => framer.push(piece, |frame| record(records, ended, &frame, send)),
                Ok(None) => break,
                Err(error) => *ended = Some(undecodable(error)),
            }
        }
        counters.bytes.fetch_add(inflater.consumed() - before.0, Ordering::Relaxed);
        counters.inflated.fetch_add(inflater.produced() - before.1, Ordering::Relaxed);
        counters.empty_lines.fetch_add(framer.empty_lines() - before.2, Ordering::Relaxed);
    }

    /// The body has ended as it should. Its last line may lack its end.
    fn finish(&mut self, send: Out<'_>) {
        let Self { inflater, framer, records, ended, .. } = self;
        let pending = framer.pending_bytes();
        match inflater.finish() {
            Ok(()) => {
                framer.finish(|frame| record(records, ended, &frame, send));
                ended.get_or_insert(Ended::Input);
            }
            // The last line may have been cut off with what was to follow: then it is no reject.
            Err(InflateError::Truncated(bytes)) => {
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
            Err(error) => *ended = Some(undecodable(error)),
        }
    }

    /// The connection is gone: what came of a line that has not ended is no record.
    fn lost(&mut self) {
        self.ended = Some(match (self.inflater.finish(), self.framer.pending_bytes()) {
            (Err(error @ InflateError::NotGzip(_)), _) => undecodable(error),
            (_, 0) => Ended::Input,
            (_, pending) => within_a_record(pending),
        });
    }

    fn send(&mut self, send: Out<'_>) {
        if let Some(block) = self.records.take()
            && !send(block)
        {
            self.ended = Some(Ended::Closed);
        }
    }

    fn end(self, ended: &Ended) -> Transform {
        tracing::info!(
            bytes = self.inflater.consumed(),
            inflated = self.inflater.produced(),
            records = self.records.count(),
            empty_lines = self.framer.empty_lines(),
            ?ended,
            "session decoded"
        );
        self.records.end()
    }
}

/// What follows the end of the session in the same piece is passed over.
fn record(records: &mut Records, ended: &mut Option<Ended>, frame: &Frame<'_>, send: Out<'_>) {
    match frame {
        _ if ended.is_some() => {}
        Frame::Record(line) if *line == NOT_AUTHORIZED.as_bytes() => *ended = Some(Ended::NotAuthorized),
        frame => {
            if records.add(frame)
                && let Some(block) = records.take()
                && !send(block)
            {
                *ended = Some(Ended::Closed);
            }
        }
    }
}

fn undecodable(error: InflateError) -> Ended {
    match error {
        InflateError::NotGzip(text) if text.contains(NOT_AUTHORIZED) => Ended::NotAuthorized,
        error => Ended::Damaged(error.to_string()),
    }
}

fn within_a_record(bytes: u64) -> Ended {
    Ended::Within(format!("a record, of which {bytes} bytes came"))
}

#[cfg(test)]
mod tests;
