//! Hit ids and rejects, which are in pieces, and sessions.

use shared::json_fault::json_fault;

use crate::log::record::{Session, seq_of};
use crate::log::reject::RejectLine;
use crate::log::verify::context::{Context, each_chunked};
use crate::log::window::count_ids;
use crate::store::{StoreError, Table, chunked};
use crate::verdict::Fault;

pub(super) fn check(context: &mut Context<'_>) -> Result<(), StoreError> {
    let hits = check_pieces(context, Table::Hits, 12, "hit ids", count_ids)?;
    context.highest.file = context.highest.file.max(hits);
    let line = |content: &[u8]| {
        serde_json::from_slice::<RejectLine>(content).map(|_| 1).map_err(|error| json_fault(&error))
    };
    context.highest.reject = check_pieces(context, Table::Rejects, 8, "rejects", line)?;
    let mut highest = None;
    context.each_record::<Session>(Table::Sessions, |checked, seq, session| {
        checked.count("sessions", 1);
        highest = highest.max(seq);
        if let Some(seq) = seq.filter(|seq| session.session != *seq) {
            let what = format!("it says it is session {}", session.session);
            checked.faults.push(Fault::new(Table::Sessions, &seq.to_be_bytes(), what));
        }
    })?;
    context.highest.session = highest;
    Ok(())
}

/// `read` counts what is in one value. Returns the highest number in a key.
fn check_pieces(
    context: &mut Context<'_>,
    table: Table,
    key_len: usize,
    what: &str,
    read: impl Fn(&[u8]) -> Result<u64, String>,
) -> Result<Option<u64>, StoreError> {
    let (mut highest, mut suspects) = (None, Vec::new());
    let store = context.store;
    each_chunked(context.table(table), store, table, key_len, |checked, key, content| {
        highest = Some(seq_of(key));
        match content.map_err(str::to_owned).and_then(&read) {
            Ok(count) => checked.count(what, count),
            Err(_) => suspects.push(key.to_vec()),
        }
    })?;
    context.recheck(suspects, |store, key| {
        let mut content = Vec::new();
        let how = match chunked::get(store, table, key, &mut content) {
            // The file was dropped meanwhile: its rows are in S3, or its record was forgotten.
            Ok(false) => None,
            Ok(true) => read(&content).err(),
            // The fault names table and key beside it.
            Err(StoreError::Damaged { what, .. }) => {
                Some(what.split_once(": ").map_or(&what[..], |(_, how)| how).to_owned())
            }
            Err(error) => return Err(error),
        };
        let file = (table == Table::Hits).then(|| seq_of(key));
        Ok(how.map(|how| (table, Fault { file, ..Fault::new(table, key, how) })).into_iter().collect())
    })?;
    Ok(highest)
}
