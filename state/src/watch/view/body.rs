//! The lower half: batches, gaps, quarantine, components, or one batch.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use shared::human::{ago, bytes, count, counted, duration};

use super::head::named;
use super::style::Palette;
use crate::inspect::columns;
use crate::inspect::dump::{BatchLine, describe, refused, under_way};
use crate::watch::model::{Model, Tab};
use crate::watch::stages::Tone;

/// Columns that a batch id takes, whole and shortened as `--batch` takes it.
const ID: u16 = 36;
const SHORT_ID: u16 = 18;
/// Screens that are narrower shorten ids, and leave out columns.
const WIDE: u16 = 110;
const NARROW: u16 = 70;

/// The tabs, with how much is in each.
pub(super) fn tabs(model: &Model, palette: Palette) -> Line<'static> {
    let gaps = model.dump.producer.snapshot.as_ref().map_or(0, |producer| producer.gaps.totals.gaps);
    let loads = model.dump.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
    let quarantined: u64 = loads.map(|load| load.quarantined).sum();
    let failing = model.dump.components().iter().filter(|status| status.failing.is_some()).count();
    let batches = if model.only_pending { "pending" } else { "batches" };
    let labels = [
        (Tab::Batches, format!("1 {batches} {}", count(model.lines.len() as u64))),
        (Tab::Alerts, format!("2 alerts {}", model.dump.alerts().len())),
        (Tab::Gaps, format!("3 gaps {}", count(gaps))),
        (Tab::Quarantine, format!("4 quarantine {}", count(quarantined))),
        (
            Tab::Components,
            format!("5 components{}", if failing > 0 { format!(" {failing}✗") } else { String::new() }),
        ),
    ];
    let mut spans = Vec::new();
    for (tab, label) in labels {
        let style = if tab == model.tab { palette.selected() } else { palette.bold() };
        spans.extend([Span::styled(format!(" {label} "), style), Span::raw(" ")]);
    }
    Line::from(spans)
}

pub(super) fn tab(frame: &mut Frame<'_>, model: &mut Model, palette: Palette, area: Rect) {
    match model.tab {
        Tab::Batches if model.lines.is_empty() => {
            let none = if model.only_pending { "nothing is pending" } else { "no batches" };
            text(frame, model, palette, none, area);
        }
        Tab::Batches => batches(frame, model, palette, area),
        Tab::Alerts => text(frame, model, palette, &alerts(model), area),
        Tab::Gaps => text(frame, model, palette, &gaps(model), area),
        Tab::Quarantine => text(frame, model, palette, &quarantine(model), area),
        Tab::Components => text(frame, model, palette, &components(model), area),
    }
}

fn batches(frame: &mut Frame<'_>, model: &mut Model, palette: Palette, area: Rect) {
    let (wide, narrow) = (area.width >= WIDE, area.width < NARROW);
    let now = model.now;
    let rows = model.lines.iter().map(|line| batch(line, now, palette, wide, narrow));
    let mut widths = vec![Constraint::Length(if wide { ID } else { SHORT_ID }), Constraint::Length(9)];
    let mut head = vec!["batch", "state"];
    if !narrow {
        widths.extend([Constraint::Length(7), Constraint::Length(9), Constraint::Length(9)]);
        head.extend(["  files", "     rows", "    bytes"]);
    }
    widths.extend([Constraint::Length(6), Constraint::Fill(1)]);
    head.extend(["   age", "load"]);
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(palette.dim()))
        .column_spacing(1)
        .row_highlight_style(palette.selected());
    frame.render_stateful_widget(table, area, &mut model.table);
}

fn batch(line: &BatchLine, now: DateTime<Utc>, palette: Palette, wide: bool, narrow: bool) -> Row<'static> {
    let id = line.batch.to_string();
    let id = if wide { id } else { id.chars().take(SHORT_ID.into()).collect() };
    let mut cells = vec![Cell::from(id), Cell::from(line.state)];
    if !narrow {
        let (files, rows, size) = (&line.files, count(line.rows), bytes(line.bytes));
        cells.extend([
            Cell::from(format!("{files:>7}")),
            Cell::from(format!("{rows:>9}")),
            Cell::from(format!("{size:>9}")),
        ]);
    }
    let (age, load) = (ago(line.opened, now), line.load);
    let alert = if line.alert { "ALERT " } else { "" };
    // What is done says more than the state, which it begins with while it loads.
    let told = match &line.more {
        Some(more) if more.starts_with(load) => more.clone(),
        Some(more) => format!("{load} {alert}{more}"),
        None => load.to_owned(),
    };
    let style = match (line.alert, load) {
        (true, _) => palette.of(Tone::Fails),
        (false, "retrying" | "paused") => palette.of(Tone::Waits),
        _ if line.pending => ratatui::style::Style::new(),
        _ => palette.dim(),
    };
    cells.extend([Cell::from(format!("{age:>6}")), Cell::from(told)]);
    Row::new(cells).style(style)
}

fn alerts(model: &Model) -> String {
    let alerts = model.dump.alerts();
    if alerts.is_empty() {
        return "no alert stands".to_owned();
    }
    let mut out = Vec::new();
    for alert in alerts {
        let sign = Tone::of_severity(alert.severity).sign();
        let (severity, since) = (alert.severity.name(), ago(alert.since, model.now));
        out.push(format!("{sign} {}  {severity} for {since}: {}", alert.name, alert.says));
        out.extend(alert.batch.map(|batch| format!("    batch {batch}")));
        out.extend([format!("    {}", alert.detail), format!("    {}", alert.todo)]);
        out.push(format!("    docs/OPERATIONS.md#{}", alert.docs));
    }
    out.join("\n")
}

fn gaps(model: &Model) -> String {
    let Some(producer) = &model.dump.producer.snapshot else { return "not known".to_owned() };
    let totals = &producer.gaps.totals;
    if totals.gaps == 0 {
        return "no gap since the log was created".to_owned();
    }
    let sum = duration(Duration::from_secs(totals.seconds));
    let mut out = vec![format!(
        "{}, {sum} together; hits received in them are missing",
        counted(totals.gaps, "gap", "gaps")
    )];
    out.extend(producer.gaps.list.iter().rev().map(|gap| {
        let (from, to) = (gap.from.format("%m-%d %H:%M:%S"), gap.to.format("%m-%d %H:%M:%S"));
        let (length, why) = (ago(gap.from, gap.to), gap.why.as_deref().unwrap_or("unknown"));
        format!("{from} to {to} UTC ({length}) before session {}: {why}", gap.session)
    }));
    let older = totals.gaps.saturating_sub(producer.gaps.list.len() as u64);
    if older > 0 {
        out.push(format!(
            "and {} of which the log has forgotten when",
            counted(older, "older one", "older ones")
        ));
    }
    out.join("\n")
}

fn quarantine(model: &Model) -> String {
    let loads = model.dump.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
    let quarantined: Vec<_> = loads.filter(|load| load.quarantined > 0).collect();
    if quarantined.is_empty() {
        return "no rows in quarantine".to_owned();
    }
    let mut out = vec!["Redshift refused these rows; `ingester replay --help` says what to do".to_owned()];
    for load in quarantined.iter().rev() {
        let (rows, of) = (count(load.quarantined), counted(load.rows, "row", "rows"));
        out.push(format!("{}  {rows} of {of}", load.batch));
        let first = load.quarantine.as_ref().and_then(|quarantine| quarantine.first.as_ref());
        out.extend(first.map(|first| format!("    {}", refused(first))));
    }
    out.join("\n")
}

fn components(model: &Model) -> String {
    let now = model.now;
    let mut out = Vec::new();
    for status in model.dump.components() {
        let name = named(&status);
        match (&status.failing, &status.step) {
            (Some(failing), _) => {
                out.push(format!("✗ {name:12}{}", describe(status.component, failing, now)));
                out.push(format!("    {}", failing.why));
            }
            (None, None) => out.push(format!("● {name:12}waits for work")),
            (None, Some(_)) => {}
        }
        if let Some(step) = &status.step {
            out.push(format!("● {name:12}{} for {}", under_way(step, now), ago(step.since, now)));
        }
    }
    if out.is_empty() {
        return "no service runs".to_owned();
    }
    out.join("\n")
}

/// A text, folded to the width and scrolled.
pub(super) fn text(frame: &mut Frame<'_>, model: &mut Model, palette: Palette, text: &str, area: Rect) {
    let fitted = columns::fit(text, usize::from(area.width.max(20)));
    let tone = |line: &str| match columns::tone(line) {
        Some(columns::Tone::Red) => palette.of(Tone::Fails),
        Some(columns::Tone::Yellow) => palette.of(Tone::Waits),
        None => ratatui::style::Style::new(),
    };
    let lines: Vec<_> = fitted.lines().map(|line| Line::styled(line.to_owned(), tone(line))).collect();
    let most = lines.len().saturating_sub(usize::from(area.height));
    model.scroll = model.scroll.min(u16::try_from(most).unwrap_or(u16::MAX));
    frame.render_widget(Paragraph::new(lines).scroll((model.scroll, 0)), area);
}
