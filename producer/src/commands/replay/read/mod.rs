//! The reading thread: bytes as they stand in a file become records, and those blocks.

use std::borrow::Cow;
use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use memchr::memmem;
use serde::Deserialize;
use shared::ids::Instance;
use tokio::sync::mpsc;

use crate::append::FromStream;
use crate::commands::replay::form;
use crate::counters::TOO_LONG;
use crate::decode::blocks::{BlockBuilder, TOO_LONG_REASON};
use crate::decode::frame::{Frame, Framer, HEAD_BYTES};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes decompressed at once.
const PIECE_BYTES: usize = 64 << 10;
/// A line may be longer than the record it holds: each byte of it takes six at most in JSON, and the rest some more.
const ESCAPED: usize = 6;
const AROUND: usize = 64 << 10;

/// Why a file was not read to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It cannot be decompressed any further.
    Damaged {
        /// The records before the damage.
        records: u64,
        /// What is wrong.
        why: String,
    },
    /// It is no lines of JSON, and nothing of it was taken: what it is, and what to do.
    NotLines(&'static str),
    /// The bytes ended before the file did.
    Cut,
    /// Nobody takes the records any more.
    Closed,
}

/// Makes blocks of the records of one file after the other.
pub(super) struct Reader {
    records: BlockBuilder,
    max_record_bytes: usize,
    out: mpsc::Sender<FromStream>,
}

impl Reader {
    pub(super) fn new(records: BlockBuilder, max_record_bytes: usize, out: mpsc::Sender<FromStream>) -> Self {
        Self { records, max_record_bytes, out }
    }

    /// Records sent, of all files.
    pub(super) fn sent(&self) -> u64 {
        self.records.count()
    }

    /// Reads a file, of which the first records are passed over, and says how many it has. `told` hears now and then
    /// how many have been sent, of all files.
    pub(super) fn read(
        &mut self,
        pieces: mpsc::Receiver<Bytes>,
        skip: u64,
        told: impl Fn(u64),
    ) -> Result<u64, Stop> {
        let mut framer = Framer::new(self.max_record_bytes.saturating_mul(ESCAPED).saturating_add(AROUND));
        let mut piece = vec![0; PIECE_BYTES];
        let mut file = File { reader: self, skip, count: 0, closed: false };
        let mut bytes = Pieces { pieces, piece: Bytes::new(), ended: false };
        let mut not_lines = None;
        let ended = decompressed(&mut bytes).and_then(|mut reader| {
            match form::beginning(&mut reader, &mut piece)? {
                Ok(head) => framer.push(&head, |frame| file.line(&frame)),
                Err(why) => {
                    not_lines = Some(why);
                    return Ok(());
                }
            }
            loop {
                match reader.read(&mut piece)? {
                    0 => break Ok(()),
                    read => framer.push(piece.get(..read).unwrap_or_default(), |frame| file.line(&frame)),
                }
                told(file.reader.sent());
                if file.closed {
                    break Ok(());
                }
            }
        });
        if let Some(why) = not_lines {
            return Err(Stop::NotLines(why));
        }
        if ended.is_ok() {
            framer.finish(|frame| file.line(&frame));
        }
        file.send();
        let File { count: records, closed, .. } = file;
        match ended {
            _ if closed => Err(Stop::Closed),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Stop::Cut),
            Err(error) => Err(Stop::Damaged { records, why: error.to_string() }),
            Ok(()) => Ok(records),
        }
    }
}

/// The file that is being read.
struct File<'r> {
    reader: &'r mut Reader,
    /// Records to pass over.
    skip: u64,
    /// Records so far.
    count: u64,
    closed: bool,
}

impl File<'_> {
    fn line(&mut self, frame: &Frame<'_>) {
        self.count += 1;
        if self.count <= self.skip || self.closed {
            return;
        }
        let records = &mut self.reader.records;
        let max = self.reader.max_record_bytes;
        let full = match frame {
            Frame::Record(line) => match Wrapped::read(line) {
                Some((record, reason)) if reason.starts_with(TOO_LONG_REASON) => {
                    records.add_rejected(&record, TOO_LONG, reason)
                }
                Some((record, _)) => records.add(&framed(&record, max)),
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
            self.closed |= self.reader.out.blocking_send(FromStream::Block(0, block)).is_err();
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

/// A reject as it stands in S3. A record of Adobe's has other keys, and more of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped<'l> {
    #[serde(rename = "at")]
    _at: DateTime<Utc>,
    #[serde(rename = "instance")]
    _instance: Instance,
    reason: String,
    #[serde(borrow)]
    record: Option<Cow<'l, str>>,
    #[serde(borrow)]
    record_base64: Option<Cow<'l, str>>,
}

impl Wrapped<'_> {
    /// The record that a line holds and why it was rejected, if the line is a reject.
    fn read(line: &[u8]) -> Option<(Vec<u8>, String)> {
        memmem::find(line, b"\"reason\"")?;
        let wrapped: Wrapped<'_> = serde_json::from_slice(line).ok()?;
        let record = match (wrapped.record, wrapped.record_base64) {
            (Some(text), None) => text.into_owned().into_bytes(),
            (None, Some(text)) => shared::object_store::from_base64(&text)?,
            _ => return None,
        };
        Some((record, wrapped.reason))
    }
}

/// Why a file is no lines of JSON, and what to do, if its beginning tells.
pub(super) fn not_lines(mut file: impl Read) -> Option<&'static str> {
    let mut reader = decompressed(&mut file).ok()?;
    form::beginning(&mut reader, &mut vec![0; PIECE_BYTES]).ok()?.err()
}

/// Reads what stands there in the form its first bytes tell.
fn decompressed<R: Read>(bytes: &mut R) -> io::Result<Box<dyn Read + '_>> {
    let mut head = Vec::new();
    bytes.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let whole = Read::chain(io::Cursor::new(head), bytes);
    if gzip {
        let buffered = BufReader::with_capacity(PIECE_BYTES, whole);
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)));
    }
    if zstd {
        return Ok(Box::new(zstd::stream::read::Decoder::new(whole)?));
    }
    Ok(Box::new(whole))
}

/// The pieces one after the other, to their end: an empty one.
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

#[cfg(test)]
mod tests;
