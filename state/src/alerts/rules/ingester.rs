//! The ingester's alerts.

use shared::human::{counted, duration, time};

use super::figures::{IngesterFigures, KNOWN, LAST_HOUR, LATELY, STAGED, failed};
use super::rule::{About, Found, Level, Rule, Watched};
use crate::loads::{ErrorClass, Load, PausedBy};
use crate::status::activity::Component;

impl Watched for IngesterFigures {
    const SERVICE: &'static str = "ingester";

    fn rules() -> &'static [Rule<Self>] {
        INGESTER
    }

    fn counters(&self) -> Vec<(String, u64)> {
        let sums = self.snapshot.sums;
        let fixed = [(STAGED.to_owned(), sums.staged_loads), (KNOWN.to_owned(), sums.known_rows)];
        let failures = self.failures.iter().filter(|((component, _), _)| *component != Component::Alerts);
        let failures = failures.map(|((component, class), count)| (failed(*component, class), *count));
        fixed.into_iter().chain(failures).collect()
    }

    fn lasting() -> &'static [&'static str] {
        &[STAGED, KNOWN]
    }
}

/// What fails for so many seconds without a success is an outage.
const AWAY: f64 = 60.0;

/// Every alert of the ingester, in the order of the data.
pub static INGESTER: &[Rule<IngesterFigures>] = &[
    Rule {
        about: About {
            name: "discovery_failing",
            figures: &[r#"livestream_ingester_failing_seconds{component="discovery"}"#],
            expr: r#"livestream_ingester_failing_seconds{component="discovery"}"#,
            levels: &[Level::warning(30.0), Level::critical(300.0)],
            ends: 0.0,
            says: "batches cannot be found in S3",
            todo: "run `ingester check` and repair the access to S3, or the one object that the message names",
            anchor: "s3-refuses",
            ..About::PLAIN
        },
        measure: |seen| seen.failing_of(Component::Discovery),
    },
    Rule {
        about: About {
            name: "not_listed",
            figures: &["livestream_ingester_since_complete_listing_seconds"],
            measures: "if it is above three times `ingester.list_interval`",
            expr: "livestream_ingester_since_complete_listing_seconds > 3 * livestream_ingester_list_interval_seconds",
            levels: &[Level::warning(900.0), Level::critical(3_600.0)],
            ends: 900.0,
            says: "S3 was not listed completely for long",
            todo: "run `ingester check`; the log names the seal that fails again and again",
            anchor: "s3-refuses",
            note: "the ingester cannot list S3, or S3 fails at one seal again and again (the log names it). Counts from the start of the ingester until there was one",
        },
        measure: |seen| {
            let IngesterFigures { since_listing, list_interval, .. } = *seen.figures;
            (since_listing > list_interval * 3).then(|| {
                let detail = format!("the last complete listing was {} ago", duration(since_listing));
                Found::new(since_listing.as_secs_f64(), detail).since(seen.now - since_listing)
            })
        },
    },
    Rule {
        about: About {
            name: "load_failing",
            figures: &[r#"livestream_ingester_failing_seconds{component="load"}"#],
            expr: r#"livestream_ingester_failing_seconds{component="load"}"#,
            levels: &[Level::warning(30.0), Level::critical(300.0)],
            ends: 0.0,
            says: "nothing can be loaded",
            todo: "run `ingester check`; it tries each step of a load and says what to do",
            anchor: "redshift-refuses",
            note: "`state dump` names the cause",
            ..About::PLAIN
        },
        measure: |seen| {
            let batch = seen.waiting().min_by_key(|load| load.discovered).map(|load| load.batch);
            Some(seen.failing_of(Component::Load)?.batch(batch))
        },
    },
    Rule {
        about: About {
            name: "load_unanswered",
            figures: &[r#"livestream_ingester_step_seconds{component="load"}"#],
            expr: r#"livestream_ingester_step_seconds{component="load"}"#,
            levels: &[Level::warning(300.0), Level::critical(1_800.0)],
            ends: 10.0,
            says: "Redshift does not answer a statement",
            todo: "run `state dump` for the statement; look at Redshift's queues, locks and sessions",
            anchor: "redshift-refuses",
            note: "a long COPY, or a statement without an answer",
            ..About::PLAIN
        },
        measure: |seen| {
            let batch = seen.waiting().find(|load| load.is_loading()).map(|load| load.batch);
            Some(seen.step(&seen.snapshot().components, Component::Load)?.batch(batch))
        },
    },
    Rule {
        about: About {
            name: "needs_operator",
            figures: &[r#"livestream_ingester_retrying_batches{class="configuration"}"#],
            expr: r#"livestream_ingester_retrying_batches{class="configuration"}"#,
            levels: &[Level::critical(0.0)],
            ends: 0.0,
            says: "batches cannot be loaded until an operator corrects a role, a grant, a table or the configuration",
            todo: "run `ingester check`, and mend what it names",
            anchor: "redshift-refuses",
            note: "needs an operator",
            ..About::PLAIN
        },
        measure: |seen| seen.refused(&[ErrorClass::Configuration]),
    },
    Rule {
        about: About {
            name: "batch_refused",
            figures: &[r#"livestream_ingester_retrying_batches{class="data"}"#],
            expr: r#"livestream_ingester_retrying_batches{class="data"}"#,
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "Redshift refuses so many rows of a batch that it waits whole",
            todo: "run `state dump --batch ID`, then correct the table or the schema",
            anchor: "data-errors",
            note: "needs an operator; other batches are loaded meanwhile",
            ..About::PLAIN
        },
        measure: |seen| seen.refused(&[ErrorClass::Data]),
    },
    Rule {
        about: About {
            name: "batch_alarming",
            figures: &["livestream_ingester_alarming_batches"],
            measures: "without those of the two before",
            expr: r#"livestream_ingester_alarming_batches - sum without (class) (livestream_ingester_retrying_batches{class=~"configuration|data"})"#,
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "a batch fails again and again",
            todo: "run `state dump --batch ID`, and do what its class asks for",
            anchor: "redshift-refuses",
            note: "it failed `ingester.alert_after` times",
        },
        measure: |seen| {
            let after = seen.figures.alert_after;
            let own = [ErrorClass::Configuration, ErrorClass::Data];
            let others = |load: &&Load| load.trouble().is_none_or(|class| !own.contains(&class));
            seen.batches(seen.waiting().filter(|load| load.is_alarming(after)).filter(others))
        },
    },
    Rule {
        about: About {
            name: "batch_not_loaded",
            figures: &["livestream_ingester_oldest_waiting_batch_seconds"],
            measures: "while loading is not paused",
            expr: "livestream_ingester_oldest_waiting_batch_seconds unless on (job, instance) livestream_ingester_paused == 1",
            levels: &[Level::warning(900.0), Level::critical(3_600.0)],
            ends: 900.0,
            says: "batches are sealed and not loaded, and nothing holds them back",
            todo: "run `state dump --pending`, and `ingester check` if something fails",
            anchor: "redshift-refuses",
            ..About::PLAIN
        },
        measure: |seen| {
            let since = seen.snapshot().overdue_since()?;
            let Found { detail, batch, .. } = seen.batches(seen.snapshot().overdue())?;
            let is_paused = seen.snapshot().paused.is_some();
            (!is_paused).then(|| seen.age(since, detail).batch(batch))
        },
    },
    Rule {
        about: About {
            name: "nothing_loaded",
            figures: &["livestream_ingester_since_last_load_seconds"],
            measures: "while loading is not paused and no batch is held back",
            expr: "livestream_ingester_since_last_load_seconds unless on (job, instance) (livestream_ingester_paused == 1 or livestream_ingester_held_back_rows > 0)",
            levels: &[Level::warning(3_600.0)],
            ends: 3_600.0,
            says: "nothing was loaded for an hour",
            todo: "run `state dump --pending`: if nothing is pending, look at the stream",
            anchor: "state-dump",
            note: "no batches come, or the ingester does not find or load them; 0 while it remembers none as loaded",
        },
        measure: |seen| {
            let since = seen.snapshot().loaded_nothing_since()?;
            let latest = seen.snapshot().loads.iter().filter_map(|load| load.loaded).max()?;
            let is_paused = seen.snapshot().paused.is_some() || seen.snapshot().held_back.is_some();
            (!is_paused).then(|| seen.age(since, format!("the latest load was at {}", time(latest))))
        },
    },
    Rule {
        about: About {
            name: "paused",
            figures: &[r#"livestream_ingester_paused{by="hand"}"#],
            expr: r#"livestream_ingester_paused{by="hand"}"#,
            levels: &[Level::warning(0.0).held(7_200)],
            ends: 0.0,
            says: "loading is paused by hand for hours",
            todo: "run `ingester resume` if it was forgotten",
            anchor: "pause",
            note: "did someone forget `ingester resume`?",
            ..About::PLAIN
        },
        measure: |seen| {
            let paused = seen.snapshot().paused.as_ref().filter(|paused| paused.by == PausedBy::Hand)?;
            let found = Found::new(1.0, paused.describe());
            Some(Found { since: paused.since, ..found })
        },
    },
    Rule {
        about: About {
            name: "rows_quarantined",
            figures: &["livestream_ingester_quarantined_rows"],
            expr: "livestream_ingester_quarantined_rows",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "rows that Redshift refused wait in quarantine",
            todo: "run `state dump --batch ID` for the column, correct it, then run `ingester replay`",
            anchor: "quarantine",
            note: "rows wait for an operator",
            ..About::PLAIN
        },
        measure: |seen| {
            let loads: Vec<_> = seen.snapshot().loads.iter().filter(|load| load.quarantined > 0).collect();
            let at = |load: &Load| load.quarantine.as_ref().map_or(load.discovered, |known| known.at);
            let first = loads.iter().min_by_key(|load| at(load))?;
            let rows = loads.iter().map(|load| load.quarantined).sum::<u64>();
            let known = first.quarantine.as_ref().and_then(|known| known.first.as_ref());
            let why = known.map(|first| {
                format!("; {}: {}", first.column.as_deref().unwrap_or("no column"), first.reason)
            });
            let of = counted(loads.len() as u64, "batch", "batches");
            let detail = format!("{} of {of}{}", counted(rows, "row", "rows"), why.unwrap_or_default());
            Some(Found::new(rows as f64, detail).since(at(first)).batch(Some(first.batch)))
        },
    },
    Rule {
        about: About {
            name: "failures_growing",
            figures: &[r#"livestream_ingester_failures_total{component="…",class="…"}"#],
            measures: "growth in 15m of one `component` and `class`, without components that have failed alone for more than a minute",
            expr: r#"max without (component, class) (increase(livestream_ingester_failures_total{component!="alerts"}[15m]) unless on (job, instance, component) livestream_ingester_failing_seconds > 60)"#,
            levels: &[Level::warning(20.0)],
            ends: 20.0,
            says: "the ingester meets many failures, although something succeeds in between",
            todo: "run `state dump` and look for the component in the log",
            anchor: "redshift-refuses",
            ..About::PLAIN
        },
        measure: |seen| {
            // An outage has an alert of its own.
            let is_away = |component| seen.failing_of(component).is_some_and(|found| found.value > AWAY);
            let counted_here = |component| component != Component::Alerts && !is_away(component);
            let failures = seen.figures.failures.keys().filter(|(component, _)| counted_here(*component));
            let grown = failures.map(|(component, class)| {
                let name = failed(*component, class);
                (seen.growth.of(&name, LATELY), component.name(), class)
            });
            let (grown, component, class) = grown.max()?;
            let failures = counted(grown, "failure", "failures");
            Some(Found::new(grown as f64, format!("{component}, {class}: {failures} in 15 minutes")))
        },
    },
    Rule {
        about: About {
            name: "archive_failing",
            figures: &[r#"livestream_ingester_failing_seconds{component="archive"}"#],
            expr: r#"livestream_ingester_failing_seconds{component="archive"}"#,
            levels: &[Level::warning(30.0)],
            ends: 0.0,
            says: "loaded batches cannot be archived",
            todo: "run `ingester check`: the rights below s3.to_ingest and s3.ingested",
            anchor: "s3-refuses",
            note: "they are loaded",
            ..About::PLAIN
        },
        measure: |seen| seen.failing_of(Component::Archive),
    },
    Rule {
        about: About {
            name: "reconcile_failing",
            figures: &[r#"livestream_ingester_failing_seconds{component="reconcile"}"#],
            expr: r#"livestream_ingester_failing_seconds{component="reconcile"}"#,
            levels: &[Level::warning(300.0)],
            ends: 0.0,
            says: "log, S3 and ledger cannot be compared",
            todo: "run `ingester reconcile --dry-run`",
            anchor: "does-everything-agree",
            ..About::PLAIN
        },
        measure: |seen| seen.failing_of(Component::Reconcile),
    },
    Rule {
        about: About {
            name: "ledger_speaks_for_nothing",
            figures: &["livestream_ingester_ledger_speaks_for_nothing"],
            expr: "livestream_ingester_ledger_speaks_for_nothing",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "every load is compared with the table, because the ledger speaks for no time yet",
            todo: "run `ingester ledger show`, then `ingester ledger knows-from`",
            anchor: "staged-loads",
            note: "every load is staged until an operator runs `ingester ledger knows-from`",
            ..About::PLAIN
        },
        measure: |seen| {
            let mark = seen.snapshot().ledger.as_ref().filter(|mark| mark.knows_from.is_none())?;
            Some(Found::new(1.0, format!("the ledger of {}", mark.table)))
        },
    },
    Rule {
        about: About {
            name: "loads_staged",
            figures: &["livestream_ingester_staged_loads_total"],
            measures: "growth in 1h, if all batches are of one producer",
            expr: "increase(livestream_ingester_staged_loads_total[1h]) and livestream_ingester_producers == 1",
            levels: &[Level::warning(10.0)],
            ends: 10.0,
            says: "many loads are compared with the table although one producer reads the stream",
            todo: "run `ingester ledger show`, and look for a second sender of the same hits",
            anchor: "staged-loads",
            ..About::PLAIN
        },
        measure: |seen| {
            let grown = seen.growth.of(STAGED, LAST_HOUR);
            let detail = format!("{} in an hour", counted(grown, "staged load", "staged loads"));
            seen.is_one_producer().then(|| Found::new(grown as f64, detail))
        },
    },
    Rule {
        about: About {
            name: "rows_known",
            figures: &["livestream_ingester_known_rows_total"],
            measures: "growth in 1h, if all batches are of one producer",
            expr: "increase(livestream_ingester_known_rows_total[1h]) and livestream_ingester_producers == 1",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "the table had rows already that were to be loaded",
            todo: "nothing after a lost or restored log; otherwise look for what sends hits twice",
            anchor: "staged-loads",
            note: "rows that were in the table already. Usual after a lost log or with several producers; otherwise something sends hits twice",
        },
        measure: |seen| {
            let grown = seen.growth.of(KNOWN, LAST_HOUR);
            let detail = format!("{} in an hour", counted(grown, "row", "rows"));
            seen.is_one_producer().then(|| Found::new(grown as f64, detail))
        },
    },
    Rule {
        about: About {
            name: "ingester_reload_refused",
            figures: &["livestream_ingester_config_last_reload_successful"],
            measures: "0 of this is 1",
            expr: "1 - livestream_ingester_config_last_reload_successful",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "the latest reload of the configuration was refused; the ingester goes on with the one it has",
            todo: "correct what the detail names, then reload again; a restart would end with code 78",
            anchor: "changing-the-configuration-while-it-runs",
            ..About::PLAIN
        },
        measure: |seen| seen.refused_reload(seen.snapshot().configuration.as_ref()),
    },
];
