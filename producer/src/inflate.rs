//! Streaming gzip: compressed bytes in, pieces of at most 64 KiB out, so that a small input that inflates a
//! thousandfold never takes a thousandfold of memory.
//!
//! Pieces come as soon as the sender has flushed them; several gzip members in a row are one stream.

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes of a piece.
pub const PIECE_BYTES: usize = 64 << 10;
const MAGIC: [u8; 2] = [0x1f, 0x8b];
const WINDOW_BITS: u8 = 15;

/// Inflates one response body.
pub struct Inflater {
    state: State,
    decompress: Decompress,
    piece: Box<[u8]>,
    consumed: u64,
    produced: u64,
}

/// ```text
/// Start ──first byte──► Member ──trailer──► Between ──next byte──► Member
///                         any ──bad data──► Failed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Member,
    Between,
    Failed,
}

/// Why the body cannot be read any further. Positions are compressed bytes from the start of the body.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InflateError {
    /// The first bytes are not a gzip header: most likely an error page.
    #[error("the response is not gzip: it starts with {0}")]
    NotGzip(String),
    /// A member has ended and what follows is not another.
    #[error("gzip data is followed by something else at byte {0}")]
    Trailing(u64),
    /// The data contradicts itself or its checksum.
    #[error("gzip data is damaged near byte {at}: {reason}")]
    Damaged {
        /// Where, in compressed bytes.
        at: u64,
        /// What the inflater says.
        reason: String,
    },
    /// The body ended inside a member.
    #[error("gzip data ends in the middle, after {0} bytes")]
    Truncated(u64),
    /// It has failed before: the position in the stream is lost.
    #[error("gzip data was damaged before")]
    Failed,
}

impl Inflater {
    /// For a body of which nothing has been read.
    pub fn new() -> Self {
        Self {
            state: State::Start,
            decompress: Decompress::new_gzip(WINDOW_BITS),
            piece: vec![0; PIECE_BYTES].into_boxed_slice(),
            consumed: 0,
            produced: 0,
        }
    }

    /// Inflates `input`, giving each piece to `sink`. What was sunk before an error is good.
    pub fn push(&mut self, mut input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), InflateError> {
        while let Some(piece) = self.piece(&mut input)? {
            sink(piece);
        }
        Ok(())
    }

    /// The next piece of `input`, of which the part that is dealt with is cut off; none when all of it is. For a
    /// caller that wants to wait between two pieces.
    pub fn piece<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<&'a [u8]>, InflateError> {
        loop {
            match self.state {
                State::Failed => return Err(InflateError::Failed),
                State::Start | State::Between if input.is_empty() => return Ok(None),
                State::Start | State::Between => self.begin_member(input)?,
                State::Member => {}
            }
            let count = self.inflate(input)?;
            if count > 0 {
                return Ok(self.piece.get(..count));
            }
            // Nothing came out: either all is read, or a member has ended and more input may follow.
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The body has ended: whether it may end here.
    pub fn finish(&self) -> Result<(), InflateError> {
        match self.state {
            State::Start | State::Between => Ok(()),
            State::Member => Err(InflateError::Truncated(self.consumed)),
            State::Failed => Err(InflateError::Failed),
        }
    }

    /// Compressed bytes read so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Inflated bytes given so far.
    pub fn produced(&self) -> u64 {
        self.produced
    }

    /// A header may itself be cut: its first byte decides here, the rest is the inflater's business.
    fn begin_member(&mut self, input: &[u8]) -> Result<(), InflateError> {
        let looks_like_gzip = input.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
        let before = std::mem::replace(&mut self.state, State::Member);
        if !looks_like_gzip {
            self.state = State::Failed;
            return Err(match before {
                State::Start => InflateError::NotGzip(printable(input)),
                State::Member | State::Between | State::Failed => InflateError::Trailing(self.consumed),
            });
        }
        if before == State::Between {
            self.decompress = Decompress::new_gzip(WINDOW_BITS);
        }
        Ok(())
    }

    /// One step: takes from `input`, returns how many bytes of `piece` are filled.
    fn inflate(&mut self, input: &mut &[u8]) -> Result<usize, InflateError> {
        let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
        let status = self.decompress.decompress(input, &mut self.piece, FlushDecompress::None);
        let taken = usize::try_from(self.decompress.total_in() - read).unwrap_or(usize::MAX);
        let made = usize::try_from(self.decompress.total_out() - written).unwrap_or(usize::MAX);
        self.consumed += taken as u64;
        self.produced += made as u64;
        *input = input.get(taken..).unwrap_or_default();
        match status {
            Ok(Status::StreamEnd) => self.state = State::Between,
            Ok(Status::Ok | Status::BufError) if taken == 0 && made == 0 && !input.is_empty() => {
                return Err(self.damaged("it makes no progress".to_owned()));
            }
            Ok(Status::Ok | Status::BufError) => {}
            Err(error) => return Err(self.damaged(error.to_string())),
        }
        Ok(made)
    }

    fn damaged(&mut self, reason: String) -> InflateError {
        self.state = State::Failed;
        InflateError::Damaged { at: self.consumed, reason }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

/// The start of an unexpected body, short and in plain characters.
fn printable(bytes: &[u8]) -> String {
    let start: Vec<u8> = bytes.iter().copied().take(40).collect();
    format!("\"{}\"", start.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(parts: &[&[u8]]) -> Result<Vec<u8>, InflateError> {
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        for part in parts {
            inflater.push(part, |piece| {
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                out.extend_from_slice(piece);
            })?;
        }
        inflater.finish()?;
        assert_eq!(inflater.produced(), out.len() as u64);
        assert_eq!(inflater.consumed(), parts.iter().map(|part| part.len() as u64).sum::<u64>());
        Ok(out)
    }

    #[test]
    fn a_body_of_zeroes_comes_in_bounded_pieces() {
        let zeroes = vec![0; 10 << 20];
        let body = gzip(&zeroes);
        assert!(body.len() < 100_000);
        assert!(inflate(&[&body]).unwrap() == zeroes);
    }

    #[test]
    fn what_the_sender_flushed_is_there_before_the_body_ends() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"a\":1}\r\n").unwrap();
        encoder.flush().unwrap();
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        inflater.push(encoder.get_ref(), |piece| out.extend_from_slice(piece)).unwrap();
        assert_eq!(out, b"{\"a\":1}\r\n");
        assert!(matches!(inflater.finish(), Err(InflateError::Truncated(_))));
    }

    #[test]
    fn an_empty_body_and_empty_members_are_nothing() {
        assert_eq!(inflate(&[]).unwrap(), b"");
        let empty = gzip(b"");
        assert_eq!(inflate(&[&empty, &empty, &gzip(b"a"), &empty]).unwrap(), b"a");
    }

    #[test]
    fn an_error_page_is_told_apart_from_damage() {
        let error = inflate(&[b"not authorized"]).unwrap_err();
        assert_eq!(error.to_string(), "the response is not gzip: it starts with \"not authorized\"");
        let mut trailing = gzip(b"a");
        trailing.extend_from_slice(b"<html>");
        let at = gzip(b"a").len() as u64;
        assert_eq!(inflate(&[&trailing]).unwrap_err(), InflateError::Trailing(at));
    }

    #[test]
    fn a_flipped_byte_is_damage_and_ends_the_stream() {
        let good = gzip(&b"0123456789".repeat(1000));
        let mut inflater = Inflater::new();
        let mut bad = good.clone();
        let crc = bad.len() - 8;
        bad[crc] ^= 1;
        assert!(matches!(inflater.push(&bad, |_| {}), Err(InflateError::Damaged { .. })));
        assert_eq!(inflater.push(&good, |_| {}), Err(InflateError::Failed));
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_same_text_comes_out(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..4),
            cuts in prop::collection::vec(1_usize..200, 1..50),
        ) {
            let body: Vec<u8> = texts.iter().flat_map(|text| gzip(text)).collect();
            let mut parts: Vec<&[u8]> = Vec::new();
            let mut rest = body.as_slice();
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                parts.push(part);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(inflate(&parts).unwrap(), texts.concat());
        }

        #[test]
        fn arbitrary_bytes_never_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = inflate(&[&bytes]);
            let mut gzip_like = gzip(b"");
            gzip_like.truncate(10);
            gzip_like.extend_from_slice(&bytes);
            let _ = inflate(&[&gzip_like]);
        }
    }
}
