//! What a check has found so far.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::ids::BatchId;

use crate::log::record::{BatchRecord, FileRecord, seq_key};
use crate::store::chunked::{self, PIECE};
use crate::store::{Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

/// Times that a suspect is read.
const ROUNDS: usize = 3;
/// Pause between two rounds: longer than a commit takes.
const PAUSE: Duration = Duration::from_millis(50);

/// The tables in the order in which they are reported.
const TABLES: [Table; 7] =
    [Table::Meta, Table::Chunks, Table::Files, Table::Batches, Table::Hits, Table::Rejects, Table::Sessions];

pub(super) type Faults = Vec<(Table, Fault)>;

/// Highest numbers found; next numbers must be above them.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Highest {
    pub(super) file: Option<u64>,
    pub(super) batch: Option<u64>,
    pub(super) reject: Option<u64>,
    pub(super) session: Option<u64>,
}

pub(super) struct Context<'l> {
    pub(super) store: &'l Store,
    pub(super) files: BTreeMap<u64, FileRecord>,
    pub(super) batches: BTreeMap<u64, BatchRecord>,
    pub(super) highest: Highest,
    tables: BTreeMap<u8, Checked>,
}

impl<'l> Context<'l> {
    pub(super) fn new(store: &'l Store) -> Self {
        let tables = TABLES.iter().map(|table| (*table as u8, Checked::new(*table))).collect();
        let (files, batches) = (BTreeMap::new(), BTreeMap::new());
        Self { store, files, batches, highest: Highest::default(), tables }
    }

    pub(super) fn into_tables(mut self) -> Vec<Checked> {
        TABLES.iter().filter_map(|table| self.tables.remove(&(*table as u8))).collect()
    }

    pub(super) fn table(&mut self, table: Table) -> &mut Checked {
        self.tables.entry(table as u8).or_insert_with(|| Checked::new(table))
    }

    /// Shows every record of a table to `see`, with its number; a key that is no number is a fault.
    pub(super) fn each_record<T: DeserializeOwned>(
        &mut self,
        table: Table,
        mut see: impl FnMut(&mut Checked, Option<u64>, T),
    ) -> Result<(), StoreError> {
        let store = self.store;
        self.table(table).each_json::<T>(store, table, |checked, key, record| {
            let seq = key.try_into().ok().map(u64::from_be_bytes);
            see(checked, seq, record);
            if seq.is_none() {
                checked.faults.push(Fault::new(table, key, NO_SUCH_KEY));
            }
        })
    }

    pub(super) fn add(&mut self, faults: Faults) {
        for (table, mut fault) in faults {
            let batch = || Some(self.batches.get(&self.files.get(&fault.file?)?.batch)?.id);
            fault.batch = fault.batch.or_else(batch);
            self.table(table).faults.push(fault);
        }
    }

    /// Reads each suspect again, until nothing is wrong with it. What is wrong every time is a fault.
    pub(super) fn recheck<S>(
        &mut self,
        mut suspects: Vec<S>,
        check: impl Fn(&Store, &S) -> Result<Faults, StoreError>,
    ) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 && !suspects.is_empty() {
                std::thread::sleep(PAUSE);
            }
            faults.clear();
            let mut wrong = Vec::new();
            for suspect in suspects {
                let found = check(self.store, &suspect)?;
                if !found.is_empty() {
                    faults.extend(found);
                    wrong.push(suspect);
                }
            }
            suspects = wrong;
        }
        self.add(faults);
        Ok(())
    }
}

/// A record; None when there is none, or one that cannot be read, which the pass over its table reports.
pub(super) fn record<T: DeserializeOwned>(
    store: &Store,
    table: Table,
    seq: u64,
) -> Result<Option<T>, StoreError> {
    match store.get(table, &seq_key(seq)) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        record => record,
    }
}

pub(super) fn of_batch(seq: u64, id: BatchId, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Batches, &seq_key(seq), what);
    (Table::Batches, Fault { batch: Some(id), ..fault })
}

pub(super) fn of_file(seq: u64, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Files, &seq_key(seq), what);
    (Table::Files, Fault { file: Some(seq), ..fault })
}

/// Shows every chunked value of `table` to `see`, whose keys without the number of the piece have `key_len` bytes.
pub(super) fn each_chunked(
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
