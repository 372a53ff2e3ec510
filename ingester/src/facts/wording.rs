//! What `audit` and `reconcile` say alike of a batch.

pub(super) const ARCHIVED_NOT_LOADED: &str = "it is archived, and the ledger does not know it";

pub(super) fn seal_unusable(why: &str) -> String {
    format!("its seal cannot be used: {why}")
}

/// `forgotten`: taken out by `ingester forget`; it is told only where there are any.
pub(super) fn rows_differ(sealed: u64, loaded: u64, quarantined: u64, known: u64, forgotten: u64) -> String {
    let forgotten = if forgotten == 0 { String::new() } else { format!(", {forgotten} forgotten") };
    format!(
        "{sealed} rows were sealed, the ledger says {loaded} loaded, {quarantined} quarantined{forgotten} and {known} in the \
         table already"
    )
}
