//! The samples as a picture: a strip for each quantity, all pieces one behind the other, readable on light and dark pages.

use std::fmt::Write;

use super::sample::{Sample, Series};

const WIDTH: f64 = 820.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const STRIP: f64 = 54.0;
const LINE: f64 = 40.0;
const FOOT: f64 = 26.0;

/// With a page of its own, since the page around it may be dark where the reader asks for light, or the reverse.
const STYLE: &str = ".page { fill: #ffffff } text { font: 13px system-ui, sans-serif; fill: #1f2328 } \
    path { fill: none; stroke: #0969da; stroke-width: 1.2 } line { stroke: #8c959f; stroke-width: 0.6 } \
    @media (prefers-color-scheme: dark) { .page { fill: #0d1117 } text { fill: #e6edf3 } path { stroke: #4493f8 } }";

pub(super) fn svg(all: &[Sample]) -> String {
    let height = STRIP * Series::ALL.len() as f64 + FOOT;
    let times = times(all);
    let end = times.last().copied().unwrap_or(0.0).max(1.0);
    let x = |time: f64| LEFT + (WIDTH - LEFT - RIGHT) * time / end;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>What the services take of the machine, hour by hour</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n"
    );
    for (number, series) in Series::ALL.iter().enumerate() {
        let bottom = STRIP * number as f64 + 8.0 + LINE;
        let most = all.iter().map(|sample| series.of(sample)).fold(f64::MIN_POSITIVE, f64::max);
        let y = |value: f64| bottom - LINE * value / most;
        text(&mut out, 10.0, bottom - LINE / 2.0 + 4.0, series.name());
        text(&mut out, WIDTH - RIGHT + 8.0, y(most) + 9.0, &format!("{most:.0}"));
        text(&mut out, WIDTH - RIGHT + 8.0, bottom, "0");
        let _ =
            writeln!(out, "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>", WIDTH - RIGHT);
        let mut path = String::new();
        for (at, (sample, time)) in all.iter().zip(&times).enumerate() {
            let begins = at == 0 || all[at - 1].piece != sample.piece;
            let _ =
                write!(path, "{}{:.1} {:.1}", if begins { 'M' } else { 'L' }, x(*time), y(series.of(sample)));
        }
        let _ = writeln!(out, "<path d=\"{path}\"/>");
    }
    for (at, time) in times.iter().enumerate().skip(1).filter(|(at, _)| all[at - 1].piece != all[*at].piece) {
        let (x, bottom) = (x(*time), height - FOOT);
        let _ = writeln!(out, "<line x1=\"{x:.1}\" y1=\"4\" x2=\"{x:.1}\" y2=\"{bottom}\"/>");
        text(&mut out, x + 3.0, height - 8.0, &format!("piece {}", all[at].piece + 1));
    }
    text(&mut out, LEFT, height - 8.0, "0 h");
    text(&mut out, WIDTH - RIGHT + 8.0, height - 8.0, &format!("{:.1} h", end / 3_600.0));
    out.push_str("</svg>\n");
    out
}

/// The time of each sample if the pieces had followed each other.
fn times(all: &[Sample]) -> Vec<f64> {
    let (mut before, mut last) = (0.0, None::<Sample>);
    let time = |sample: &Sample| {
        if let Some(last) = last.filter(|last| last.piece != sample.piece) {
            before += last.at;
        }
        last = Some(*sample);
        before + sample.at
    };
    all.iter().map(time).collect()
}

fn text(out: &mut String, x: f64, y: f64, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
}
