//! The columns that the ingester would add to the table, and whether it may.

use std::io::Write;

use shared::config::{Config, OnSchemaChange};
use shared::exit::Failure;
use shared::report::{Outcome, Report, failed};
use shared::schema::Schema;

use crate::failure::LoadFailure;
use crate::redshift::add_columns::{self, Right};
use crate::redshift::ddl::Addition;
use crate::redshift::{Session, Target};

const STEP: &str = "Redshift new columns";
/// Columns that are named; the others are counted.
const NAMED: usize = 10;

/// Schema and target without the columns that the table lacks so far; the whole of both if nothing would be left.
pub(super) fn without(
    config: &Config,
    schema: &Schema,
    target: &Target,
    lacking: &[&Addition],
) -> (Schema, Target) {
    let mut there = schema.clone();
    there.columns.retain(|column| lacking.iter().all(|lacks| lacks.name != column.name));
    if lacking.is_empty() || there.in_row().next().is_none() {
        return (schema.clone(), target.clone());
    }
    let now = Target::new(config, &there, target.loader.clone());
    (there, now)
}

/// Says what would be added, and tries whether this user may; nothing where the ingester adds none.
pub(super) async fn step<W: Write>(
    config: &Config,
    session: &Session,
    target: &Target,
    lacking: &[&Addition],
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    if config.redshift.on_schema_change == OnSchemaChange::Refuse {
        return Ok(());
    }
    report.line(STEP, outcome(add_columns::try_right(session, target).await, lacking)).map(drop)
}

fn outcome(right: Result<Right, LoadFailure>, lacking: &[&Addition]) -> Outcome {
    let right = match right.map_err(failed)? {
        Right::Owner => "redshift.user owns the table",
        Right::Granted => "one was added and rolled back",
    };
    let what = if lacking.is_empty() {
        "none; those of a later schema may be added".to_owned()
    } else {
        let named: Vec<String> = lacking.iter().take(NAMED).map(ToString::to_string).collect();
        let more = lacking.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("the ingester adds {}{more}", named.join(", "))
    };
    Ok(format!("{what}: {right}"))
}

#[cfg(test)]
mod tests {
    use shared::exit::Exit;
    use state::loads::ErrorClass;

    use super::*;

    #[test]
    fn what_is_added_is_named_and_a_missing_right_is_a_fault_of_the_configuration() {
        let columns: Vec<Addition> = (0..12).map(|n| Addition::new(&format!("c{n}"), "bigint")).collect();
        let lacking: Vec<&Addition> = columns.iter().collect();
        let said = outcome(Ok(Right::Owner), &lacking).unwrap();
        assert!(said.starts_with("the ingester adds c0 bigint, c1 bigint, "), "{said}");
        assert!(said.ends_with("c9 bigint and 2 more: redshift.user owns the table"), "{said}");
        assert!(outcome(Ok(Right::Granted), &[]).unwrap().starts_with("none; "));
        let refused = LoadFailure::of_all(ErrorClass::Configuration, "must be owner", "own it");
        assert_eq!(
            outcome(Err(refused), &lacking).unwrap_err(),
            (Exit::Config, "must be owner: own it".to_owned())
        );
    }
}
