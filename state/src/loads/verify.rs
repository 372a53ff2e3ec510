//! Checks the whole load store.

use crate::loads::pause::KEY as PAUSE;
use crate::loads::session::KEY as SESSION;
use crate::loads::sums::KEY as SUMS;
use crate::loads::{FAILURES_KEPT, LISTED, Load, Loads, mark::KEY as MARK};
use crate::store::{COMMITS, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

impl Loads {
    /// Reads the whole bookkeeping.
    ///
    /// # Errors
    /// When the disk fails. Damage is no error, but what is reported.
    pub fn verify(&self) -> Result<Vec<Checked>, StoreError> {
        let (mut meta, mut loads) = (Checked::new(Table::Meta), Checked::new(Table::Loads));
        meta.each(&self.store, Table::Meta, |meta, key, _| {
            meta.count("records", 1);
            // The label was read when the database was opened.
            let known = [&b"label"[..], COMMITS, PAUSE, LISTED, MARK, SESSION, SUMS];
            if !known.contains(&key) {
                meta.faults.push(Fault::new(Table::Meta, key, NO_SUCH_KEY));
            }
        })?;
        loads.each_json::<Load>(&self.store, Table::Loads, |loads, key, load| {
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
}
