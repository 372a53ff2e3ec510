//! The ledger rows of a load.

use chrono::{DateTime, Utc};
use shared::ids::BatchId;

use crate::redshift::loading::Part;
use crate::redshift::sql::{literal, moment};
use crate::redshift::target::{Target, ledger_columns};

/// A batch to enter into the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entering<'a> {
    /// The batch, and what of it is in quarantine.
    pub(super) part: &'a Part,
    /// The id under which the ledger shall have it.
    pub(super) id: BatchId,
    /// Rows that the table had already.
    pub(super) known: u64,
}

/// The statement that enters loaded batches into the ledger, a row for each.
pub(super) fn insert(
    target: &Target,
    batches: &[Entering<'_>],
    copy_query: i64,
    now: DateTime<Utc>,
) -> String {
    let rows: Vec<String> = batches.iter().map(|one| ledger_row(target, one, copy_query, now)).collect();
    format!("INSERT INTO {} ({}) VALUES {}", target.ledger, ledger_columns(), rows.join(", "))
}

fn ledger_row(target: &Target, entering: &Entering<'_>, copy_query: i64, now: DateTime<Utc>) -> String {
    let Entering { part, id, known } = entering;
    let (seal, compared) = (&part.seal, part.seal.compared.as_ref());
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let values = [
        literal(&id.to_string()),
        literal(&seal.instance.to_string()),
        part.rows().saturating_sub(*known).to_string(),
        part.quarantined.to_string(),
        seal.bytes.to_string(),
        seal.files.len().to_string(),
        literal(&seal.schema),
        moment(seal.first_received),
        moment(seal.last_received),
        copy_query.to_string(),
        moment(Some(now)),
        literal(&target.loader),
        seal.counts.received.to_string(),
        seal.counts.duplicates.to_string(),
        seal.counts.filtered.to_string(),
        seal.counts.rejected.to_string(),
        or_null(part.set.as_deref().map(literal)),
        or_null(compared.map(|compared| literal(&compared.run.to_string()))),
        or_null(compared.map(|compared| compared.number.to_string())),
        or_null(seal.content.map(|content| literal(&content.to_string()))),
        known.to_string(),
        or_null(compared.map(|compared| compared.uncompared.to_string())),
    ];
    format!("({})", values.join(", "))
}
