//! Checks the load store: whether everything in it can be read. What it has lost is found again in S3 and in the ledger.

use crate::loads::load::{FAILURES_KEPT, Load};
use crate::loads::notes::{LEDGER_MARK, LISTED, PAUSE, SESSION, SUMS};
use crate::store::{COMMITS, Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY, sound};

/// Reads everything; fails if something is wrong.
pub(super) fn check(store: &Store) -> Result<(), StoreError> {
    sound(store, &verify(store)?)
}

/// Reads and checks everything. Damage is no error, but what is reported.
pub(super) fn verify(store: &Store) -> Result<Vec<Checked>, StoreError> {
    let (mut meta, mut loads) = (Checked::new(Table::Meta), Checked::new(Table::Loads));
    meta.each(store, Table::Meta, |meta, key, _| {
        meta.count("records", 1);
        // The label was read when the database was opened.
        let known = [&b"label"[..], COMMITS, PAUSE, LISTED, LEDGER_MARK, SESSION, SUMS];
        if !known.contains(&key) {
            meta.faults.push(Fault::new(Table::Meta, key, NO_SUCH_KEY));
        }
    })?;
    loads.each_json::<Load>(store, Table::Loads, |loads, key, load| {
        loads.count("loads", 1);
        loads.count("failures", load.failures.len() as u64);
        if key != load.batch.as_bytes() {
            let what = format!("it is of batch {}", load.batch);
            loads.faults.push(Fault::new(Table::Loads, key, what));
        }
        if load.failures.len() > FAILURES_KEPT {
            let fault = Fault::new(Table::Loads, key, "more failures than are kept");
            loads.faults.push(Fault { batch: Some(load.batch), ..fault });
        }
    })?;
    Ok(vec![meta, loads])
}
