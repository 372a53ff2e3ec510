//! What `audit` and `reconcile` say alike of a batch.

pub(super) const ARCHIVED_NOT_LOADED: &str = "it is archived, and the ledger does not know it";

pub(super) fn seal_unusable(why: &str) -> String {
    format!("its seal cannot be used: {why}")
}

pub(super) fn rows_differ(sealed: u64, loaded: u64, quarantined: u64, known: u64) -> String {
    format!(
        "{sealed} rows were sealed, the ledger says {loaded} loaded, {quarantined} quarantined and {known} in the table \
         already"
    )
}
