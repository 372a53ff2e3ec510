//! Where everything stands.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::style::Palette;
use super::{body, head};
use crate::watch::model::{Model, Opened};

/// Smaller screens have the pipeline in one line.
const BOXES_WIDTH: u16 = 68;
const BOXES_HEIGHT: u16 = 20;
/// Of a large screen, what is wrong has one line in so many.
const PROBLEMS: usize = 5;

const HELP: &str = "\
↑ ↓ j k          select a batch, or scroll
PgUp PgDn g G    a screen up or down, first, last
Enter            open the batch: its timeline, its files, its last errors
Esc              back
1 2 3 4 5, Tab   batches, alerts, gaps, quarantine, components
p                show only pending batches, or all
r                read again the database of a service that does not run
?                this help
q Ctrl-C         quit

The signs: ● works  ▲ waits  ✗ fails  ○ does not run
The database of a service that does not run is read once: another process must not hold it when the service starts.
What to do when something is wrong: docs/OPERATIONS.md";

/// Draws everything.
pub(in crate::watch) fn draw(frame: &mut Frame<'_>, model: &mut Model, palette: Palette) {
    let area = frame.area();
    let small = area.width < BOXES_WIDTH || area.height < BOXES_HEIGHT;
    let room = usize::from(area.height);
    let top = if small { vec![head::title(model, palette)] } else { head::services(model, palette) };
    let summary = head::summary(model);
    let most = if small { (room / 8).min(2) } else { room / PROBLEMS };
    let problems = head::problems(model, palette, most, small, area.width);
    let lines = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let [top_area, pipeline_area, summary_area, problem_area, tab_area, body_area, foot_area] =
        Layout::vertical([
            lines(top.len()),
            lines(if small { 1 } else { 5 }),
            lines(usize::from(room > 4)),
            lines(problems.len()),
            lines(usize::from(room > 6)),
            Constraint::Min(0),
            lines(usize::from(room > 8)),
        ])
        .areas(area);
    frame.render_widget(Paragraph::new(top), top_area);
    if small {
        frame.render_widget(head::pipeline_line(model, palette), pipeline_area);
    } else {
        head::pipeline_boxes(frame, model, palette, pipeline_area);
    }
    frame.render_widget(summary, summary_area);
    frame.render_widget(Paragraph::new(problems), problem_area);
    frame.render_widget(body::tabs(model, palette), tab_area);
    model.page = body_area.height;
    if model.help {
        body::text(frame, model, palette, HELP, body_area);
    } else if let Some(Opened { text, .. }) = &model.opened {
        let text = text.clone().unwrap_or_else(|| "reading …".to_owned());
        body::text(frame, model, palette, &text, body_area);
    } else {
        body::tab(frame, model, palette, body_area);
    }
    frame.render_widget(Line::styled(foot(model), palette.dim()), foot_area);
}

fn foot(model: &Model) -> &'static str {
    match (&model.opened, model.help) {
        (_, true) => "Esc back · q quit",
        (Some(_), _) => "↑↓ scroll · Esc back · q quit · ? help",
        (None, _) if model.only_pending => {
            "↑↓ select · Enter open · p all batches · 1-5 Tab · ? help · q quit"
        }
        (None, _) => "↑↓ select · Enter open · p only pending · 1-5 Tab · ? help · q quit",
    }
}
