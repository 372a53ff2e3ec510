//! Splits inflated text into records: one a line, which ends in LF or CRLF. Empty lines are skipped.
//!
//! A record that lies whole in a piece is not copied. One that is cut is gathered in a buffer that never holds more than
//! the longest record allowed. Of a longer one only the head is kept.

use memchr::memchr;

/// How much of a record that is too long is kept for the reject.
pub(crate) const HEAD_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A line that is not empty, without its end.
    Record(&'a [u8]),
    TooLong {
        /// Its first bytes, at most [`HEAD_BYTES`].
        head: &'a [u8],
        bytes: u64,
    },
}

/// Splits the text of one session, whose first byte starts a record.
pub(crate) struct Framer {
    max_record_bytes: usize,
    /// The line so far, if a piece ended inside it: whole while it can still be a record, then only its head.
    gathered: Vec<u8>,
    /// The bytes of the line so far, of which `gathered` may hold fewer.
    pub(super) pending_bytes: u64,
    /// The last byte so far was CR, which belongs to the line end if LF follows.
    ends_in_cr: bool,
    pub(super) empty_lines: u64,
}

impl Framer {
    /// A record may have this many bytes, its line end not counted.
    pub(crate) fn new(max_record_bytes: usize) -> Self {
        Self { max_record_bytes, gathered: Vec::new(), pending_bytes: 0, ends_in_cr: false, empty_lines: 0 }
    }

    /// Passes every line that ends in `piece` to `sink`, and keeps the rest for the next piece.
    pub(crate) fn push(&mut self, piece: &[u8], mut sink: impl FnMut(Frame<'_>)) {
        let mut rest = piece;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) =
                (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
            if self.pending_bytes == 0 {
                self.whole(line, &mut sink);
            } else {
                self.gather(line);
                self.gathered_line(&mut sink);
            }
            rest = after;
        }
        self.gather(rest);
    }

    /// The text has ended: a last line without its end is a line too.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Frame<'_>)) {
        if self.pending_bytes > 0 {
            self.gathered_line(&mut sink);
        }
    }

    /// The beginning of that line, as much as a reject would show.
    pub(crate) fn pending_head(&self) -> &[u8] {
        self.gathered.get(..self.head_bytes()).unwrap_or(&self.gathered)
    }

    fn whole(&mut self, line: &[u8], sink: &mut impl FnMut(Frame<'_>)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max_record_bytes {
            let head = line.get(..self.head_bytes()).unwrap_or(line);
            sink(Frame::TooLong { head, bytes: line.len() as u64 });
        } else if line.trim_ascii_start().is_empty() {
            self.empty_lines += 1;
        } else {
            sink(Frame::Record(line));
        }
    }

    fn gathered_line(&mut self, sink: &mut impl FnMut(Frame<'_>)) {
        let gathered = std::mem::take(&mut self.gathered);
        if self.is_too_long() {
            let bytes = self.pending_bytes - u64::from(self.ends_in_cr);
            sink(Frame::TooLong { head: gathered.get(..self.head_bytes()).unwrap_or(&gathered), bytes });
        } else {
            self.whole(&gathered, sink);
        }
        self.gathered = gathered;
        self.gathered.clear();
        self.pending_bytes = 0;
        self.ends_in_cr = false;
    }

    fn gather(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let was_too_long = self.is_too_long();
        self.pending_bytes += bytes.len() as u64;
        self.ends_in_cr = *last == b'\r';
        if !self.is_too_long() {
            self.gathered.extend_from_slice(bytes);
        } else if !was_too_long {
            let room = self.head_bytes().saturating_sub(self.gathered.len());
            self.gathered.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.gathered.truncate(self.head_bytes());
        }
    }

    /// Whether the line so far can no longer be a record, even if its last byte is a CR that does not count.
    fn is_too_long(&self) -> bool {
        self.pending_bytes > self.max_record_bytes as u64 + 1
    }

    fn head_bytes(&self) -> usize {
        HEAD_BYTES.min(self.max_record_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Owned {
        Record(Vec<u8>),
        TooLong(Vec<u8>, u64),
    }

    fn frames(max: usize, pieces: &[&[u8]]) -> (Vec<Owned>, u64) {
        let mut framer = Framer::new(max);
        let mut out = Vec::new();
        let mut sink = |frame: Frame<'_>| {
            out.push(match frame {
                Frame::Record(line) => Owned::Record(line.to_vec()),
                Frame::TooLong { head, bytes } => Owned::TooLong(head.to_vec(), bytes),
            });
        };
        for piece in pieces {
            framer.push(piece, &mut sink);
            assert!(framer.gathered.len() <= max + 1);
        }
        framer.finish(&mut sink);
        assert_eq!(framer.pending_bytes, 0);
        (out, framer.empty_lines)
    }

    fn record(text: &str) -> Owned {
        Owned::Record(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_last_may_end_in_nothing() {
        let (out, empty) = frames(100, &[b"a\r\nb\nc"]);
        assert_eq!(out, [record("a"), record("b"), record("c")]);
        assert_eq!(empty, 0);
    }

    #[test]
    fn empty_lines_are_counted_and_skipped() {
        let (out, empty) = frames(100, &[b"\r\n\n  \r\na\n\r", b"\n"]);
        assert_eq!(out, [record("a")]);
        assert_eq!(empty, 4);
    }

    #[test]
    fn a_record_may_have_the_longest_length_whatever_its_line_end() {
        for text in [b"abcd\n".as_slice(), b"abcd\r\n", b"abcd", b"abcd\r"] {
            assert_eq!(frames(4, &[text]).0, [record("abcd")]);
        }
        assert_eq!(frames(4, &[b"abcde\r\nf\n"]).0, [Owned::TooLong(b"abcd".to_vec(), 5), record("f")]);
    }

    #[test]
    fn of_a_record_without_end_only_the_head_is_kept() {
        let piece = [b'x'; 10_000];
        let pieces: Vec<&[u8]> = std::iter::repeat_n(piece.as_slice(), 100).collect();
        let (out, _) = frames(20_000, &pieces);
        assert_eq!(out, [Owned::TooLong(vec![b'x'; HEAD_BYTES], 1_000_000)]);
    }

    #[test]
    fn a_record_that_lies_whole_in_a_piece_is_not_copied() {
        let piece = b"{\"a\":1}\r\n".to_vec();
        Framer::new(100).push(&piece, |frame| match frame {
            Frame::Record(line) => assert_eq!(line.as_ptr(), piece.as_ptr()),
            Frame::TooLong { .. } => panic!("not too long"),
        });
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_same_frames_come_out(
            text in prop::collection::vec(prop::sample::select(b"ab \r\n\r\n".to_vec()), 0..300),
            cuts in prop::collection::vec(1_usize..20, 1..20),
            max in 1_usize..12,
        ) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(frames(max, &pieces), frames(max, &[&text]));
        }
    }
}
