//! The two threads of a session, since inflating takes about as long as the rest:
//!
//! ```text
//! compressed bytes ──► inflate ──text──► frame, transform ──► blocks
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::decoder::{Decoder, Ended, Finished, Inflated, Reading, TextEnd};
use super::inflate::Inflater;
use crate::append::{Block, ConnectionEvent};
use crate::counters::Counters;
use crate::transform::{CurrentTransform, Transform};

/// Pieces of text that may wait between the two threads, each 64 KiB at most.
const TEXTS_WAITING: usize = 4;

/// What comes of a body.
#[derive(Debug)]
pub enum Piece {
    /// Compressed bytes.
    Bytes(Bytes),
    /// The body ended in order: a last line without its end may be a record.
    End,
}

/// Starts the two threads of one session.
pub fn start(
    connection: u8,
    transform: impl Into<CurrentTransform>,
    reading: Reading,
    counters: Arc<Counters>,
    pieces: mpsc::Receiver<Piece>,
    out: mpsc::Sender<ConnectionEvent>,
) -> io::Result<JoinHandle<Finished>> {
    let (to_decoder, texts) = sync_channel(TEXTS_WAITING);
    let inflating = Inflating { inflater: Inflater::new(), counters: counters.clone() };
    let decoder = Decoder::new(transform.into(), reading, counters);
    let mut send = move |block| out.blocking_send(ConnectionEvent::Block(connection, block)).is_ok();
    Builder::new().name(format!("inflate-{connection}")).spawn(move || inflating.run(pieces, &to_decoder))?;
    Builder::new().name(format!("decode-{connection}")).spawn(move || decoder.run(&texts, &mut send))
}

/// Decodes a whole body, its compressed bytes cut into `pieces`, without threads.
pub fn body<'p>(
    transform: Transform,
    reading: Reading,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Block>, Ended) {
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let mut inflating = Inflating { inflater: Inflater::new(), counters: counters.clone() };
    let mut decoder = Decoder::new(transform.into(), reading, counters);
    let mut blocks = Vec::new();
    let mut send = |block| {
        blocks.push(block);
        true
    };
    let mut pieces = pieces.into_iter();
    let end = pieces.find_map(|piece| {
        inflating.push(piece, &mut |text| {
            decoder.text(text, &mut send);
            decoder.ended.is_none()
        })
    });
    if decoder.ended.is_none() {
        decoder.end(end.unwrap_or_else(|| TextEnd::Body(inflating.inflater.finish())), &mut send);
    }
    decoder.send(&mut send);
    (blocks, decoder.ended.unwrap_or(Ended::Input))
}

/// The first thread.
struct Inflating {
    inflater: Inflater,
    counters: Arc<Counters>,
}

impl Inflating {
    fn run(mut self, mut pieces: mpsc::Receiver<Piece>, to: &SyncSender<Inflated>) {
        loop {
            let end = match pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    self.push(&bytes, &mut |text| to.send(Inflated::Text(text.to_vec())).is_ok())
                }
                Some(Piece::End) => Some(TextEnd::Body(self.inflater.finish())),
                None => Some(TextEnd::Connection(self.inflater.finish())),
            };
            let ended = end.is_some();
            let sent = match end {
                Some(end) => to.send(Inflated::End(end)),
                None if pieces.is_empty() => to.send(Inflated::Pause),
                None => Ok(()),
            };
            // The decoder may end before the bytes do.
            if ended || sent.is_err() {
                return;
            }
        }
    }

    /// Inflates a piece, until `text` returns false. Returns why no more text can come, if so.
    fn push(&mut self, mut bytes: &[u8], text: &mut dyn FnMut(&[u8]) -> bool) -> Option<TextEnd> {
        let before = (self.inflater.consumed, self.inflater.produced);
        let end = loop {
            match self.inflater.piece(&mut bytes) {
                Ok(Some(piece)) if text(piece) => {}
                Ok(Some(_)) => break Some(TextEnd::Connection(Ok(()))),
                Ok(None) => break None,
                Err(error) => break Some(TextEnd::Body(Err(error))),
            }
        };
        self.counters.bytes.fetch_add(self.inflater.consumed - before.0, Ordering::Relaxed);
        self.counters.inflated.fetch_add(self.inflater.produced - before.1, Ordering::Relaxed);
        end
    }
}
