//! Hit ids, rejects and sessions, and the sums over everything.

use shared::ids::BatchId;
use shared::json_fault::json_fault;
use shared::seal::Counts;

use crate::log::batch_mark::MARK;
use crate::log::columns::{self, COLUMNS};
use crate::log::record::{BatchRecord, RejectLine, Session, Sums};
use crate::log::resume::HOLES;
use crate::log::runs::{RUNS, Runs};
use crate::log::seq_of;
use crate::log::shipped::{CHOSEN, Chosen};
use crate::log::status::BatchStatus;
use crate::log::verify::files::Groups;
use crate::log::verify::{Check, only_seq, record};
use crate::log::window::count_ids;
use crate::store::chunked;
use crate::store::{COMMITS, Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

/// Highest numbers met; next numbers must be above them.
#[derive(Debug, Default, Clone, Copy)]
struct Highest {
    file: Option<u64>,
    batch: Option<u64>,
    reject: Option<u64>,
    session: Option<u64>,
}

impl Check<'_> {
    pub(super) fn check_rest(&mut self) -> Result<(), StoreError> {
        let mut highest = Highest {
            file: self.highest_file.max(self.files.keys().next_back().copied()),
            batch: self.batches.keys().next_back().copied(),
            ..Highest::default()
        };
        let before: Option<Sums> = sums(self.store)?;
        let hits = self.check_pieces(Table::Hits, 12, "hit ids", count_ids)?;
        highest.file = highest.file.max(hits);
        let line = |content: &[u8]| {
            serde_json::from_slice::<RejectLine>(content).map(|_| 1).map_err(|error| json_fault(&error))
        };
        highest.reject = self.check_pieces(Table::Rejects, 8, "rejects", line)?;
        highest.session = self.check_sessions()?;
        self.check_meta()?;
        let remembered = self.table(Table::Hits).counts.get("hit ids").copied().unwrap_or(0);
        let sound = self.table(Table::Hits).faults.is_empty();
        // Hit ids come and go with every commit: their number is known only if there was none meanwhile.
        if let Some(sums) = before.filter(|before| sound && before.hits != remembered)
            && crate::log::verify::rest::sums(self.store)?.as_ref() == Some(&sums)
        {
            let what = format!("it counts {} hit ids, there are {remembered}", sums.hits);
            self.add([of_sums(what)]);
        }
        self.settle(vec![()], |store, ()| check_sums(store, highest))
    }

    /// Checks content that stands in pieces; `read` counts what is in one. Returns the highest number in a key.
    fn check_pieces(
        &mut self,
        table: Table,
        key_len: usize,
        what: &str,
        read: impl Fn(&[u8]) -> Result<u64, String>,
    ) -> Result<Option<u64>, StoreError> {
        let (mut highest, mut suspects) = (None, Vec::new());
        let store = self.store;
        let checked = self.table(table);
        let mut groups = Groups::new(table, key_len);
        let mut see = |checked: &mut Checked, key: &[u8], content: Result<&[u8], &'static str>| {
            highest = Some(seq_of(key));
            match content.map_err(str::to_owned).and_then(&read) {
                Ok(count) => checked.count(what, count),
                Err(_) => suspects.push(key.to_vec()),
            }
        };
        checked.each(store, table, |checked, key, value| groups.take(checked, key, value, &mut see))?;
        groups.end(checked, &mut see);
        self.settle(suspects, |store, key| {
            let mut content = Vec::new();
            // Gone is well: it was forgotten, or stands in S3.
            let how = match chunked::get(store, table, key, &mut content) {
                Ok(false) => None,
                Ok(true) => read(&content).err(),
                Err(StoreError::Damaged { what, .. }) => Some(how_of(&what)),
                Err(error) => return Err(error),
            };
            let file = (table == Table::Hits).then(|| seq_of(key));
            Ok(how.map(|how| (table, Fault { file, ..Fault::new(table, key, how) })).into_iter().collect())
        })?;
        Ok(highest)
    }

    fn check_sessions(&mut self) -> Result<Option<u64>, StoreError> {
        let (store, mut highest) = (self.store, None);
        self.table(Table::Sessions).each_json::<Session>(
            store,
            Table::Sessions,
            |checked, key, session| {
                checked.count("sessions", 1);
                let Some(seq) = only_seq(checked, Table::Sessions, key) else { return };
                highest = Some(seq);
                if session.session != seq {
                    let what = format!("it says it is session {}", session.session);
                    checked.faults.push(Fault::new(Table::Sessions, key, what));
                }
            },
        )?;
        Ok(highest)
    }

    fn check_meta(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let mut names = columns::Check::default();
        let checked = self.table(Table::Meta);
        checked.each(store, Table::Meta, |checked, key, value| {
            checked.count("records", 1);
            let read = match key {
                COMMITS => return,
                b"label" => serde_json::from_slice::<serde_json::Value>(value).map(drop),
                b"sums" => serde_json::from_slice::<Sums>(value).map(drop),
                RUNS => serde_json::from_slice::<Runs>(value).map(drop),
                MARK => serde_json::from_slice::<BatchId>(value).map(drop),
                CHOSEN => serde_json::from_slice::<Chosen>(value).map(drop),
                // Of format 1.
                HOLES => return,
                _ if key.starts_with(COLUMNS) => return names.see(key, value),
                _ => return checked.faults.push(Fault::new(Table::Meta, key, NO_SUCH_KEY)),
            };
            if let Err(error) = read {
                checked.faults.push(Fault::new(Table::Meta, key, json_fault(&error)));
            }
        })?;
        names.report(checked);
        Ok(())
    }
}

/// The last part of what an error about damage says: table and key are told beside it.
fn how_of(what: &str) -> String {
    what.split_once(": ").map_or(what, |(_, how)| how).to_owned()
}

/// None when they are not there or cannot be read.
fn sums(store: &Store) -> Result<Option<Sums>, StoreError> {
    match store.get(Table::Meta, b"sums") {
        Err(StoreError::Damaged { .. }) => Ok(None),
        sums => sums,
    }
}

fn of_sums(what: String) -> (Table, Fault) {
    (Table::Meta, Fault::new(Table::Meta, b"sums", what))
}

fn check_sums(store: &Store, highest: Highest) -> Result<Vec<(Table, Fault)>, StoreError> {
    if store.get_bytes(Table::Meta, b"sums")?.is_none() {
        let used = [highest.file, highest.batch, highest.reject, highest.session].iter().any(Option::is_some);
        let missing = of_sums("it is missing: next numbers and totals are not known".to_owned());
        return Ok(used.then_some(missing).into_iter().collect());
    }
    let Some(sums) = crate::log::verify::rest::sums(store)? else { return Ok(Vec::new()) };
    let mut faults = Vec::new();
    for (what, next, highest) in [
        ("file", sums.next_file, highest.file),
        ("batch", sums.next_batch, highest.batch),
        ("reject", sums.next_reject, highest.reject),
        ("session", sums.next_session, highest.session),
    ] {
        if let Some(highest) = highest.filter(|highest| next <= *highest) {
            faults.push(of_sums(format!(
                "the next {what} is to be number {next}, there is a number {highest}"
            )));
        }
    }
    for (what, counts) in [("totals", sums.totals), ("sums of what is sealed", sums.sealed)] {
        if !counts.add_up() {
            faults.push(of_sums(format!("its {what} do not add up: {counts:?}")));
        }
    }
    faults.extend(against_filling(store, &sums)?.map(of_sums));
    Ok(faults)
}

/// Rows that are in no sealed batch are in the filling one.
fn against_filling(store: &Store, sums: &Sums) -> Result<Option<String>, StoreError> {
    let Counts { rows: sealed, .. } = sums.sealed;
    let Some(open) = sums.totals.rows.checked_sub(sealed) else {
        return Ok(Some(format!("{sealed} rows are sealed, of {}", sums.totals.rows)));
    };
    let Some(latest) = sums.next_batch.checked_sub(1) else { return Ok(None) };
    let Some(batch) = record::<BatchRecord>(store, Table::Batches, latest)? else { return Ok(None) };
    let filling = if batch.status == BatchStatus::Filling { batch.rows } else { 0 };
    // A commit between the two reads is no fault.
    let unchanged = crate::log::verify::rest::sums(store)?.as_ref() == Some(sums);
    let differ = filling != open && unchanged;
    Ok(differ.then(|| format!("{open} rows are not sealed, the filling batch has {filling}")))
}
