//! One session's bytes become blocks of records: inflate, frame, transform, on a thread of its own.

use std::io;
use std::thread::JoinHandle;

use bytes::Bytes;
use chrono::DateTime;
use tokio::sync::mpsc;

use crate::append::{Block, Decoded, FromStream};
use crate::frame::{Frame, Framer};
use crate::inflate::{InflateError, Inflater};
use crate::transform::{ColumnCounts, Outcome, Transform};

/// A block is sent on when it holds this many records, or this many bytes of rows or rejects, or when no more
/// bytes of the stream wait.
const BLOCK_RECORDS: usize = 256;
const BLOCK_BYTES: usize = 1 << 20;
/// What Livestream has been seen to send in place of a record when the token has gone stale.
const NOT_AUTHORIZED: &[u8] = b"not authorized";

/// How a session's decoding ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The bytes did.
    Input,
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
    transform: Transform,
    max_record_bytes: usize,
    pieces: mpsc::Receiver<Piece>,
    out: mpsc::Sender<FromStream>,
) -> io::Result<JoinHandle<(Transform, Ended)>> {
    let filtered = vec![0; transform.filter_names().len()];
    let decoder = Decoder { transform, block: Block::default(), rejected: 0, filtered, ended: None };
    std::thread::Builder::new()
        .name("decode".to_owned())
        .spawn(move || decoder.run(Framer::new(max_record_bytes), pieces, &out))
}

struct Decoder {
    transform: Transform,
    block: Block,
    /// Bytes of rejected records in the block.
    rejected: usize,
    /// Records dropped by each filter.
    filtered: Vec<u64>,
    ended: Option<Ended>,
}

impl Decoder {
    fn run(
        mut self,
        mut framer: Framer,
        mut pieces: mpsc::Receiver<Piece>,
        out: &mpsc::Sender<FromStream>,
    ) -> (Transform, Ended) {
        let mut inflater = Inflater::new();
        while self.ended.is_none() {
            let Some(piece) = pieces.blocking_recv() else {
                self.ended = Some(Ended::Input);
                break;
            };
            match piece {
                Piece::Bytes(bytes) => self.decode(&mut inflater, &mut framer, &bytes, out),
                Piece::End => framer.finish(|frame| self.last_record(&frame)),
            }
            if pieces.is_empty() {
                self.send(out);
            }
        }
        self.send(out);
        self.say_counts();
        (self.transform, self.ended.unwrap_or(Ended::Input))
    }

    /// What the session dropped by filter, and what was altered since the start because a type could not hold it.
    fn say_counts(&self) {
        for (filter, records) in
            self.transform.filter_names().iter().zip(&self.filtered).filter(|(_, n)| **n > 0)
        {
            tracing::info!(filter, records, "records filtered in this session");
        }
        let ColumnCounts { cut, nulled, rounded, nuls, replaced, rejected } = self.transform.stats().totals();
        if cut + nulled + rounded + nuls + replaced + rejected > 0 {
            tracing::info!(
                cut,
                nulled,
                rounded,
                nuls,
                replaced,
                rejected,
                "values no column could hold as sent, since the start"
            );
        }
        for (column, counts) in self.transform.stats().columns() {
            tracing::debug!(column, ?counts, "values altered");
        }
    }

    fn decode(
        &mut self,
        inflater: &mut Inflater,
        framer: &mut Framer,
        mut bytes: &[u8],
        out: &mpsc::Sender<FromStream>,
    ) {
        loop {
            match inflater.piece(&mut bytes) {
                Ok(Some(piece)) => framer.push(piece, |frame| self.record(&frame, out)),
                Ok(None) => return,
                Err(InflateError::NotGzip(text)) if text.contains("not authorized") => {
                    self.ended = Some(Ended::NotAuthorized);
                    return;
                }
                Err(error) => {
                    self.ended = Some(Ended::Damaged(error.to_string()));
                    return;
                }
            }
            if self.ended.is_some() {
                return;
            }
        }
    }

    fn record(&mut self, frame: &Frame<'_>, out: &mpsc::Sender<FromStream>) {
        if self.ended.is_some() {
            return;
        }
        match *frame {
            Frame::Record(NOT_AUTHORIZED) => self.ended = Some(Ended::NotAuthorized),
            Frame::Record(record) => {
                let decoded = self.transform(record);
                self.block.records.push(decoded);
            }
            Frame::TooLong { head, bytes } => {
                let reason =
                    format!("longer than adobe.max_record_bytes: {bytes} bytes, of which the first are kept");
                self.block.records.push(Decoded::Rejected { record: head.to_vec(), reason });
            }
        }
        if self.block.records.len() >= BLOCK_RECORDS || self.block.rows.len() + self.rejected >= BLOCK_BYTES {
            self.send(out);
        }
    }

    /// A line without its end, when the body has ended: a whole record, or one that was cut off. One that was cut
    /// off is no reject: Adobe sends it again.
    fn last_record(&mut self, frame: &Frame<'_>) {
        match *frame {
            Frame::Record(NOT_AUTHORIZED) => self.ended = Some(Ended::NotAuthorized),
            Frame::Record(record) => match self.transform(record) {
                Decoded::Rejected { .. } => tracing::debug!("the stream ended within a record"),
                whole => self.block.records.push(whole),
            },
            Frame::TooLong { .. } => {}
        }
    }

    fn transform(&mut self, record: &[u8]) -> Decoded {
        match self.transform.record(record, &mut self.block.rows) {
            Outcome::Row { hit, received } => {
                let received = received.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
                Decoded::Row { end: self.block.rows.len(), hit, received }
            }
            Outcome::Filtered { rule } => {
                if let Some(count) = self.filtered.get_mut(rule) {
                    *count += 1;
                }
                Decoded::Filtered
            }
            Outcome::Rejected(reject) => {
                self.rejected += record.len();
                Decoded::Rejected { record: record.to_vec(), reason: reject.to_string() }
            }
        }
    }

    fn send(&mut self, out: &mpsc::Sender<FromStream>) {
        if self.block.records.is_empty() {
            return;
        }
        self.rejected = 0;
        let rows = Vec::with_capacity(self.block.rows.len());
        let block =
            std::mem::replace(&mut self.block, Block { rows, records: Vec::with_capacity(BLOCK_RECORDS) });
        if out.blocking_send(FromStream::Block(block)).is_err() {
            self.ended = Some(Ended::Closed);
        }
    }
}
