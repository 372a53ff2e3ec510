//! Streaming gzip: compressed bytes in, pieces of at most 64 KiB out, so that a small input that inflates a
//! thousandfold never takes a thousandfold of memory.
//!
//! A piece comes out as soon as the sender has flushed it. Several gzip members in a row are one stream. However the
//! input is cut, the same text comes out before a fault.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes of a piece.
pub const PIECE_BYTES: usize = 64 << 10;
const MAGIC: [u8; 2] = [0x1f, 0x8b];
const WINDOW_BITS: u8 = 15;
/// How many bytes of a body that is no gzip are gathered to classify it.
const HEAD: usize = 40;

pub(crate) struct Inflater {
    state: State,
    decompress: Decompress,
    piece: Box<[u8]>,
    /// Compressed bytes read, and bytes they inflated to.
    pub(super) consumed: u64,
    pub(super) produced: u64,
}

/// ```text
/// Header(0) ──1f──► Header(1) ──8b──► Member ──trailer──► Header(0)
///     │ no member yet and another byte
///     └────────────► Foreign ──enough of it──► Failed ◄──bad data── any
/// ```
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a member's magic number have come. The body may end after 0 of them.
    Header(usize),
    Member,
    /// The body is no gzip: its beginning, gathered to classify it.
    Foreign(Vec<u8>),
    /// The fault, until it is returned.
    Failed(Option<InflateError>),
}

/// Why the body cannot be inflated any further. Positions are compressed bytes from the start of the body.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum InflateError {
    #[error("the response is not gzip: it is {0}")]
    NotGzip(Head),
    #[error("gzip data is followed by something else at byte {0}")]
    Trailing(u64),
    #[error("gzip data is damaged near byte {at}: {reason}")]
    Damaged { at: u64, reason: String },
    #[error("gzip data ends in the middle, after {0} bytes")]
    Truncated(u64),
    #[error("gzip data was damaged before")]
    Failed,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header(0),
            decompress: Decompress::new_gzip(WINDOW_BITS),
            piece: vec![0; PIECE_BYTES].into_boxed_slice(),
            consumed: 0,
            produced: 0,
        }
    }

    /// The next piece of text; None when `input`, of which it cuts off what it reads, is empty. Text before an error is
    /// good.
    pub(crate) fn piece<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<&'a [u8]>, InflateError> {
        loop {
            if input.is_empty() && matches!(self.state, State::Header(_) | State::Foreign(_)) {
                return Ok(None);
            }
            match &mut self.state {
                State::Failed(fault) => return Err(fault.take().unwrap_or(InflateError::Failed)),
                State::Header(matched) => {
                    let matched = *matched;
                    self.header(matched, input);
                }
                State::Foreign(head) => {
                    let (room, line) = (HEAD - head.len(), memchr::memchr(b'\n', input));
                    let (more, rest) = input.split_at(line.map_or(input.len(), |end| end + 1).min(room));
                    head.extend_from_slice(more);
                    self.consumed += more.len() as u64;
                    *input = rest;
                    if head.len() == HEAD || head.ends_with(b"\n") {
                        self.state = State::Failed(Some(InflateError::NotGzip(Head(head.clone()))));
                    }
                }
                State::Member => {
                    let count = self.inflate(input);
                    if count > 0 {
                        return Ok(self.piece.get(..count));
                    }
                    // Nothing came out: all is read, or the member has ended, or there is a fault.
                    if input.is_empty() && self.state == State::Member {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The body has ended: whether it may end here.
    pub(crate) fn finish(&self) -> Result<(), InflateError> {
        match &self.state {
            State::Header(0) => Ok(()),
            State::Header(_) | State::Member => Err(InflateError::Truncated(self.consumed)),
            State::Foreign(head) => Err(InflateError::NotGzip(Head(head.clone()))),
            State::Failed(fault) => Err(fault.clone().unwrap_or(InflateError::Failed)),
        }
    }

    fn header(&mut self, matched: usize, input: &mut &[u8]) {
        let (mut byte, rest) = input.split_at(1);
        if byte.first() == MAGIC.get(matched) {
            self.inflate(&mut byte);
            if let State::Header(_) = self.state {
                let whole = matched + 1 == MAGIC.len();
                self.state = if whole { State::Member } else { State::Header(matched + 1) };
            }
            *input = rest;
        } else if self.consumed == matched as u64 {
            self.state = State::Foreign(MAGIC.iter().copied().take(matched).collect());
        } else {
            let at = self.consumed - matched as u64;
            self.state = State::Failed(Some(InflateError::Trailing(at)));
        }
    }

    /// Inflates a part of `input`. Returns how many bytes of `piece` are good, even if the state is a fault afterwards.
    fn inflate(&mut self, input: &mut &[u8]) -> usize {
        let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
        let status = self.decompress.decompress(input, &mut self.piece, FlushDecompress::None);
        let read_now = usize::try_from(self.decompress.total_in() - read).unwrap_or(usize::MAX);
        let made = usize::try_from(self.decompress.total_out() - written).unwrap_or(usize::MAX);
        self.consumed += read_now as u64;
        self.produced += made as u64;
        *input = input.get(read_now..).unwrap_or_default();
        let reason = match status {
            Ok(Status::StreamEnd) => {
                self.decompress = Decompress::new_gzip(WINDOW_BITS);
                self.state = State::Header(0);
                return made;
            }
            Ok(Status::Ok | Status::BufError) if read_now > 0 || made > 0 || input.is_empty() => return made,
            Ok(Status::Ok | Status::BufError) => "it makes no progress".to_owned(),
            Err(error) => error.to_string(),
        };
        self.state = State::Failed(Some(InflateError::Damaged { at: self.consumed, reason }));
        made
    }
}

/// The first bytes of a body that is no gzip. They may belong to a record, so only their shape is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Head(Vec<u8>);

impl Head {
    pub(crate) fn contains(&self, text: &str) -> bool {
        memchr::memmem::find(&self.0, text.as_bytes()).is_some()
    }

    fn shape(&self) -> &'static str {
        match self.0.trim_ascii_start() {
            [] => "blank",
            [b'{' | b'[', ..] => "like JSON that is not compressed",
            [b'<', ..] => "like a web page",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            head if std::str::from_utf8(head).is_ok_and(|text| !text.contains(char::is_control)) => "text",
            _ => "binary",
        }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return f.write_str("empty") };
        write!(f, "{} (first byte 0x{first:02x}, {} bytes looked at)", self.shape(), self.0.len())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
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

    fn push(inflater: &mut Inflater, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), InflateError> {
        while let Some(piece) = inflater.piece(&mut input)? {
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            out.extend_from_slice(piece);
        }
        Ok(())
    }

    fn inflate(parts: &[&[u8]]) -> Result<Vec<u8>, InflateError> {
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        for part in parts {
            push(&mut inflater, part, &mut out)?;
        }
        inflater.finish()?;
        assert_eq!(inflater.produced, out.len() as u64);
        assert_eq!(inflater.consumed, parts.iter().map(|part| part.len() as u64).sum::<u64>());
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
        push(&mut inflater, encoder.get_ref(), &mut out).unwrap();
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
        assert_eq!(
            error.to_string(),
            "the response is not gzip: it is text (first byte 0x6e, 14 bytes looked at)"
        );
        let mut trailing = gzip(b"a");
        trailing.extend_from_slice(b"<html>");
        let at = gzip(b"a").len() as u64;
        assert_eq!(inflate(&[&trailing]).unwrap_err(), InflateError::Trailing(at));
    }

    #[test]
    fn what_is_no_gzip_is_told_the_same_way_however_it_is_cut() {
        let page = b"<html><body>The service is unavailable. Try again later.</body></html>";
        let gzip_of_a = gzip(b"a");
        let trailing = [&gzip_of_a[..], b"\x1fgarbage"].concat();
        let bodies: [&[u8]; 5] = [b"not authorized", b"two\nlines", page, b"\x1fnot gzip", &trailing];
        for body in bodies {
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            let whole = inflate(&[body]).unwrap_err();
            assert_eq!(inflate(&bytes).unwrap_err(), whole);
            assert!(matches!(whole, InflateError::NotGzip(_) | InflateError::Trailing(_)), "{whole}");
        }
    }

    #[test]
    fn a_flipped_byte_is_damage_and_ends_the_stream() {
        let good = gzip(&b"0123456789".repeat(1000));
        let mut inflater = Inflater::new();
        let mut bad = good.clone();
        let crc = bad.len() - 8;
        bad[crc] ^= 1;
        let mut out = Vec::new();
        assert!(matches!(push(&mut inflater, &bad, &mut out), Err(InflateError::Damaged { .. })));
        assert_eq!(out, b"0123456789".repeat(1000), "what came before the fault is good");
        assert_eq!(push(&mut inflater, &good, &mut out), Err(InflateError::Failed));
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
