//! What the stream sends: each record is told by a short token, from which both sides make the same bytes.

use std::fmt;
use std::hash::Hasher;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use state::log::{Form, HitId, Settings};
use xxhash_rust::xxh3::Xxh3;

/// Connections that read the stream.
pub(crate) const CONNECTIONS: u8 = 2;

/// The log: it forgets hits after 600 or so, so that Adobe also sends again what was forgotten.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        dedup_window: Duration::from_secs(60),
        gap_tolerance: Duration::from_secs(20),
        connections: CONNECTIONS,
        ..crate::support::settings(dir)
    }
}

/// Forms that rows may have; the first is that of [`settings`].
pub(crate) const FORMS: u8 = 3;

/// A form by its number.
pub(crate) fn form(number: u8) -> Form {
    let schema = if number == 0 { settings(Path::new("")).schema } else { format!("{number:016x}") };
    Form { schema, columns: vec![format!("column_{number}")], pseudonym_key: None, pseudonym_spelling: None }
}

/// A record of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The hit of this number: the same whenever it is sent again.
    Hit(u64),
    /// The same, taken for a duplicate.
    Known(u64),
    /// A record without hit id. It is sent once only: nobody could recognise it.
    Nameless(u64, u64),
    /// A record that cannot become a row.
    Reject(u64, u64),
    /// A record that a filter drops.
    Filtered,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit(n) => write!(f, "h{n}"),
            Self::Known(n) => write!(f, "k{n}"),
            Self::Nameless(run, n) => write!(f, "n{run}.{n}"),
            Self::Reject(run, n) => write!(f, "r{run}.{n}"),
            Self::Filtered => write!(f, "f"),
        }
    }
}

impl FromStr for Token {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, numbers) = text.split_at(1);
        let (a, b) = numbers.split_once('.').unwrap_or((numbers, "0"));
        match kind {
            "f" => Ok(Self::Filtered),
            "h" => a.parse().map(Self::Hit),
            "k" => a.parse().map(Self::Known),
            "n" => Ok(Self::Nameless(a.parse()?, b.parse()?)),
            _ => Ok(Self::Reject(a.parse()?, b.parse()?)),
        }
    }
}

impl Token {
    pub(crate) fn hit(self) -> Option<HitId> {
        let Self::Hit(n) = self else { return None };
        Some(HitId { high: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: u64::MAX - n })
    }

    /// The time of a hit: ten in a second, somewhat out of order.
    pub(crate) fn received(self) -> Option<DateTime<Utc>> {
        let Self::Hit(n) = self else { return None };
        let millis = n * 100 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 4_000;
        Some(
            DateTime::from_timestamp(1_700_000_000, 0)?
                + TimeDelta::milliseconds(i64::try_from(millis).ok()?),
        )
    }

    /// The connection it comes on.
    pub(crate) fn connection(self) -> u8 {
        match self {
            Self::Hit(n) => u8::try_from(n % u64::from(CONNECTIONS)).unwrap(),
            _ => 0,
        }
    }

    /// The CSV line, or the record as received. Most are of some hundred bytes; a few fill several values of the
    /// database on their own. It compresses by half, so that a commit is made of several values as well.
    pub(crate) fn text(self) -> Vec<u8> {
        let name = self.to_string();
        let mut hasher = Xxh3::new();
        hasher.write(name.as_bytes());
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        let len = if random.u8(..) == 0 { random.usize(5_000..40_000) } else { random.usize(0..400) };
        let mut text = format!("{name}~");
        text.extend((0..len).map(|_| random.alphanumeric()));
        // Bytes that are no UTF-8 in some of the rejects.
        let end: &[u8] = match self {
            Self::Reject(_, n) if n % 3 == 0 => b"\xff",
            Self::Reject(..) => b"",
            _ => b"\n",
        };
        [text.as_bytes(), end].concat()
    }
}
