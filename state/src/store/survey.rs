//! Reads sled's file before sled opens it, because sled repairs as it opens: it takes a message that it cannot read for the
//! torn end that a crash leaves, skips what follows, and zeroes it. That is right after a crash and wrong after damage.
//! This reads the file as sled 0.34.7 lays it out and finds where it is not whole.
//!
//! The file is a row of segments of 512 KiB. A segment begins with a header of 20 bytes: CRC-32, the position of the
//! segment in the endless log (its *lsn*) and the highest lsn that was stable then. Messages follow: CRC-32, kind,
//! and, as variable-length integers, length, number of the segment (lsn / 512 KiB) and page; then the content. A
//! segment is full when less than 32 bytes remain or a message of kind *cap* says so. (sled 0.34.7,
//! `src/pagecache/logger.rs`, `src/pagecache/iterator.rs`, `src/serialization.rs`.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a segment: sled's default, which this program does not change.
pub(super) const SEGMENT: usize = 512 << 10;
const SEGMENT_HEADER: usize = 20;
/// Less than this at the end of a segment stays empty.
const MESSAGE_HEADER_MAX: usize = 32;
/// The kind of message that fills the rest of a segment.
const CAP: u8 = 2;
/// The lowest kind that is no message.
const NO_KIND: u8 = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    /// Its position in the log; None when its header is not whole.
    pub(super) lsn: Option<u64>,
    /// Whether there is nothing in the place of its header.
    pub(super) empty: bool,
    /// Whether there is nothing in its place at all.
    pub(super) blank: bool,
    /// Where its messages break off; None when they go on to its end.
    pub(super) broken_at: Option<u64>,
}

/// Reads the whole file. Empty segments at its end were never used and are not listed.
pub(super) fn survey(file: &File) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut buffer = vec![0; SEGMENT];
    let mut offset = 0;
    loop {
        let len = read_up_to(file, &mut buffer, offset)?;
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            let used = segments.iter().rposition(|segment: &Segment| !segment.empty);
            segments.truncate(used.map_or(0, |last| last + 1));
            return Ok(segments);
        }
        segments.push(segment(bytes, offset));
        offset += SEGMENT as u64;
    }
}

/// The broken segments that a crash does not explain: neither the last nor blank ones from `spare` on.
pub(super) fn broken(segments: &[Segment], spare: u64) -> impl Iterator<Item = &Segment> {
    let last = segments.iter().filter_map(|segment| segment.lsn).max();
    let broken = move |segment: &&Segment| match segment.lsn {
        None => !(segment.blank && segment.offset >= spare),
        lsn => segment.broken_at.is_some() && lsn != last,
    };
    segments.iter().filter(broken)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn segment(bytes: &[u8], offset: u64) -> Segment {
    let empty = bytes.iter().take(SEGMENT_HEADER).all(|byte| *byte == 0);
    let Some(lsn) = segment_lsn(bytes) else {
        let blank = empty && bytes.iter().all(|byte| *byte == 0);
        return Segment { offset, lsn: None, empty, blank, broken_at: Some(offset) };
    };
    let number = lsn / SEGMENT as u64;
    let mut at = SEGMENT_HEADER;
    let broken_at = loop {
        if at + MESSAGE_HEADER_MAX > SEGMENT {
            break None;
        }
        match message(bytes.get(at..).unwrap_or_default(), number) {
            Some((CAP, _)) => break None,
            Some((_, len)) => at += len,
            None => break Some(offset + at as u64),
        }
    };
    Segment { offset, lsn: Some(lsn), empty, blank: false, broken_at }
}

fn segment_lsn(bytes: &[u8]) -> Option<u64> {
    let (crc, rest) = bytes.get(..SEGMENT_HEADER)?.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*crc) ^ u32::MAX != crc32fast::hash(rest) {
        return None;
    }
    let lsn = u64::from_le_bytes(*rest.first_chunk()?) ^ i64::MAX.cast_unsigned();
    lsn.is_multiple_of(SEGMENT as u64).then_some(lsn)
}

/// The kind and the length of the message at the beginning of `bytes`, if it is whole and belongs to this segment.
fn message(bytes: &[u8], segment: u64) -> Option<(u8, usize)> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (&kind, mut rest) = rest.split_first()?;
    if kind == 0 || kind >= NO_KIND {
        return None;
    }
    let len = usize::try_from(integer(&mut rest)?).ok()?;
    let of = integer(&mut rest)?;
    let _page = integer(&mut rest)?;
    let header = bytes.len() - rest.len();
    let content = rest.get(..len)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(content);
    hasher.update(bytes.get(4..header)?);
    let whole = hasher.finalize() ^ u32::MAX == u32::from_le_bytes(*crc);
    (whole && of == segment).then_some((kind, header + len))
}

/// sled's variable-length integer: one to three bytes up to 67,823, then a byte that tells how many follow.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let byte = |at: usize| rest.get(at).copied().map(u64::from);
    let (value, len) = match first {
        0..=240 => (u64::from(first), 0),
        241..=248 => (240 + 256 * u64::from(first - 241) + byte(0)?, 1),
        249 => (2288 + 256 * byte(0)? + byte(1)?, 2),
        250..=255 => {
            let len = usize::from(first - 247);
            let mut value = [0; 8];
            value.get_mut(..len)?.copy_from_slice(rest.get(..len)?);
            (u64::from_le_bytes(value), len)
        }
    };
    *bytes = rest.get(len..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// sled's threads may close a database a moment after it was dropped.
    fn open(dir: &std::path::Path) -> sled::Db {
        let config = sled::Config::new().path(dir).flush_every_ms(None);
        let tries = (0..100).find_map(|_| {
            config.open().ok().or_else(|| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                None
            })
        });
        tries.unwrap()
    }

    /// A database of a few segments, closed in order.
    fn database(dir: &std::path::Path) -> Vec<u8> {
        let db = open(dir);
        for n in 0..800_u32 {
            db.insert(n.to_be_bytes(), vec![n as u8; 2_000]).unwrap();
            if n % 50 == 0 {
                db.flush().unwrap();
            }
        }
        db.flush().unwrap();
        drop(db);
        fs::read(dir.join("db")).unwrap()
    }

    fn broken_in(dir: &std::path::Path, bytes: &[u8]) -> Vec<Segment> {
        let path = dir.join("copy");
        fs::write(&path, bytes).unwrap();
        broken(&survey(&File::open(path).unwrap()).unwrap(), u64::MAX).cloned().collect()
    }

    #[test]
    fn every_message_of_a_whole_file_is_read_as_sled_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = database(dir.path());
        let segments = survey(&File::open(dir.path().join("db")).unwrap()).unwrap();
        assert!(segments.len() > 4, "{segments:?}");
        assert_eq!(broken(&segments, u64::MAX).count(), 0, "{segments:?}");
        // The last segment breaks off where the log ends: sled goes on there.
        let last = segments.iter().max_by_key(|segment| segment.lsn).unwrap();
        let end = usize::try_from(last.broken_at.unwrap()).unwrap();
        let db = open(dir.path());
        db.insert("one", "more").unwrap();
        db.flush().unwrap();
        drop(db);
        let after = fs::read(dir.path().join("db")).unwrap();
        let begin = usize::try_from(last.offset).unwrap();
        assert!(bytes[begin..end] == after[begin..end]);
        assert!(message(&bytes[end..], last.lsn.unwrap() / SEGMENT as u64).is_none());
        assert!(message(&after[end..], last.lsn.unwrap() / SEGMENT as u64).is_some());
    }

    #[test]
    fn a_flipped_byte_is_noticed_wherever_it_is_in_a_full_segment() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = database(dir.path());
        for at in (0..SEGMENT - 4_000).step_by(10_007) {
            let mut flipped = bytes.clone();
            flipped[SEGMENT + at] ^= 0x20;
            let broken = broken_in(dir.path(), &flipped);
            assert_eq!(broken.len(), 1, "byte {at}");
            assert_eq!(broken[0].offset, SEGMENT as u64);
            assert!(broken[0].broken_at.unwrap() <= (SEGMENT + at) as u64);
        }
    }

    #[test]
    fn integers_are_read_as_sled_writes_them() {
        for (bytes, value) in [
            (&[240][..], 240),
            (&[241, 0], 240 + 256 - 256),
            (&[248, 255], 2287),
            (&[249, 0, 0], 2288),
            (&[249, 255, 255], 67_823),
            (&[250, 1, 2, 3], 0x03_02_01),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
        ] {
            let mut rest = bytes;
            assert_eq!(integer(&mut rest), Some(value), "{bytes:?}");
            assert!(rest.is_empty());
            assert_eq!(integer(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_blank_segment_is_free_space_only_where_none_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = database(dir.path());
        bytes[SEGMENT..2 * SEGMENT].fill(0);
        let path = dir.path().join("copy");
        let broken_from = |bytes: &[u8], spare: u64| {
            fs::write(&path, bytes).unwrap();
            broken(&survey(&File::open(&path).unwrap()).unwrap(), spare).count()
        };
        assert_eq!(broken_from(&bytes, u64::MAX), 1);
        assert_eq!(broken_from(&bytes, 2 * SEGMENT as u64), 1, "it was used");
        assert_eq!(broken_from(&bytes, SEGMENT as u64), 0);
        bytes[2 * SEGMENT - 1] = 1;
        assert_eq!(broken_from(&bytes, SEGMENT as u64), 1, "it is not blank");
    }
}
