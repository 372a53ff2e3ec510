//! Byte strings of any length, cut into values that sled keeps well. The first piece begins with the number of
//! pieces and a checksum of the whole.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use crate::store::change::{Change, MAX_VALUE, Table};
use crate::store::database::Store;
use crate::store::error::StoreError;

const HEADER: usize = 2 + 8;

fn piece_key(key: &[u8], piece: u16) -> Vec<u8> {
    [key, &piece.to_be_bytes()].concat()
}

/// Stores `content` under `key`. Content of more than 65,535 pieces (about 400 MB) is refused by returning false.
#[must_use]
pub(crate) fn put(change: &mut Change, table: Table, key: &[u8], content: &[u8]) -> bool {
    let Ok(pieces) = u16::try_from((HEADER + content.len()).div_ceil(MAX_VALUE)) else { return false };
    let mut first = Vec::with_capacity(MAX_VALUE.min(HEADER + content.len()));
    first.extend_from_slice(&pieces.to_be_bytes());
    first.extend_from_slice(&xxh3_64(content).to_be_bytes());
    let (head, rest) = content.split_at(content.len().min(MAX_VALUE - HEADER));
    first.extend_from_slice(head);
    change.put_bytes(table, &piece_key(key, 0), &first);
    for (piece, part) in (1..).zip(rest.chunks(MAX_VALUE)) {
        change.put_bytes(table, &piece_key(key, piece), part);
    }
    true
}

/// Reads what was stored under `key` into `content`, replacing it; false if there is nothing.
pub(crate) fn get(
    store: &Store,
    table: Table,
    key: &[u8],
    content: &mut Vec<u8>,
) -> Result<bool, StoreError> {
    content.clear();
    let pieces = store.scan(table, key).collect::<Result<Vec<_>, _>>()?;
    if pieces.is_empty() {
        return Ok(false);
    }
    let pieces = pieces.iter().map(|(key, part)| (number(key), &part[..]));
    join(pieces, content).map_err(|how| store.damaged(table, key, how))?;
    Ok(true)
}

pub(crate) fn number(key: &[u8]) -> u16 {
    key.last_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

pub(crate) const PIECE: usize = 2;

/// Joins the values under one key, in order with their numbers, in `content`. An error says what is wrong.
pub(crate) fn join<'p>(
    pieces: impl IntoIterator<Item = (u16, &'p [u8])>,
    content: &mut Vec<u8>,
) -> Result<(), &'static str> {
    content.clear();
    let mut pieces = pieces.into_iter();
    let first = pieces.next().filter(|(number, _)| *number == 0).ok_or("its first piece is missing")?;
    let (header, head) = first.1.split_first_chunk::<HEADER>().ok_or("its first piece is cut off")?;
    let [p0, p1, checksum @ ..] = *header;
    content.extend_from_slice(head);
    let mut next = 1;
    for (number, part) in pieces {
        if number != next {
            return Err("a piece is missing");
        }
        content.extend_from_slice(part);
        next += 1;
    }
    match next.cmp(&u16::from_be_bytes([p0, p1])) {
        Ordering::Less => Err("a piece is missing"),
        Ordering::Greater => Err("it has pieces beyond its last"),
        Ordering::Equal if xxh3_64(content) != u64::from_be_bytes(checksum) => {
            Err("its checksum does not fit")
        }
        Ordering::Equal => Ok(()),
    }
}

pub(crate) fn content_len(key: &[u8], piece: &[u8]) -> u64 {
    let header = if key.ends_with(&[0, 0]) { HEADER } else { 0 };
    piece.len().saturating_sub(header) as u64
}

/// Removes every piece under `key`; a shorter key removes everything below it.
pub(crate) fn remove(store: &Store, change: &mut Change, table: Table, key: &[u8]) -> Result<(), StoreError> {
    for item in store.scan(table, key) {
        change.remove(table, &item?.0);
    }
    Ok(())
}

/// Removes the first `count` pieces under `key`, or below a shorter key, in one change; false if none is there.
pub(crate) fn remove_some(store: &Store, table: Table, key: &[u8], count: usize) -> Result<bool, StoreError> {
    let mut change = Change::new();
    for item in store.scan(table, key).take(count) {
        change.remove(table, &item?.0);
    }
    let any = !change.is_empty();
    if any {
        store.apply(change)?;
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    #[test]
    fn content_of_any_length_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        for len in [0, 1, MAX_VALUE - HEADER, MAX_VALUE - HEADER + 1, MAX_VALUE, 5 * MAX_VALUE + 7] {
            let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut change = Change::new();
            assert!(put(&mut change, Table::Chunks, b"k", &content));
            store.apply(change).unwrap();
            let mut back = vec![1, 2, 3];
            assert!(get(&store, Table::Chunks, b"k", &mut back).unwrap());
            assert!(back == content, "length {len}");
            while remove_some(&store, Table::Chunks, b"k", 2).unwrap() {}
            assert_eq!(store.scan(Table::Chunks, b"").count(), 0);
        }
    }

    #[test]
    fn a_flipped_or_missing_piece_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        let mut change = Change::new();
        assert!(put(&mut change, Table::Chunks, b"k", &[7; 3 * MAX_VALUE]));
        store.apply(change).unwrap();
        let mut change = Change::new();
        change.put_bytes(Table::Chunks, b"k\0\x01", &[8; MAX_VALUE]);
        store.apply(change).unwrap();
        let error = get(&store, Table::Chunks, b"k", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("chunks 6b: its checksum does not fit"), "{error}");
        let mut change = Change::new();
        change.remove(Table::Chunks, b"k\0\x01");
        store.apply(change).unwrap();
        let error = get(&store, Table::Chunks, b"k", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("a piece is missing"), "{error}");
        let mut change = Change::new();
        change.remove(Table::Chunks, b"k\0\0");
        store.apply(change).unwrap();
        let error = get(&store, Table::Chunks, b"k", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("its first piece is missing"), "{error}");
        let mut change = Change::new();
        assert!(put(&mut change, Table::Chunks, b"k", &[7; 2 * MAX_VALUE]));
        store.apply(change).unwrap();
        let error = get(&store, Table::Chunks, b"k", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("it has pieces beyond its last"), "{error}");
    }
}
