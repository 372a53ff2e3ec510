//! Inflated text becomes blocks of records, until the session ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use state::status::tap::Tap;

use super::blocks::BlockBuilder;
use super::damage::DamageDetector;
use super::frame::{Frame, Framer};
use super::inflate::InflateError;
use super::resume::{CatchUp, Resume};
use crate::append::Block;
use crate::counters::Counters;
use crate::transform::CurrentTransform;

/// What Livestream sends in place of a record, or of the whole body, when the token has expired.
const NOT_AUTHORIZED: &str = "not authorized";

/// How the records of a session are read.
#[derive(Debug, Default)]
pub struct Reading {
    /// A longer record is a reject.
    pub max_record_bytes: usize,
    /// Recognises hits that the log has; they are not transformed again.
    pub resume: Option<Resume>,
    /// Decides when unreadable records are damage.
    pub damage: DamageDetector,
    /// Shows records to those who tap the producer.
    pub tap: Tap,
}

impl From<usize> for Reading {
    /// Every record of at most so many bytes is transformed, and none is damage.
    fn from(max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..Self::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Input,
    /// The bytes ended within something. What was cut off is no reject, because Adobe sends it again.
    Within(String),
    /// The bytes cannot be decoded: the position in them is lost.
    Damaged(String),
    /// The bytes can be decoded, to records that cannot be read.
    Unreadable(String),
    NotAuthorized,
    /// The log takes no more blocks.
    Closed,
}

pub struct Finished {
    pub(crate) ended: Ended,
    pub(crate) catch_up: CatchUp,
    pub(crate) damage: DamageDetector,
}

/// What the inflating thread hands on.
pub(super) enum Inflated {
    Text(Vec<u8>),
    /// No more compressed bytes wait, so records must not wait for others either.
    Pause,
    End(TextEnd),
}

/// Why there is no more text, and whether the compressed bytes may end where they do.
pub(super) enum TextEnd {
    /// The body has ended in order, or cannot be inflated any further.
    Body(Result<(), InflateError>),
    Connection(Result<(), InflateError>),
}

/// Where blocks go; false when the log takes no more.
type Out<'s> = &'s mut dyn FnMut(Block) -> bool;

/// The second thread of a session.
pub(super) struct Decoder {
    framer: Framer,
    blocks: BlockBuilder,
    counters: Arc<Counters>,
    pub(super) ended: Option<Ended>,
}

impl Decoder {
    pub(super) fn new(transform: CurrentTransform, reading: Reading, counters: Arc<Counters>) -> Self {
        let Reading { max_record_bytes, resume, damage, tap } = reading;
        let framer = Framer::new(max_record_bytes);
        let mut blocks = BlockBuilder::new(transform, counters.clone()).with_tap(tap);
        (blocks.resume, blocks.damage) = (resume, damage);
        Self { framer, blocks, counters, ended: None }
    }

    pub(super) fn run(mut self, texts: &Receiver<Inflated>, send: Out<'_>) -> Finished {
        let ended = loop {
            match texts.recv() {
                Ok(Inflated::Text(text)) => self.text(&text, send),
                Ok(Inflated::Pause) => self.send(send),
                Ok(Inflated::End(end)) => self.end(end, send),
                Err(_) => self.ended = Some(Ended::Damaged("the inflating thread failed".to_owned())),
            }
            if self.ended.is_some() {
                self.send(send);
            }
            if let Some(ended) = self.ended.take() {
                break ended;
            }
        };
        let (records, empty_lines) = (self.blocks.count, self.framer.empty_lines);
        tracing::info!(records, empty_lines, "session decoded");
        let (catch_up, damage) = self.blocks.end();
        Finished { ended, catch_up, damage }
    }

    pub(super) fn text(&mut self, text: &[u8], send: Out<'_>) {
        let Self { framer, blocks, counters, ended } = self;
        let before = framer.empty_lines;
        framer.push(text, |frame| record(blocks, ended, &frame, send));
        counters.empty_lines.fetch_add(framer.empty_lines - before, Ordering::Relaxed);
        if ended.is_none() {
            blocks.damage.line_grew(framer.pending_head(), framer.pending_bytes);
            *ended = blocks.damage.damage().map(Ended::Unreadable);
        }
    }

    /// There is no more text. A line that has not ended is a record only if nothing was cut off.
    pub(super) fn end(&mut self, end: TextEnd, send: Out<'_>) {
        let Self { framer, blocks, ended, .. } = self;
        let pending = framer.pending_bytes;
        let how = match end {
            TextEnd::Body(Ok(())) => {
                framer.finish(|frame| record(blocks, ended, &frame, send));
                Ended::Input
            }
            // The line may have been cut off with what was to follow: then it is no reject.
            TextEnd::Body(Err(InflateError::Truncated(bytes))) => {
                let mut whole = true;
                framer.finish(|frame| match frame {
                    Frame::Record(line) if line == NOT_AUTHORIZED.as_bytes() => {
                        *ended = Some(Ended::NotAuthorized);
                    }
                    frame => whole = blocks.add_if_whole(&frame),
                });
                match whole {
                    true => Ended::Within(format!("a gzip member, after {bytes} bytes")),
                    false => within_a_record(pending),
                }
            }
            TextEnd::Body(Err(InflateError::NotGzip(head)))
            | TextEnd::Connection(Err(InflateError::NotGzip(head)))
                if head.contains(NOT_AUTHORIZED) =>
            {
                Ended::NotAuthorized
            }
            TextEnd::Body(Err(error)) | TextEnd::Connection(Err(error @ InflateError::NotGzip(_))) => {
                Ended::Damaged(error.to_string())
            }
            TextEnd::Connection(_) if pending > 0 => within_a_record(pending),
            TextEnd::Connection(_) => Ended::Input,
        };
        ended.get_or_insert(how);
    }

    pub(super) fn send(&mut self, send: Out<'_>) {
        if let Some(block) = self.blocks.take()
            && !send(block)
        {
            self.ended = Some(Ended::Closed);
        }
    }
}

/// Adds a record. What follows the end of the session in the same piece is passed over.
fn record(blocks: &mut BlockBuilder, ended: &mut Option<Ended>, frame: &Frame<'_>, send: Out<'_>) {
    match frame {
        _ if ended.is_some() => {}
        Frame::Record(line) if *line == NOT_AUTHORIZED.as_bytes() => *ended = Some(Ended::NotAuthorized),
        frame => {
            let full = blocks.add(frame);
            *ended = blocks.damage.damage().map(Ended::Unreadable);
            if ended.is_none()
                && full
                && let Some(block) = blocks.take()
                && !send(block)
            {
                *ended = Some(Ended::Closed);
            }
        }
    }
}

fn within_a_record(bytes: u64) -> Ended {
    Ended::Within(format!("a record, of which {bytes} bytes came"))
}
