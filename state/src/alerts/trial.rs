//! `state alerts test`: one message to each target, and what it answered.

use std::io::Write;

use shared::clock::Clock;
use shared::config::{AlertKind, AlertTarget, Config, Severity};
use shared::exit::{Exit, Failure};
use shared::report::{Outcome, Report, failed};

use crate::alerts::message::{Origin, body};
use crate::alerts::outbox::{Due, Event};
use crate::alerts::send::Sender;
use crate::alerts::task::known_names;
use crate::status::alert::Alert;

/// Sends a test message to every target, or to the one that is called so, and reports the answers.
pub async fn trial(
    config: &Config,
    only: Option<&str>,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let targets = config.alert_targets.iter().filter(|target| only.is_none_or(|only| only == target.name));
    let targets: Vec<_> = targets.collect();
    if targets.is_empty() {
        let (exit, text) = match only {
            None => (
                Exit::Config,
                "no [[alert_target]] is configured: docs/CONFIGURATION.md has its keys".to_owned(),
            ),
            Some(only) => (Exit::NoInput, format!("no [[alert_target]] has the name {only:?}")),
        };
        return Err(Failure::new(exit, anyhow::anyhow!(text)));
    }
    let (sender, origin) = (Sender::new(&config.s3.egress)?, Origin::new("state", config));
    let mut report = Report::new(out);
    for target in targets {
        let outcome = try_one(target, &sender, &origin, config, clock).await;
        report.line(&format!("{} ({})", target.name, target.kind.name()), outcome)?;
    }
    report.line("alerts", known_names(config).map(|()| links(&config.alerts.docs)).map_err(failed))?;
    report.end()
}

fn links(docs: &str) -> String {
    let named = format!("each names {docs} with its heading");
    if docs.starts_with("https://") {
        return named;
    }
    format!(
        "{named}, which opens nothing on a phone: set alerts.docs to the https address where your people read it"
    )
}

async fn try_one(
    target: &AlertTarget,
    sender: &Sender,
    origin: &Origin,
    config: &Config,
    clock: &Clock,
) -> Outcome {
    let now = clock.wall();
    let alert = Alert {
        name: "test".to_owned(),
        severity: Severity::Warning,
        since: now,
        rounds: 0,
        batch: None,
        says: "this is a test, and nothing is wrong".to_owned(),
        detail: String::new(),
        todo: "nothing".to_owned(),
        docs: format!("{}#alerts", config.alerts.docs),
    };
    let mut due = Due { event: Event::Test, alert, ended: None };
    let send = async |due: &Due| {
        let sent = sender.post(target, &body(target, origin, due, now)).await;
        sent.map_err(|why| (why.exit, format!("{why}")))
    };
    let answer = send(&due).await?;
    if target.kind == AlertKind::PagerDuty {
        // Leaves no incident behind.
        (due.event, due.ended) = (Event::Resolved, Some(now));
        send(&due).await?;
    }
    Ok(format!("answered {answer}"))
}
