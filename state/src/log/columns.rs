//! The names of the columns that rows were made for. A batch knows the fingerprint of its schema only, and the producer that
//! publishes it may have another schema by then. So the log keeps the names once for each fingerprint, in pieces, since
//! those of a wide schema are more than one value may hold. An older log has no names for what it sealed; its batches go up
//! without them.

use std::collections::{BTreeMap, HashSet};

use shared::json_fault::json_fault;

use crate::store::chunked::{self, PIECE};
use crate::store::{Change, Store, StoreError, Table};
use crate::verdict::{Checked, Fault};

/// What a key begins with; the fingerprint and the number of a piece follow.
pub(super) const COLUMNS: &[u8] = b"columns/";

fn key(fingerprint: &str) -> Vec<u8> {
    // The last byte keeps a key from being the beginning of another.
    [COLUMNS, fingerprint.as_bytes(), b"/"].concat()
}

pub(super) fn read(store: &Store, fingerprint: &str) -> Result<Option<Vec<String>>, StoreError> {
    let (key, mut json) = (key(fingerprint), Vec::new());
    if !chunked::get(store, Table::Meta, &key, &mut json)? {
        return Ok(None);
    }
    let names = serde_json::from_slice(&json);
    names.map(Some).map_err(|error| store.damaged(Table::Meta, &key, &json_fault(&error)))
}

/// Keeps these, unless they are kept already. No names are none that could be kept.
pub(super) fn keep(
    store: &Store,
    fingerprint: &str,
    names: &[String],
    change: &mut Change,
) -> Result<(), StoreError> {
    if names.is_empty() || read(store, fingerprint)?.is_some() {
        return Ok(());
    }
    // Plain text: its serialisation cannot fail. And 1,600 names of 127 bytes are no 400 MB.
    let json = serde_json::to_vec(names).unwrap_or_default();
    let _ = chunked::put(change, Table::Meta, &key(fingerprint), &json);
    Ok(())
}

pub(super) fn forget_but(
    store: &Store,
    wanted: &HashSet<String>,
    change: &mut Change,
) -> Result<(), StoreError> {
    let wanted: HashSet<Vec<u8>> = wanted.iter().map(|fingerprint| key(fingerprint)).collect();
    for item in store.scan(Table::Meta, COLUMNS) {
        let (key, _) = item?;
        let whole = key.get(..key.len().saturating_sub(PIECE)).unwrap_or_default();
        if !wanted.contains(whole) {
            change.remove(Table::Meta, &key);
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
pub(super) struct Check(BTreeMap<Vec<u8>, Vec<(u16, Vec<u8>)>>);

impl Check {
    /// Takes an entry whose key begins with [`COLUMNS`].
    pub(super) fn see(&mut self, key: &[u8], value: &[u8]) {
        let whole = key.get(..key.len().saturating_sub(PIECE)).unwrap_or_default();
        self.0.entry(whole.to_owned()).or_default().push((chunked::number(key), value.to_owned()));
    }

    pub(super) fn report(self, checked: &mut Checked) {
        let mut json = Vec::new();
        for (key, pieces) in self.0 {
            let pieces = pieces.iter().map(|(number, piece)| (*number, &piece[..]));
            let what = match chunked::join(pieces, &mut json) {
                Err(how) => how.to_owned(),
                Ok(()) => match serde_json::from_slice::<Vec<String>>(&json) {
                    Err(error) => json_fault(&error),
                    Ok(_) => continue,
                },
            };
            checked.faults.push(Fault::new(Table::Meta, &key, what));
        }
    }
}
