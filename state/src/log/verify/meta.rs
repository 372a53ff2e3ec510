//! The single values of the log, and the sums over everything.

use shared::ids::BatchId;
use shared::json_fault::json_fault;

use crate::log::batch_placeholder::PLACEHOLDER;
use crate::log::columns::{self, COLUMNS};
use crate::log::record::{BatchRecord, CHOSEN, Chosen, HOLES, RUNS, Runs, SUMS, Sums};
use crate::log::status::BatchStatus;
use crate::log::verify::context::{Context, Faults, Highest, record};
use crate::store::{COMMITS, Store, StoreError, Table};
use crate::verdict::{Fault, NO_SUCH_KEY};

/// The sums; None when they are not there or cannot be read.
pub(super) fn sums(store: &Store) -> Result<Option<Sums>, StoreError> {
    match store.get(Table::Meta, SUMS) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        sums => sums,
    }
}

/// `before` are the sums before the hit ids were counted.
pub(super) fn check(context: &mut Context<'_>, before: Option<Sums>) -> Result<(), StoreError> {
    check_values(context)?;
    let hits = context.table(Table::Hits);
    let (remembered, sound) = (hits.counts.get("hit ids").copied().unwrap_or(0), hits.faults.is_empty());
    // Hit ids come and go with every commit: their number is known only if there was none meanwhile.
    if let Some(before) = before.filter(|before| sound && before.hits != remembered)
        && sums(context.store)?.as_ref() == Some(&before)
    {
        let what = format!("it counts {} hit ids, there are {remembered}", before.hits);
        context.add(vec![of_sums(what)]);
    }
    let highest = context.highest;
    context.recheck(vec![()], |store, ()| check_sums(store, highest))
}

fn check_values(context: &mut Context<'_>) -> Result<(), StoreError> {
    let store = context.store;
    let mut names = columns::Check::default();
    let checked = context.table(Table::Meta);
    checked.each(store, Table::Meta, |checked, key, value| {
        checked.count("records", 1);
        let read = match key {
            COMMITS | HOLES => return,
            b"label" => serde_json::from_slice::<serde_json::Value>(value).map(drop),
            SUMS => serde_json::from_slice::<Sums>(value).map(drop),
            RUNS => serde_json::from_slice::<Runs>(value).map(drop),
            PLACEHOLDER => serde_json::from_slice::<BatchId>(value).map(drop),
            CHOSEN => serde_json::from_slice::<Chosen>(value).map(drop),
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

fn of_sums(what: String) -> (Table, Fault) {
    (Table::Meta, Fault::new(Table::Meta, SUMS, what))
}

fn check_sums(store: &Store, highest: Highest) -> Result<Faults, StoreError> {
    if store.get_bytes(Table::Meta, SUMS)?.is_none() {
        let used = [highest.file, highest.batch, highest.reject, highest.session].iter().any(Option::is_some);
        let missing = of_sums("it is missing: next numbers and totals are not known".to_owned());
        return Ok(used.then_some(missing).into_iter().collect());
    }
    let Some(sums) = sums(store)? else { return Ok(Vec::new()) };
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
            faults.push(of_sums(format!("its {what} do not add up: {counts}")));
        }
    }
    faults.extend(against_filling(store, &sums)?.map(of_sums));
    Ok(faults)
}

/// Rows that are in no sealed batch are in the filling one.
fn against_filling(store: &Store, before: &Sums) -> Result<Option<String>, StoreError> {
    let (total, sealed) = (before.totals.rows, before.sealed.rows);
    let Some(open) = total.checked_sub(sealed) else {
        return Ok(Some(format!("{sealed} rows are sealed, of {total}")));
    };
    let Some(latest) = before.next_batch.checked_sub(1) else { return Ok(None) };
    let Some(batch) = record::<BatchRecord>(store, Table::Batches, latest)? else { return Ok(None) };
    let filling = if batch.status == BatchStatus::Filling { batch.rows } else { 0 };
    // A commit between the two reads is no fault.
    let unchanged = sums(store)?.as_ref() == Some(before);
    let differ = filling != open && unchanged;
    Ok(differ.then(|| format!("{open} rows are not sealed, the filling batch has {filling}")))
}
