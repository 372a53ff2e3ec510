//! The upper half: the services, the pipeline as it flows, and what is wrong.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};
use shared::clock;
use shared::human::{ago, count, counted, time};

use super::style::Palette;
use crate::inspect::columns;
use crate::inspect::dump::{describe, held_back, under_way};
use crate::status::activity::ComponentStatus;
use crate::watch::model::{Contact, Model};
use crate::watch::stages::{Stage, Tone, newest_loaded, stages};

/// A step that takes longer is worth a line.
const LONG: Duration = Duration::from_secs(30);

/// The name of the instance and the time.
pub(super) fn title(model: &Model, palette: Palette) -> Line<'static> {
    let instance = model.dump.producer.snapshot.as_ref().map(|producer| producer.instance.to_string());
    let at = time(model.now);
    let instance = instance.map(|instance| format!("  {instance}")).unwrap_or_default();
    Line::from(vec![Span::styled("livestream", palette.bold()), Span::raw(format!("{instance}  {at}"))])
}

/// The title, and how both services stand.
pub(super) fn services(model: &Model, palette: Palette) -> Vec<Line<'static>> {
    let now = model.now;
    let producer = service("producer", &model.producer.contact(now), now, palette);
    let ingester = service("ingester", &model.ingester.contact(now), now, palette);
    vec![title(model, palette), producer, ingester]
}

fn service(name: &str, contact: &Contact, now: DateTime<Utc>, palette: Palette) -> Line<'static> {
    let (tone, text) = contact_in_words(contact, now);
    Line::from(vec![Span::raw(format!("{name}  ")), palette.signed(tone, &text)])
}

fn contact_in_words(contact: &Contact, now: DateTime<Utc>) -> (Tone, String) {
    match contact {
        Contact::Asking => (Tone::Gone, "is being asked".to_owned()),
        Contact::Running { pid } => (Tone::Fine, format!("running, process {pid}")),
        Contact::Silent { since: Some(since), why } => {
            let (at, ago) = (since.format("%H:%M:%S"), ago(*since, now));
            (Tone::Fails, format!("no answer since {at} UTC ({ago}): {why}"))
        }
        Contact::Silent { since: None, why } => (Tone::Fails, format!("no answer: {why}")),
        Contact::Stopped { since, read } => {
            let since = since.map(|since| format!(" since {} ({})", time(since), ago(since, now)));
            let read = read
                .map(|read| format!("; its database as read at {}, r reads again", read.format("%H:%M:%S")));
            (Tone::Gone, format!("not running{}{}", since.unwrap_or_default(), read.unwrap_or_default()))
        }
        Contact::NeverRan => (Tone::Gone, "never ran with this configuration".to_owned()),
    }
}

/// The pipeline as four boxes with arrows between them.
pub(super) fn pipeline_boxes(frame: &mut Frame<'_>, model: &Model, palette: Palette, area: Rect) {
    let fill = Constraint::Fill(1);
    let arrow = Constraint::Length(3);
    let areas: [Rect; 7] = Layout::horizontal([fill, arrow, fill, arrow, fill, arrow, fill]).areas(area);
    for (at, stage) in stages(model).iter().enumerate() {
        if let Some(area) = areas.get(2 * at) {
            stage_box(frame, stage, palette, *area);
        }
    }
    for area in areas.iter().skip(1).step_by(2) {
        let middle = Rect { y: area.y + area.height / 2, height: area.height.min(1), ..*area };
        frame.render_widget(Line::from("→").alignment(Alignment::Center), middle);
    }
}

fn stage_box(frame: &mut Frame<'_>, stage: &Stage, palette: Palette, area: Rect) {
    let Stage { name, tone, state, rate, backlog } = stage;
    let lines =
        vec![Line::from(palette.signed(*tone, state)), Line::raw(rate.clone()), Line::raw(backlog.clone())];
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(if *tone == Tone::Fine { palette.dim() } else { palette.of(*tone) })
        .title(Span::styled(format!(" {name} "), palette.bold()));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// The same in one line.
pub(super) fn pipeline_line(model: &Model, palette: Palette) -> Line<'static> {
    let mut spans = Vec::new();
    for stage in stages(model) {
        if !spans.is_empty() {
            spans.push(Span::raw(" → "));
        }
        spans.push(Span::raw(format!("{} ", stage.name)));
        spans.push(palette.signed(stage.tone, &stage.state));
    }
    Line::from(spans)
}

/// What is pending, and how far the table is behind.
pub(super) fn summary(model: &Model) -> Line<'static> {
    let pending = model.dump.pending;
    let mut text = match pending.batches {
        0 => "nothing is pending".to_owned(),
        batches => {
            let rows = counted(pending.rows, "row", "rows");
            format!("pending  {}, {rows}", counted(batches, "batch", "batches"))
        }
    };
    let all = model.dump.batch_lines();
    if let Some(oldest) = all.iter().find(|line| line.pending) {
        text.push_str(&format!(", the oldest {} old", ago(oldest.opened, model.now)));
    }
    if let Some(newest) = newest_loaded(&model.dump) {
        text.push_str(&format!("; the table ends {} ago", ago(newest, model.now)));
    }
    Line::raw(text)
}

/// What is wrong, the most urgent first, in so many lines at most. On a large screen a reason may take a second line.
pub(super) fn problems(
    model: &Model,
    palette: Palette,
    most: usize,
    small: bool,
    width: u16,
) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(SIGN.len());
    let each = if small { 1 } else { 2 };
    let mut folded: Vec<Vec<Line<'static>>> = Vec::new();
    for (tone, text) in found(model, small) {
        let lines = columns::wrapped(&text, room, each).into_iter().enumerate();
        let line = |(at, text): (usize, String)| match at {
            0 => Line::from(palette.signed(tone, &text)),
            _ => Line::styled(format!("{SIGN}{text}"), palette.of(tone)),
        };
        folded.push(lines.map(line).collect());
    }
    if folded.iter().map(Vec::len).sum::<usize>() <= most {
        return folded.concat();
    }
    let (mut lines, mut shown) = (Vec::new(), 0);
    for problem in &folded {
        if lines.len() + problem.len() >= most {
            break;
        }
        lines.extend(problem.iter().cloned());
        shown += 1;
    }
    if most > 0 {
        let hidden = count((folded.len() - shown) as u64);
        lines.push(Line::raw(format!("{SIGN}… {hidden} more: 2 shows the alerts, 5 the components")));
    }
    lines
}

/// Takes the place of a sign.
const SIGN: &str = "  ";

fn found(model: &Model, small: bool) -> Vec<(Tone, String)> {
    let now = model.now;
    let mut found: Vec<(Tone, String)> = Vec::new();
    for status in model.dump.components() {
        found.extend(failing(&status, now).map(|text| (Tone::Fails, text)));
    }
    let alerting: Vec<_> = model.dump.batch_lines().into_iter().filter(|line| line.alert).collect();
    if let Some(first) = alerting.first() {
        let batches = counted(alerting.len() as u64, "batch fails", "batches fail");
        let why = first.more.as_deref().unwrap_or_default();
        found.push((Tone::Fails, format!("{batches} again and again, the oldest {}: {why}", first.batch)));
    }
    // A small screen has no lines for services that are well.
    for (name, contact) in
        [("producer", model.producer.contact(now)), ("ingester", model.ingester.contact(now))]
    {
        let (tone, text) = contact_in_words(&contact, now);
        if small && tone != Tone::Fine {
            found.push((tone, format!("{name} {text}")));
        }
    }
    found.extend(model.dump.alerts().into_iter().map(|alert| {
        let (severity, since) = (alert.severity.name(), ago(alert.since, now));
        (Tone::of_severity(alert.severity), format!("alert {severity} for {since}: {}", alert.says))
    }));
    if let Some(ingester) = &model.dump.ingester.snapshot {
        let paused = ingester.paused.as_ref();
        let paused = paused.map(|paused| format!("loading is paused {}", paused.describe()));
        let held = ingester.held_back.as_ref().map(held_back);
        found.extend(paused.into_iter().chain(held).map(|text| (Tone::Waits, text)));
    }
    for status in model.dump.components() {
        found.extend(slow(&status, now).map(|text| (Tone::Waits, text)));
    }
    found
}

/// The component by its name and number.
pub(super) fn named(status: &ComponentStatus) -> String {
    let number = status.number.map(|number| format!(" {number}")).unwrap_or_default();
    format!("{}{number}", status.component.name())
}

fn failing(status: &ComponentStatus, now: DateTime<Utc>) -> Option<String> {
    let failing = status.failing.as_ref()?;
    let why = failing.why.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(format!("{} {} {why}", named(status), describe(status.component, failing, now)))
}

fn slow(status: &ComponentStatus, now: DateTime<Utc>) -> Option<String> {
    let step = status.step.as_ref().filter(|step| clock::age(step.since, now) >= LONG)?;
    Some(format!("{} {} for {}", named(status), under_way(step, now), ago(step.since, now)))
}
