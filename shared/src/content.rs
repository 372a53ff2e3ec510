//! Checksums of what files and batches hold: of the rows, so that they do not depend on how these are compressed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// XXH3-128 of the rows of a file, or of the checksums of a batch's files in their order. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Content(u128);

impl Content {
    /// That of a file: of its rows as CSV, uncompressed.
    pub fn of_rows(rows: &[u8]) -> Self {
        Self(xxh3_128(rows))
    }

    /// That of a batch, from those of its files in order.
    pub fn of_files(files: impl IntoIterator<Item = Self>) -> Self {
        let mut hash = Xxh3::new();
        files.into_iter().for_each(|file| hash.update(&file.0.to_be_bytes()));
        Self(hash.digest128())
    }
}

/// The checksum of a file whose rows come piece by piece.
#[derive(Default)]
pub struct ContentSum(Xxh3);

impl ContentSum {
    /// Takes the next rows.
    pub fn add(&mut self, rows: &[u8]) {
        self.0.update(rows);
    }

    /// That of all that came.
    pub fn content(&self) -> Content {
        Content(self.0.digest128())
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a checksum of content (32 hex digits)")]
pub struct NotContent(String);

impl FromStr for Content {
    type Err = NotContent;

    fn from_str(text: &str) -> Result<Self, NotContent> {
        let number = (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        number.map(Self).ok_or_else(|| NotContent(text.to_owned()))
    }
}

impl TryFrom<String> for Content {
    type Error = NotContent;

    fn try_from(text: String) -> Result<Self, NotContent> {
        text.parse()
    }
}

impl From<Content> for String {
    fn from(content: Content) -> String {
        content.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_reads_back_and_knows_the_order_of_files() {
        let (a, b) = (Content::of_rows(b"1~x\n"), Content::of_rows(b"2~y\n"));
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_ne!(Content::of_files([a, b]), Content::of_files([b, a]));
        assert_ne!(Content::of_files([a]), a);
        let mut pieces = ContentSum::default();
        [&b"1~"[..], b"x\n"].iter().for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.content(), a);
        for wrong in ["", "0", "+0000000000000000000000000000000", &"g".repeat(32)] {
            assert!(wrong.parse::<Content>().is_err(), "{wrong}");
        }
    }
}
