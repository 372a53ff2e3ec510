//! Batches against their files, and files against the batch they name.

use std::collections::{BTreeMap, HashMap};

use shared::human::counted;
use shared::ids::BatchId;

use crate::log::record::{BatchRecord, FileRecord};
use crate::log::status::{BatchStatus, FileStatus};
use crate::log::verify::context::{Context, Faults, of_batch, of_file, record};
use crate::store::{Store, StoreError, Table};

/// No configuration gives a batch more files than this; the check reads no more.
const MOST_FILES: u32 = 1 << 20;

pub(super) fn read(context: &mut Context<'_>) -> Result<(), StoreError> {
    let mut batches = BTreeMap::new();
    let mut ids = HashMap::<BatchId, u64>::new();
    context.each_record::<BatchRecord>(Table::Batches, |checked, seq, batch| {
        checked.count("batches", 1);
        checked.count("rows", batch.rows);
        let Some(seq) = seq else { return };
        if let Some(other) = ids.insert(batch.id, seq) {
            checked.faults.push(of_batch(seq, batch.id, format!("batch {other} has the same id")).1);
        }
        batches.insert(seq, batch);
    })?;
    context.highest.batch = batches.keys().next_back().copied();
    context.batches = batches;
    Ok(())
}

pub(super) fn check(context: &mut Context<'_>) -> Result<(), StoreError> {
    context.recheck(context.batches.keys().copied().collect(), |store, seq| check_batch(store, *seq))?;
    let named = |seq: &u64, file: &FileRecord| {
        context.batches.get(&file.batch).is_some_and(|batch| batch.file_numbers().contains(seq))
    };
    let lost = context.files.iter().filter(|(seq, file)| !named(seq, file)).map(|(seq, _)| *seq);
    context.recheck(lost.collect(), |store, seq| check_owner(store, *seq))
}

fn check_owner(store: &Store, seq: u64) -> Result<Faults, StoreError> {
    let Some(file) = record::<FileRecord>(store, Table::Files, seq)? else { return Ok(Vec::new()) };
    let what = match record::<BatchRecord>(store, Table::Batches, file.batch)? {
        None => format!("it belongs to batch number {}, which is not there", file.batch),
        Some(batch) if !batch.file_numbers().contains(&seq) => {
            let BatchRecord { files, first_file, .. } = batch;
            format!("it belongs to batch number {}, which has {files} files from {first_file} on", file.batch)
        }
        Some(_) => return Ok(Vec::new()),
    };
    Ok(vec![of_file(seq, what)])
}

/// What is wrong with one batch. A record that changes while its files are read is read anew.
fn check_batch(store: &Store, seq: u64) -> Result<Faults, StoreError> {
    /// A filling batch changes with every commit, and its files are read in much less time than lies between two.
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let Some(batch) = record::<BatchRecord>(store, Table::Batches, seq)? else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for file in (batch.first_file..).take(batch.files.min(MOST_FILES) as usize) {
            files.push((file, record::<FileRecord>(store, Table::Files, file)?));
        }
        let previous = match seq.checked_sub(1) {
            Some(previous) => record::<BatchRecord>(store, Table::Batches, previous)?,
            None => None,
        };
        if record::<BatchRecord>(store, Table::Batches, seq)?.as_ref() == Some(&batch) {
            let mut faults = against_itself(&batch);
            faults.extend(previous.and_then(|previous| against_previous(&batch, &previous)));
            let mut faults: Vec<_> = faults.into_iter().map(|what| of_batch(seq, batch.id, what)).collect();
            faults.extend(against_files(seq, &batch, &files));
            return Ok(faults);
        }
    }
    Ok(Vec::new())
}

fn against_itself(batch: &BatchRecord) -> Vec<String> {
    let mut faults = Vec::new();
    let is_sealed = batch.status != BatchStatus::Filling;
    if batch.sealed.is_some() != is_sealed {
        faults.push(format!("it is {}, its time of sealing says otherwise", batch.status.name()));
    }
    if batch.published.is_some() != (batch.status == BatchStatus::Published) {
        faults.push(format!("it is {}, its time of publishing says otherwise", batch.status.name()));
    }
    if !(1..=MOST_FILES).contains(&batch.files) {
        faults.push(format!("it says it has {}", counted(batch.files.into(), "file", "files")));
    }
    if is_sealed && (batch.counts.rows != batch.rows || !batch.counts.add_up()) {
        faults.push(format!(
            "it has {}, its counts are {}",
            counted(batch.rows, "row", "rows"),
            batch.counts
        ));
    }
    faults
}

fn against_previous(batch: &BatchRecord, previous: &BatchRecord) -> Option<String> {
    let end = previous.file_numbers().end;
    if previous.status == BatchStatus::Filling {
        return Some(format!("the batch before it, {}, is filling still", previous.id));
    }
    let first = batch.first_file;
    (first != end).then(|| format!("its first file is {first}, the batch before it ended before {end}"))
}

fn against_files(seq: u64, batch: &BatchRecord, files: &[(u64, Option<FileRecord>)]) -> Faults {
    let of_batch = |what| of_batch(seq, batch.id, what);
    let mut faults = Vec::new();
    if batch.status == BatchStatus::Published {
        let left = files.iter().filter(|(_, file)| file.is_some());
        faults.extend(left.map(|(file, _)| of_file(*file, "its batch is published: it should be gone")));
        return faults;
    }
    let (mut rows, mut bytes, mut complete) = (0, 0, true);
    for (no, (number, file)) in (0..).zip(files) {
        let Some(file) = file else {
            faults.push(of_batch(format!("its file {number} is missing or cannot be read")));
            complete = false;
            continue;
        };
        rows += file.rows;
        bytes += file.bytes;
        if (file.batch, file.no) != (seq, no) {
            let what =
                format!("it says it is file {} of batch number {}, it is {no} of {seq}", file.no, file.batch);
            faults.push(of_file(*number, what));
        }
        let may_be_open = batch.status == BatchStatus::Filling && no + 1 == batch.files;
        if file.status == FileStatus::Open && !may_be_open {
            let what =
                format!("it is open, its batch is {} with later files or none to come", batch.status.name());
            faults.push(of_file(*number, what.to_lowercase()));
        }
    }
    if complete && (rows, bytes) != (batch.rows, batch.bytes) {
        let what = format!(
            "its files hold {rows} rows of {bytes} bytes, its record says {} and {}",
            batch.rows, batch.bytes
        );
        faults.push(of_batch(what));
    }
    faults
}
