//! What is protected, and which fields of `[protect]` may protect nothing because no record has them.

use std::io::Write;

use shared::config::{Config, KeepRejects, Protect};
use shared::exit::Failure;
use shared::human::counted;
use shared::report::Report;
use shared::schema::{Column, JsonPath, Schema};
use state::status::feed;
use state::status::snapshot::{CountersSnapshot, ProducerSnapshot};

/// Prints a line if anything is protected, and one for each field that is in doubt. None of these fails the check.
pub(super) async fn report<W: Write>(config: &Config, report: &mut Report<'_, W>) -> Result<(), Failure> {
    let protect = &config.protect;
    if protect.is_empty() {
        return Ok(());
    }
    let schema = config.schema.load()?;
    let answer = feed::snapshot::<ProducerSnapshot>(&config.producer_socket()).await;
    let counters = answer.ok().and_then(|answer| answer.snapshot.counters);
    let fields: usize = protect.lists().iter().map(|(_, fields)| fields.len()).sum();
    let rejects = match config.kept_rejects() {
        KeepRejects::Full => "as they are received: they hold what is protected elsewhere (rejects.keep)",
        KeepRejects::Reason => "without the record",
        KeepRejects::Protected | KeepRejects::ByProtection => "protected, or without the record",
    };
    let fields = counted(fields as u64, "field", "fields");
    report.line("protection", Ok(format!("{fields}; rejects are kept {rejects}")))?;
    for doubt in doubts(protect, &schema, counters.as_ref()) {
        report.skipped("protection", &doubt)?;
    }
    Ok(())
}

/// What an operator should look at. `counters` are those of the running producer.
fn doubts(protect: &Protect, schema: &Schema, counters: Option<&CountersSnapshot>) -> Vec<String> {
    let (documented, all) = (Schema::default(), paths(protect, schema));
    let mut doubts = Vec::new();
    for (list, field) in each(protect) {
        if column(schema, field).is_some() {
            continue;
        }
        let Ok(path) = Protect::path(field) else { continue };
        let counts = counters.and_then(|counters| counters.protected.get(field));
        let was_met = counts.is_some_and(|counts| counts.values > 0);
        if !was_met && !has(schema, &path) && !has(&documented, &path) {
            doubts.push(format!(
                "protect.{list}: {field:?} protects nothing: no column reads this path, Adobe documents no such field, and \
                 no running producer has met one; compare it with a record (`producer schema --explain`)"
            ));
        }
        for column in schema.columns.iter().filter(|column| column.paths.contains(&path)) {
            for other in column.paths.iter().filter(|other| !all.contains(other)) {
                doubts.push(format!(
                    "protect.{list}: {field:?} is one path of column {name}, and its path `{other}` is not protected: name \
                     {name} instead",
                    name = column.name
                ));
            }
        }
    }
    doubts
}

fn each(protect: &Protect) -> impl Iterator<Item = (&'static str, &String)> {
    let lists = protect.lists().into_iter();
    lists.flat_map(|(list, fields)| fields.iter().map(move |field| (list, field)))
}

fn column<'s>(schema: &'s Schema, field: &str) -> Option<&'s Column> {
    let at = Protect::column(field).and_then(|name| schema.position(name))?;
    schema.columns.get(at)
}

/// Every protected path.
fn paths(protect: &Protect, schema: &Schema) -> Vec<JsonPath> {
    let of = |field: &String| match column(schema, field) {
        Some(column) => column.paths.clone(),
        None => Protect::path(field).into_iter().collect(),
    };
    each(protect).flat_map(|(_, field)| of(field)).collect()
}

/// Whether a column reads the path, or what lies around it or in it. A column of the whole record says nothing.
fn has(schema: &Schema, path: &JsonPath) -> bool {
    let near = |of_column: &JsonPath| {
        let (one, other) = (path.keys(), of_column.keys());
        !other.is_empty() && (one.starts_with(other) || other.starts_with(one))
    };
    schema.columns.iter().flat_map(|column| &column.paths).any(near)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::config::Secrets;
    use state::status::snapshot::ProtectedSnapshot;

    use super::*;

    fn protect(lines: &str) -> Protect {
        let example = include_str!("../../../../deploy/pipeline.example.toml");
        let text = format!("{example}\n[protect]\n{lines}\n");
        Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused).unwrap().protect
    }

    #[test]
    fn a_path_that_no_column_and_no_record_has_is_told() {
        let schema = Schema::default();
        let of = |lines: &str| doubts(&protect(lines), &schema, None);
        // A column, its path, a path within a column of JSON, a path with columns in it.
        for known in ["evar5", "ip", "products.evars.evar5", "$.events", "evars.evars.campaign"] {
            assert_eq!(of(&format!("drop = [\"{known}\"]")), [""; 0], "{known}");
        }
        for unknown in ["evars.evar5", "ipAddress", "evar5000"] {
            let doubts = of(&format!("mask_ip = [\"{unknown}\"]"));
            assert!(
                doubts[0].starts_with(&format!("protect.mask_ip: {unknown:?} protects nothing")),
                "{doubts:?}"
            );
        }
    }

    #[test]
    fn a_path_that_the_running_producer_has_met_is_in_no_doubt() {
        let protect = protect("drop = [\"fieldOfTheFuture\"]");
        let met = |values| CountersSnapshot {
            since: chrono::DateTime::UNIX_EPOCH,
            mended: 0,
            filtered: Default::default(),
            rejected: Default::default(),
            altered: Default::default(),
            protected: [("fieldOfTheFuture".to_owned(), ProtectedSnapshot { values, unmaskable: 0 })].into(),
        };
        assert_eq!(doubts(&protect, &Schema::default(), Some(&met(0))).len(), 1);
        assert_eq!(doubts(&protect, &Schema::default(), Some(&met(1))), [""; 0]);
    }

    #[test]
    fn a_path_whose_column_reads_another_one_too_is_told() {
        let of = |lines: &str| doubts(&protect(lines), &Schema::default(), None);
        let told = of("drop = [\"evars.evars.eVar5\"]");
        assert!(told[0].contains("`evars.evars.evar5` is not protected: name evar5 instead"), "{told:?}");
        assert_eq!(of("drop = [\"evars.evars.eVar5\", \"evars.evars.evar5\"]"), [""; 0]);
    }
}
