//! Chunked values of a table, joined as a pass over the table meets their pieces.

use crate::store::chunked::{self, PIECE};
use crate::store::{Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

/// Shows every chunked value of `table` to `see`, whose keys without the number of the piece have `key_len` bytes.
pub(super) fn each(
    checked: &mut Checked,
    store: &Store,
    table: Table,
    key_len: usize,
    mut see: impl FnMut(&mut Checked, &[u8], Result<&[u8], &'static str>),
) -> Result<(), StoreError> {
    let mut group = Group::default();
    checked.each(store, table, |checked, key, value| {
        if key.len() != key_len + PIECE {
            checked.faults.push(Fault::new(table, key, NO_SUCH_KEY));
            return;
        }
        if let Some(ended) = group.add(&key[..key_len], chunked::number(key), value) {
            ended.show(checked, &mut see);
        }
    })?;
    group.show(checked, &mut see);
    Ok(())
}

#[derive(Default)]
struct Group {
    key: Vec<u8>,
    pieces: Vec<(u16, Vec<u8>)>,
}

impl Group {
    fn add(&mut self, key: &[u8], number: u16, piece: &[u8]) -> Option<Self> {
        let ended = (self.key != key)
            .then(|| std::mem::replace(self, Self { key: key.to_vec(), pieces: Vec::new() }));
        self.pieces.push((number, piece.to_vec()));
        ended
    }

    fn show(
        self,
        checked: &mut Checked,
        see: &mut impl FnMut(&mut Checked, &[u8], Result<&[u8], &'static str>),
    ) {
        if self.pieces.is_empty() {
            return;
        }
        let mut content = Vec::new();
        let joined = chunked::join(self.pieces.iter().map(|(no, part)| (*no, &part[..])), &mut content);
        see(checked, &self.key, joined.map(|()| &content[..]));
    }
}
