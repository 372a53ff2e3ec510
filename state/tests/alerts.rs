//! The list of alerts, and what is printed from it: the table in docs/OPERATIONS.md and the rules for Prometheus.
//! `UPDATE_DOCS=1` writes both anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::human::Span;
use state::alerts::rules::{About, Level, all};

const BEGIN: &str = "<!-- alerts:begin (printed from state/src/alerts/rules/) -->\n";
const END: &str = "<!-- alerts:end -->\n";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_default()
}

/// Writes the file if that is asked for, and fails if it is not as it should be.
fn compare(name: &str, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file(name), wanted).unwrap();
    }
    assert!(
        read(name) == wanted,
        "{name} is old: run UPDATE_DOCS=1 cargo test --release -p state --test alerts"
    );
}

fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds % 3_600, seconds % 60) {
        (0, _) if seconds > 0 => format!("{}h", seconds / 3_600),
        (_, 0) if seconds > 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn table() -> String {
    let mut out = String::from("| figure | alert | when |\n|---|---|---|\n");
    for (_, about) in all() {
        let figures: Vec<_> = about.figures.iter().map(|figure| format!("`{figure}`")).collect();
        let levels: Vec<_> = about.levels.iter().map(level).collect();
        let measures =
            if about.measures.is_empty() { String::new() } else { format!("{}: ", about.measures) };
        let note = if about.note.is_empty() { String::new() } else { format!(". {}", capital(about.note)) };
        let alert = format!("`{}`: [{}](#{})", about.name, about.says, about.anchor);
        let _ = writeln!(
            out,
            "| {} | {alert} | {} |",
            figures.join(", "),
            capital(&format!("{measures}{}{note}", levels.join(", ")))
        );
    }
    out
}

fn level(level: &Level) -> String {
    let hold = if level.hold.is_zero() { String::new() } else { format!(" for {}", span(level.hold)) };
    format!("{} above {}{hold}", level.severity.name(), level.above)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// `log_full` as Prometheus names alerts: `LivestreamLogFull`.
fn camel(name: &str) -> String {
    name.split('_').fold("Livestream".to_owned(), |name, word| name + &capital(word))
}

fn rule(service: &str, about: &About, level: &Level) -> String {
    let severity = level.severity.name();
    format!(
        "      - alert: {name}\n        expr: '({expr}) > {above}'\n        for: {hold}\n        keep_firing_for: 1m\n        \
         labels:\n          severity: {severity}\n          service: {service}\n        annotations:\n          \
         summary: '{{{{ $labels.instance }}}}: {says}'\n          description: '{todo}'\n          \
         runbook: 'docs/OPERATIONS.md#{anchor}'\n",
        name = camel(about.name),
        expr = about.expr,
        above = level.above,
        hold = span(level.hold),
        says = quoted(about.says),
        todo = quoted(about.todo),
        anchor = about.anchor,
    )
}

/// Within single quotes of YAML.
fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

fn rules() -> String {
    let mut out = String::from(
        "# The alerts of both services for Prometheus 2.42 and newer. Printed from state/src/alerts/rules/; a test keeps the two\n\
         # the same: UPDATE_DOCS=1 cargo test --release -p state --test alerts. docs/OPERATIONS.md says what to do.\n\
         # A rule on `up` is missing: its job is yours.\ngroups:\n",
    );
    for service in ["producer", "ingester"] {
        let _ = write!(out, "  - name: livestream_{service}\n    rules:\n");
        for (_, about) in all().into_iter().filter(|(of, _)| *of == service) {
            about.levels.iter().for_each(|level| out.push_str(&rule(service, about, level)));
        }
    }
    out
}

#[test]
fn the_table_in_the_documentation_says_what_the_rules_do() {
    let page = read("docs/OPERATIONS.md");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the marker");
    let (_, after) = rest.split_once(END).expect("the page has the marker of the end");
    compare("docs/OPERATIONS.md", &format!("{before}{BEGIN}{}{END}{after}", table()));
}

#[test]
fn the_rules_for_prometheus_are_those_of_the_services() {
    compare("deploy/prometheus/rules.yml", &rules());
}

#[test]
fn every_rule_has_a_name_of_its_own_and_a_heading_that_says_what_to_do() {
    let page = read("docs/OPERATIONS.md");
    let slug = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.replace(' ', "-").replace(['?', '`', ','], "")
    };
    let headings: BTreeSet<_> = page.lines().filter(|line| line.starts_with('#')).map(slug).collect();
    let rules = all();
    let names: BTreeSet<_> = rules.iter().map(|(_, about)| about.name).collect();
    assert!(rules.len() > 25 && names.len() == rules.len(), "{} of {}", names.len(), rules.len());
    for (service, about) in rules {
        assert!(headings.contains(about.anchor), "{}: no heading {}", about.name, about.anchor);
        let prefix = format!("livestream_{service}_");
        assert!(about.figures.iter().all(|figure| figure.starts_with(&prefix)), "{}", about.name);
        let levels = about.levels;
        assert!(!levels.is_empty() && levels.is_sorted_by_key(|level| level.severity), "{}", about.name);
        assert!(levels.iter().all(|level| level.above >= about.ends), "{} cannot end", about.name);
    }
    assert_eq!(span(Span::parse("90m").unwrap().0), "90m");
}
