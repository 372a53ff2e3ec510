//! The reading thread: the records of one file after the other.

use std::borrow::Cow;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use memchr::memmem;
use serde::Deserialize;
use shared::ids::Instance;
use state::log::{KeptRecord, ProtectedNote};
use tokio::sync::mpsc;

use crate::append::ConnectionEvent;
use crate::commands::replay::read::form::{self, PIECE_BYTES, Unusable, decompressed};
use crate::counters::TOO_LONG;
use crate::decode::blocks::{BlockBuilder, TOO_LONG_REASON};
use crate::decode::frame::{Frame, Framer, HEAD_BYTES};
use crate::transform;

/// A line may be longer than the record it holds: each byte of it takes six at most in JSON, and the rest some more.
const ESCAPED: usize = 6;
const AROUND: usize = 64 << 10;
/// The code of a reject whose own is not known here.
const NOT_JSON: &str = "not_json";

#[derive(Debug)]
pub(crate) enum Stop {
    Damaged {
        records: u64,
        why: String,
    },
    /// It is no lines of JSON, and nothing of it was taken: what it is, and what to do.
    NotLines(&'static str),
    /// The bytes ended before the file did.
    Cut,
    /// Nobody takes the records any more.
    Closed,
}

pub(crate) struct Reader {
    records: BlockBuilder,
    max_record_bytes: usize,
    out: mpsc::Sender<ConnectionEvent>,
}

impl Reader {
    pub(crate) fn new(
        records: BlockBuilder,
        max_record_bytes: usize,
        out: mpsc::Sender<ConnectionEvent>,
    ) -> Self {
        Self { records, max_record_bytes, out }
    }

    /// Records sent, of all files.
    pub(crate) fn sent(&self) -> u64 {
        self.records.count
    }

    /// Reads a file without its first `skip` records. Returns how many it has. Calls `report` with the records sent so
    /// far.
    pub(crate) fn read(
        &mut self,
        pieces: mpsc::Receiver<Bytes>,
        skip: u64,
        report: impl Fn(u64),
    ) -> Result<u64, Stop> {
        let mut file = File { reader: self, skip, count: 0, closed: false };
        let read = file.lines(Pieces { pieces, piece: Bytes::new(), ended: false }, report);
        file.send();
        match read {
            Err(Unusable::NotLines(why)) => Err(Stop::NotLines(why)),
            _ if file.closed => Err(Stop::Closed),
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(Stop::Cut),
            Err(Unusable::Io(error)) => Err(Stop::Damaged { records: file.count, why: error.to_string() }),
            Ok(()) => Ok(file.count),
        }
    }
}

struct File<'r> {
    reader: &'r mut Reader,
    skip: u64,
    count: u64,
    closed: bool,
}

impl File<'_> {
    fn lines(&mut self, mut bytes: Pieces, report: impl Fn(u64)) -> Result<(), Unusable> {
        let max = self.reader.max_record_bytes.saturating_mul(ESCAPED).saturating_add(AROUND);
        let (mut framer, mut piece) = (Framer::new(max), vec![0; PIECE_BYTES]);
        let mut reader = decompressed(&mut bytes)?;
        let head = form::beginning(&mut reader, &mut piece)?;
        framer.push(&head, |frame| self.line(&frame));
        while !self.closed {
            let read = reader.read(&mut piece)?;
            if read == 0 {
                break;
            }
            framer.push(piece.get(..read).unwrap_or_default(), |frame| self.line(&frame));
            report(self.reader.sent());
        }
        framer.finish(|frame| self.line(&frame));
        Ok(())
    }

    fn line(&mut self, frame: &Frame<'_>) {
        self.count += 1;
        if self.count <= self.skip || self.closed {
            return;
        }
        let records = &mut self.reader.records;
        let max = self.reader.max_record_bytes;
        let full = match frame {
            Frame::Record(line) => match Wrapped::read(line) {
                Some(Reject { content: Content::Record(record, _), reason, .. })
                    if reason.starts_with(TOO_LONG_REASON) =>
                {
                    let bytes = record.len() as u64;
                    records.reject_too_long(&record, bytes, reason)
                }
                Some(Reject { content: Content::Record(record, earlier), .. }) => {
                    records.add_protected(&framed(&record, max), earlier)
                }
                // There is no record to take in: the reject is kept as it is.
                Some(Reject { content: Content::Digest(digest), code, reason }) => {
                    records.reject(&[], digest, code, reason)
                }
                None => records.add(&framed(line, max)),
            },
            too_long @ Frame::TooLong { .. } => records.add(too_long),
        };
        if full {
            self.send();
        }
    }

    fn send(&mut self) {
        if let Some(block) = self.reader.records.take() {
            self.closed |= self.reader.out.blocking_send(ConnectionEvent::Block(0, block)).is_err();
        }
    }
}

fn framed(record: &[u8], max: usize) -> Frame<'_> {
    if record.len() <= max {
        return Frame::Record(record);
    }
    let head = record.get(..HEAD_BYTES.min(max)).unwrap_or(record);
    Frame::TooLong { head, bytes: record.len() as u64 }
}

struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            let next = self.pieces.blocking_recv();
            self.piece = next.ok_or_else(|| io::Error::new(io::ErrorKind::BrokenPipe, "cut off"))?;
            self.ended = self.piece.is_empty();
        }
        let count = self.piece.len().min(into.len());
        self.piece.copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// A reject as it stands in S3. A record of Adobe's has other keys, and more of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped<'l> {
    #[serde(rename = "at")]
    _at: DateTime<Utc>,
    #[serde(rename = "instance")]
    _instance: Instance,
    code: Option<String>,
    reason: String,
    #[serde(borrow)]
    record: Option<Cow<'l, str>>,
    #[serde(borrow)]
    record_base64: Option<Cow<'l, str>>,
    protected: Option<ProtectedNote>,
    bytes: Option<u64>,
    hash: Option<String>,
}

struct Reject {
    content: Content,
    code: &'static str,
    reason: String,
}

enum Content {
    /// The record, and what was done to it.
    Record(Vec<u8>, ProtectedNote),
    Digest(KeptRecord),
}

impl Wrapped<'_> {
    /// What a line holds, if it is a reject.
    fn read(line: &[u8]) -> Option<Reject> {
        memmem::find(line, b"\"reason\"")?;
        let wrapped: Wrapped<'_> = serde_json::from_slice(line).ok()?;
        let earlier = wrapped.protected.unwrap_or_default();
        let content = match (wrapped.record, wrapped.record_base64, wrapped.bytes.zip(wrapped.hash)) {
            (Some(text), None, None) => Content::Record(text.into_owned().into_bytes(), earlier),
            (None, Some(text), None) => Content::Record(shared::object_store::from_base64(&text)?, earlier),
            (None, None, Some((bytes, hash))) => Content::Digest(KeptRecord::Digest { bytes, hash }),
            _ => return None,
        };
        let code = wrapped.code.unwrap_or_default();
        let known = transform::Reject::NAMES.into_iter().chain([TOO_LONG]);
        let code = known.into_iter().find(|name| *name == code).unwrap_or(NOT_JSON);
        Some(Reject { content, code, reason: wrapped.reason })
    }
}
