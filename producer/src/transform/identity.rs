//! Reads the identity of a hit from its record and skips the rest, so that a hit the log has is recognised before its
//! record is validated or transformed.
//!
//! It reads what the transform would read, or nothing: then the transform decides. For a record that is JSON this is
//! exact: the ids and the time stand once, under keys of the outermost object. To be sure of the outermost object, the
//! shorter side of the record is scanned: from its start to the ids, or from the ids to its end; the same goes for the
//! time. A record that is no JSON but has the ids of a hit in the log is taken for that hit.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use state::log::HitId;

use crate::transform::scan::Scanner;
use crate::transform::value;

/// How both keys of an id begin.
static ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"hitId"));
static RECEIVED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"receivedTimeGMT\""));
/// How an escape of an ASCII character begins.
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub hit: HitId,
    /// `receivedTimeGMT`: when Adobe received it, in seconds since 1970.
    pub received: Option<i64>,
}

/// The identity of a record; None if only the transform can tell it.
pub fn identity(record: &[u8]) -> Option<Identity> {
    let begun = record.first() == Some(&b'{') && record.last() == Some(&b'}');
    if !begun || !is_balanced(record) || may_spell_keys(record) {
        return None;
    }
    let at = ID.find(record)?;
    // A quote behind a backslash opens nothing.
    if record.get(at.checked_sub(1)?) == Some(&b'\\') {
        return None;
    }
    let received = match RECEIVED.find(record) {
        Some(key) if is_only(record, key) => Some(key),
        Some(_) => return None,
        None => None,
    };
    let mut found = Members::default();
    if at < record.len() / 2 {
        found.ids_from_start(record, received)?;
    } else {
        found.ids_to_end(record, at, received)?;
    }
    let received = match received {
        Some(_) => Some(i64::try_from(found.received?).ok()?),
        None => None,
    };
    Some(Identity { hit: HitId { high: found.high?, low: found.low? }, received })
}

/// Whether this is the only place of the time. If not, only the transform can tell which one counts.
fn is_only(record: &[u8], key: usize) -> bool {
    let before = key.checked_sub(1).and_then(|before| record.get(before));
    before != Some(&b'\\') && record.get(key + 1..).is_some_and(|rest| RECEIVED.find(rest).is_none())
}

/// The wanted members of the outermost object, as far as they are found.
#[derive(Default)]
struct Members {
    high: Option<u64>,
    low: Option<u64>,
    received: Option<u64>,
}

impl Members {
    /// Finds both ids from the start of the record on, and the time, whose key may stand at `received`.
    fn ids_from_start(&mut self, record: &[u8], received: Option<usize>) -> Option<()> {
        let mut scanner = Scanner::of_bytes(record);
        self.read_from_start(&mut scanner, |found| found.high.is_some() && found.low.is_some())?;
        let end = scanner.at();
        if ID.find(record.get(end..)?).is_some() {
            return None;
        }
        match received {
            Some(key) if self.received.is_none() => {
                // A time before this place was in a nested object.
                let between = key.checked_sub(end)?;
                if between < record.len() - key {
                    scanner.more(b'}').ok()?.then_some(())?;
                    self.until(&mut scanner, |found| found.received.is_some())
                } else {
                    scanner.go_to(key);
                    self.until_the_end(&mut scanner)
                }
            }
            _ => Some(()),
        }
    }

    /// Finds both ids from the first of them, at `ids`, to the end of the record, and the time as above.
    fn ids_to_end(&mut self, record: &[u8], ids: usize, received: Option<usize>) -> Option<()> {
        let mut scanner = Scanner::of_bytes(record);
        scanner.go_to(ids);
        self.until_the_end(&mut scanner)?;
        match received {
            Some(key) if self.received.is_none() => {
                let between = ids.checked_sub(key)?;
                if key < between {
                    self.read_from_start(&mut Scanner::of_bytes(record), |found| found.received.is_some())
                } else {
                    // In the same object as the ids.
                    scanner.go_to(key);
                    while scanner.at() < ids {
                        self.member(&mut scanner)?;
                        scanner.more(b'}').ok()?.then_some(())?;
                    }
                    (scanner.at() == ids).then_some(())
                }
            }
            _ => Some(()),
        }
    }

    /// Reads keys and values from the start of the record until enough is found.
    fn read_from_start(&mut self, scanner: &mut Scanner<'_>, enough: impl Fn(&Self) -> bool) -> Option<()> {
        scanner.first(b'}').ok()?.then_some(())?;
        self.until(scanner, enough)
    }

    fn until(&mut self, scanner: &mut Scanner<'_>, enough: impl Fn(&Self) -> bool) -> Option<()> {
        loop {
            self.member(scanner)?;
            if enough(self) {
                return Some(());
            }
            scanner.more(b'}').ok()?.then_some(())?;
        }
    }

    /// Reads keys and values from here to the end of their object, which must be that of the record.
    fn until_the_end(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        loop {
            self.member(scanner)?;
            if !scanner.more(b'}').ok()? {
                return scanner.peek().is_none().then_some(());
            }
        }
    }

    /// Reads a key and its value. None when only the transform can: a key comes twice, or a value is no plain number. A
    /// key with escapes is another key: no escape here spells a letter of these.
    fn member(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let key = scanner.key().ok()?;
        let bytes = scanner.bytes();
        let wanted = match bytes.get(key.start..key.end)? {
            b"hitIdHigh" => Some(&mut self.high),
            b"hitIdLow" => Some(&mut self.low),
            b"receivedTimeGMT" => Some(&mut self.received),
            _ => None,
        };
        let start = scanner.at();
        scanner.value().ok()?;
        if let Some(wanted) = wanted {
            let number = plain(bytes.get(start..scanner.at())?)?;
            if wanted.replace(number).is_some() {
                return None;
            }
        }
        Some(())
    }
}

/// A number of plain digits, as it is or as text.
fn plain(raw: &[u8]) -> Option<u64> {
    let text = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(raw);
    value::plain_unsigned(text)
}

/// Whether as many braces open as close. In a record that was cut off more open, apart from braces in its texts.
fn is_balanced(record: &[u8]) -> bool {
    let of = |piece: &[u8]| {
        piece.iter().fold(0_i8, |sum, byte| sum + i8::from(*byte == b'{') - i8::from(*byte == b'}'))
    };
    // At most as many bytes as the sum can count, so that the loop is vectorised.
    let (pieces, rest) = record.as_chunks::<64>();
    let sum: i64 = pieces.iter().map(|piece| i64::from(of(piece))).sum();
    sum + i64::from(of(rest)) == 0
}

/// Whether a letter of the three keys is spelled by an escape somewhere: then a key could be.
fn may_spell_keys(record: &[u8]) -> bool {
    ESCAPE.find_iter(record).any(|at| {
        let digits = record.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let letter = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        letter.is_some_and(|letter| b"hitIdHighLowreceivedTimeGMT".contains(&letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{Outcome, Transform};
    use proptest::prelude::*;
    use shared::schema::Schema;

    fn transform() -> Transform {
        Transform::new(&Schema::built_in(1..=1), &[]).unwrap()
    }

    #[track_caller]
    fn read(record: &str) -> Option<(u64, u64, Option<i64>)> {
        let found = identity(record.as_bytes())?;
        assert_eq!(
            transform().record(record.as_bytes(), &mut Vec::new()),
            Outcome::Row { hit: Some(found.hit), received: found.received },
            "{record}"
        );
        Some((found.hit.high, found.hit.low, found.received))
    }

    #[test]
    fn ids_are_found_wherever_they_stand() {
        let rest = "\"pageName\":\"a\\\"}{[\",\"evars\":{\"evars\":{\"eVar1\":[1,{\"x\":2}]}},\"é\":null";
        for record in [
            format!("{{\"hitIdHigh\":1,\"hitIdLow\":\"2\",\"receivedTimeGMT\":3,{rest}}}"),
            format!("{{{rest},\"hitIdHigh\":\"1\",\"hitIdLow\":2,\"receivedTimeGMT\":\"3\"}}"),
            format!("{{\"receivedTimeGMT\" : 3, {rest}, \"hitIdLow\" : 2 , \"hitIdHigh\" : 1}}"),
            format!("{{\"hitIdLow\":2,{rest},\"receivedTimeGMT\":3,\"hitIdHigh\":1}}"),
        ] {
            assert_eq!(read(&record), Some((1, 2, Some(3))), "{record}");
        }
        assert_eq!(read("{\"hitIdHigh\":18446744073709551615,\"hitIdLow\":0}"), Some((u64::MAX, 0, None)));
    }

    #[test]
    fn the_time_is_found_on_either_side_of_the_ids() {
        let (ids, time) = ("\"hitIdHigh\":1,\"hitIdLow\":2", "\"receivedTimeGMT\":3");
        let long = format!("\"pageName\":\"{}\",\"a\":{{\"b\":[{{}}]}}", "x".repeat(100));
        let other = long.replace("pageName", "c");
        for parts in [
            [time, &long, ids, &other],
            [&long, time, ids, &other],
            [&long, time, &other, ids],
            [time, &long, &other, ids],
            [ids, time, &long, &other],
            [ids, &long, &other, time],
            [ids, &long, time, &other],
            [&long, ids, &other, time],
        ] {
            assert_eq!(read(&format!("{{{}}}", parts.join(","))), Some((1, 2, Some(3))), "{parts:?}");
        }
    }

    #[test]
    fn what_only_looks_like_an_id_is_left_to_the_transform() {
        let filler = format!("\"pageName\":\"{}\"", "x".repeat(200));
        for ids in [
            "\"a\":{\"hitIdHigh\":1,\"hitIdLow\":2}",
            "\"a\":[{\"hitIdHigh\":1,\"hitIdLow\":2}]",
            "\"pageURL\":\"\\\"hitIdHigh\\\":1,\\\"hitIdLow\\\":2\"",
            "\"x\\\"hitIdHigh\":1,\"hitIdLow\":2",
            "\"hitIdHigh\":1,\"hitIdLow\":2,\"hitIdLow\":3",
            "\"hitIdHigh\":1,\"hitIdLow\":2,\"hitIdL\\u006fw\":3",
            "\"hitIdHigh\":\"\",\"hitIdLow\":2",
            "\"hitIdHigh\":null,\"hitIdLow\":2",
            "\"hitIdHigh\":1.0,\"hitIdLow\":2",
            "\"hitIdHigh\":18446744073709551616,\"hitIdLow\":2",
            "\"hitIdHigh\":1",
            "\"a\":\"hitIdHigh\",\"hitIdLow\":2",
            "\"hitIdHigh\":1,\"hitIdLow\":2,\"a\":{\"receivedTimeGMT\":3}",
            "\"a\":{\"receivedTimeGMT\":3},\"hitIdHigh\":1,\"hitIdLow\":2",
            "\"a\":{\"receivedTimeGMT\":3},\"hitIdHigh\":1,\"hitIdLow\":2,\"receivedTimeGMT\":4",
            "\"hitIdHigh\":1,\"receivedTimeGMT\":3,\"hitIdLow\":2,\"receivedTimeGMT\":4",
            "\"hitIdHigh\":1,\"hitIdLow\":2,\"receivedTimeGMT\":3,\"r\\u0065ceivedTimeGMT\":4",
            "\"b\":\"receivedTimeGMT\",\"hitIdHigh\":1,\"hitIdLow\":2",
        ] {
            for record in [format!("{{{ids},{filler}}}"), format!("{{{filler},{ids}}}")] {
                assert_eq!(identity(record.as_bytes()), None, "{record}");
            }
        }
    }

    #[test]
    fn a_record_that_broke_off_is_left_to_the_transform() {
        let record =
            "{\"hitIdHigh\":1,\"hitIdLow\":2,\"evars\":{\"evars\":{\"eVar1\":\"a\"}},\"receivedTimeGMT\":3}";
        for end in 0..record.len() {
            assert_eq!(identity(&record.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(read(record), Some((1, 2, Some(3))));
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_the_transform_finds(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\"hitIdHigh\":1", "\"hitIdHigh\":\"7\"", "\"hitIdLow\":2", "\"hitIdLow\": 3", "\"hitIdL\\u006fw\":4",
                "\"hitIdHigh\":{\"hitIdHigh\":5}", "\"a\":{\"hitIdHigh\":1,\"hitIdLow\":2}", "\"b\":[1,{\"hitIdLow\":9}]",
                "\"pageName\":\"\\\"hitIdHigh\"", "\"c\":\"}}{\"", "\"d\":\"hitIdLow\"", "\"hitIdLow\":\"\"",
                "\"receivedTimeGMT\":5", "\"receivedTimeGMT\": \"6\"", "\"f\":{\"receivedTimeGMT\":7}",
                "\"receivedTimeG\\u004dT\":8", "\"pageName\":\"receivedTimeGMT\"", "\"receivedTimeGMT\":\"\"",
                "\"e\":{\"f\":{}}", "\"pageName\":\"a long one that moves the middle of the record elsewhere\"",
            ]), 0..8),
        ) {
            let record = format!("{{{}}}", parts.join(","));
            let outcome = transform().record(record.as_bytes(), &mut Vec::new());
            if let Some(found) = identity(record.as_bytes()) {
                prop_assert_eq!(outcome, Outcome::Row { hit: Some(found.hit), received: found.received }, "{}", record);
            }
        }

        #[test]
        fn whatever_comes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = identity(&bytes);
            let _ = identity(&[b"{\"hitIdHigh\":1,\"hitIdLow\":", &bytes[..], b"}"].concat());
            let _ = identity(&[b"{", &bytes[..], b",\"hitIdHigh\":1,\"hitIdLow\":2,\"receivedTimeGMT\":", b"}"].concat());
        }
    }
}
