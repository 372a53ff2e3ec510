//! Which batches go together by their columns, and what to report of a batch whose columns the table does not have.
//!
//! A seal names the columns of its rows, so that a batch that was made under another schema can be loaded. A column that
//! only such a batch needs, and the table lacks, holds up that batch alone.

use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::catalog;
use crate::redshift::ddl::LiveColumn;
use crate::redshift::loading::Loading;
use crate::redshift::session::Session;
use crate::redshift::target::Target;

/// Columns that are named at most; the others are counted.
const NAMED: usize = 10;
const ADVICE: &str = "add them to the table, as `ingester ddl --diff` prints it with the [schema] they come from; then it \
                      is loaded by itself, and they may be dropped again";

/// Keeps those that one COPY can load with the first: their rows have the same columns.
pub(crate) fn keep_alike(ours: &[String], seals: &mut Vec<Seal>) {
    let Some(first) = seals.first().map(|seal| seal.columns.clone()) else { return };
    let of = |columns: &Option<Vec<String>>| columns.as_deref().unwrap_or(ours).to_vec();
    let wanted = of(&first);
    seals.retain(|seal| of(&seal.columns) == wanted);
}

/// Why these batches cannot be loaded and others can, if it is that the table lacks columns which they name and this
/// ingester's schema does not have. Columns that this schema has too are missing for every batch.
pub(super) async fn missing_for_batch(
    session: &Session,
    target: &Target,
    loading: &Loading,
) -> Option<LoadFailure> {
    let part = loading.parts.first()?;
    let columns = part.seal.columns.as_deref().filter(|columns| **columns != target.columns)?;
    let live = catalog::fetch(session, &target.table).await;
    let live =
        live.inspect_err(|error| tracing::debug!(%error, "cannot read the columns of the table")).ok()?;
    let missing = missing(columns, &live);
    if missing.is_empty() || live.is_empty() || missing.iter().any(|name| target.columns.contains(name)) {
        return None;
    }
    let mut named = missing.iter().take(NAMED).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if missing.len() > NAMED {
        named += &format!(" and {} more", missing.len() - NAMED);
    }
    let why = format!(
        "the table {} has no column {named}, which rows of batch {} have (they were made for schema {}, this \
         ingester has {})",
        target.table, part.seal.batch, part.seal.schema, target.fingerprint
    );
    Some(LoadFailure { advice: ADVICE, ..LoadFailure::of_batch(ErrorClass::Configuration, why) })
}

fn missing<'c>(columns: &'c [String], live: &[LiveColumn]) -> Vec<&'c String> {
    let there = |name: &String| live.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    columns.iter().filter(|name| !there(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_batches_of_the_same_columns_in_the_same_order_go_together() {
        let ours = names(&["a", "b"]);
        let with = |columns: Option<&[&str]>| Seal { columns: columns.map(names), ..seal() };
        let all =
            [None, Some(&["a", "b"][..]), Some(&["b", "a"]), Some(&["a"]), Some(&["a", "b", "c"])].map(with);
        let kept = |first: usize| {
            let mut seals: Vec<Seal> = all[first..].to_vec();
            keep_alike(&ours, &mut seals);
            seals.iter().map(|seal| seal.batch).collect::<Vec<_>>()
        };
        assert_eq!(kept(0), [all[0].batch, all[1].batch], "a seal without names is loaded by our columns");
        assert_eq!((kept(2), kept(3)), (vec![all[2].batch], vec![all[3].batch]));
        assert_eq!(kept(4), [all[4].batch]);
        let mut none = Vec::new();
        keep_alike(&ours, &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn what_the_table_lacks_is_told_apart_from_what_it_has_beside() {
        let live = |name: &str| LiveColumn {
            name: name.to_owned(),
            type_text: "bigint".to_owned(),
            not_null: false,
            has_default: false,
            layout: None,
        };
        let (columns, live) = (names(&["a", "b", "c"]), ["A", "c", "own"].map(live));
        assert_eq!(missing(&columns, &live), ["b"]);
    }
}
