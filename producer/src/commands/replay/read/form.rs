//! Recognises by its beginning whether a text is lines of JSON. For a pretty-printed record, an array or UTF-16 the
//! command says what to do, instead of writing a reject a line.

use std::io::{self, BufReader, Read};

use memchr::memchr;
use serde::de::IgnoredAny;

use crate::decode::frame::{Frame, Framer};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// The bytes that must be enough: no tool that prints JSON for people writes longer lines.
const HEAD_BYTES: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file is no lines of JSON, and what to do, if its beginning shows that.
pub(crate) fn not_lines(mut file: impl Read) -> Option<&'static str> {
    let mut reader = decompressed(&mut file).ok()?;
    match beginning(&mut reader, &mut vec![0; PIECE_BYTES]) {
        Err(Unusable::NotLines(why)) => Some(why),
        Ok(_) | Err(Unusable::Io(_)) => None,
    }
}

/// Hands over every line of a file, of which none has more than `max` bytes. The error says what is wrong, and what to do.
pub(crate) fn lines(
    file: &mut impl Read,
    max: usize,
    mut each: impl FnMut(&Frame<'_>),
) -> Result<(), String> {
    let damaged = |error: io::Error| format!("it is damaged: {error}");
    let (mut framer, mut piece) = (Framer::new(max), vec![0; PIECE_BYTES]);
    let mut reader = decompressed(file).map_err(damaged)?;
    let head = beginning(&mut reader, &mut piece).map_err(|unusable| match unusable {
        Unusable::NotLines(why) => why.to_owned(),
        Unusable::Io(error) => damaged(error),
    })?;
    framer.push(&head, |frame| each(&frame));
    loop {
        let read = reader.read(&mut piece).map_err(damaged)?;
        if read == 0 {
            framer.finish(|frame| each(&frame));
            return Ok(());
        }
        framer.push(piece.get(..read).unwrap_or_default(), |frame| each(&frame));
    }
}

/// Decompresses a text whose first bytes say how it is compressed.
pub(super) fn decompressed<R: Read>(bytes: &mut R) -> io::Result<Box<dyn Read + '_>> {
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

const UTF_16: &str = "it is UTF-16, and a record is UTF-8: convert it, with `iconv -f UTF-16 -t UTF-8`";
const ARRAY: &str =
    "it is a JSON array, and a record stands on a line of its own: convert it, with `jq -c '.[]'`";
const PRETTY: &str =
    "its records go over several lines, and each is to stand on one: convert it, with `jq -c .`";

#[derive(Debug, PartialEq, Eq)]
enum Form {
    Unknown,
    /// Lines, after a byte order mark of so many bytes.
    Lines(usize),
    /// Something else: what it is and what to do.
    Other(&'static str),
}

#[derive(Debug)]
pub(super) enum Unusable {
    Io(io::Error),
    NotLines(&'static str),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads as much of a text as shows its form, by way of `piece`, and returns it without a byte order mark.
pub(super) fn beginning(reader: &mut impl Read, piece: &mut [u8]) -> Result<Vec<u8>, Unusable> {
    let mut head = Vec::new();
    loop {
        let read = reader.read(piece)?;
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        match form(&head, read == 0 || head.len() >= HEAD_BYTES) {
            Form::Unknown => {}
            Form::Lines(mark) => {
                head.drain(..mark);
                return Ok(head);
            }
            Form::Other(why) => return Err(Unusable::NotLines(why)),
        }
    }
}

/// `all`: there is no more, or this must be enough.
fn form(head: &[u8], all: bool) -> Form {
    let unknown = |otherwise: Form| if all { otherwise } else { Form::Unknown };
    match head {
        [0xff, 0xfe, _, 0, ..] | [0xfe, 0xff, 0, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
            return Form::Other(UTF_16);
        }
        [] | [_] | [0xff, 0xfe] | [0xff, 0xfe, _] | [0xfe, 0xff] | [0xef, 0xbb] if !all => {
            return Form::Unknown;
        }
        _ => {}
    }
    let mark = if head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let text = head.get(mark..).unwrap_or_default().trim_ascii_start();
    match text {
        [] => unknown(Form::Lines(mark)),
        [b'[', rest @ ..] => match rest.trim_ascii_start() {
            [] => unknown(Form::Lines(mark)),
            [b'{' | b']', ..] => Form::Other(ARRAY),
            _ => Form::Lines(mark),
        },
        [b'{', ..] => {
            let Some(end) = memchr(b'\n', text) else { return unknown(Form::Lines(mark)) };
            let (line, rest) = text.split_at(end);
            let is_open = serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof());
            match rest.trim_ascii_start() {
                _ if !is_open => Form::Lines(mark),
                [] => unknown(Form::Lines(mark)),
                // A key, or the end of the object. A line that was cut off is followed by another record.
                [b'"' | b'}', ..] => Form::Other(PRETTY),
                _ => Form::Lines(mark),
            }
        }
        _ => Form::Lines(mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Vec<u8>, &'static str> {
        beginning(&mut &*text, &mut [0; 3]).map_err(|error| match error {
            Unusable::NotLines(why) => why,
            Unusable::Io(error) => panic!("{error}"),
        })
    }

    fn utf_16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect()
    }

    #[test]
    fn lines_are_lines_whatever_is_in_them() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(2 * HEAD_BYTES));
        for text in [
            "",
            "\n",
            "{",
            "[",
            "{}",
            "{\"a\":1}\n",
            "\r\n {\"a\":1}\r\n{\"b\":2}",
            "not JSON\n{}",
            "[1,2]\n{}",
            "1",
            // Cut off, and the next.
            "{\"a\":\n{\"a\":1}\n",
            "{\"a\":[",
            "{\n\n",
            &long,
        ] {
            let read = of(text.as_bytes()).unwrap();
            assert!(text.as_bytes().starts_with(&read), "{text}");
        }
        assert_eq!(of(b"\xef\xbb\xbf{}\n{}"), Ok(b"{}\n".to_vec()), "the mark is none of it");
        assert_eq!(of(b"\xef\xbb\xbf"), Ok(Vec::new()));
        for binary in [&b"\xff"[..], b"\xff\xfe", b"\xff\xfe{}", b"\x00\x01"] {
            assert!(of(binary).is_ok(), "{}", binary.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_lines_is_told_with_what_to_do() {
        for text in ["[\n  {\n", "[{\"a\":1}]", "\u{feff}[ ]", "\n[\n\n{}]"] {
            assert_eq!(of(text.as_bytes()), Err(ARRAY), "{text}");
        }
        for text in ["{\n  \"a\": 1\n}\n", "{ \"a\": 1,\r\n  \"b\": {}\r\n}", "{\"a\":1\n}", "{\n}"] {
            assert_eq!(of(text.as_bytes()), Err(PRETTY), "{text}");
        }
        for text in ["{\"a\":1}\n", "\u{feff}{\"a\":1}\n", "[{}]", "\u{feff}\n{}"] {
            for little in [true, false] {
                assert_eq!(of(&utf_16(text, little)), Err(UTF_16), "{text}");
            }
        }
    }
}
