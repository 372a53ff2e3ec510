//! The figures as a picture: bars, in SVG, readable on light and dark pages.

use std::fmt::Write as _;

use shared::human::count;

use crate::Compared;
use crate::way::{Kind, Way};

const WIDTH: f64 = 820.0;
/// Where bars begin, and the longest of them.
const LEFT: f64 = 250.0;
const LONGEST: f64 = 330.0;
const LINE: f64 = 26.0;
const BAR: f64 = 17.0;
/// Room for the heading of a schema.
const HEADING: f64 = 40.0;

/// With a page of its own, since the page around it may be dark where the reader asks for light, or the reverse.
const STYLE: &str = ".page { fill: #ffffff } \
    text { font: 14px system-ui, sans-serif; fill: #1f2328 } .h { font-weight: 600 } \
    .limit { fill: #8c959f } .ours { fill: #0969da } .python { fill: #bf8700 } \
    @media (prefers-color-scheme: dark) { .page { fill: #0d1117 } \
    text { fill: #e6edf3 } .ours { fill: #4493f8 } .python { fill: #d29922 } }";

/// Records a second of each way, a group of bars for each schema.
pub(crate) fn svg(all: &[Compared]) -> String {
    let lines: usize = all.iter().map(|compared| compared.ways.len()).sum();
    let height = HEADING * all.len() as f64 + LINE * lines as f64 + 10.0;
    let most = all.iter().flat_map(|compared| &compared.ways).map(Way::rate).fold(0.0, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Records a second, from stream to S3</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n"
    );
    let mut y = 0.0;
    for compared in all {
        y += HEADING;
        let heading = format!("{} columns, records a second", count(compared.columns as u64));
        text(&mut out, 10.0, y - 12.0, "h", &heading);
        let inflation = compared.ways[0].rate();
        for way in &compared.ways {
            bar(&mut out, y, way, most, inflation);
            y += LINE;
        }
    }
    out.push_str("</svg>\n");
    out
}

#[allow(clippy::cast_sign_loss, reason = "a rate is above zero")]
fn bar(out: &mut String, y: f64, way: &Way, most: f64, inflation: f64) {
    let (rate, middle) = (way.rate(), y + BAR - 4.0);
    let length = f64::max(LONGEST * rate / most, 1.0);
    text(out, 10.0, middle, "", &way.kind.name());
    let class = match way.kind {
        Kind::Inflation | Kind::Decoding => "limit",
        Kind::Producer(_) => "ours",
        Kind::Python => "python",
    };
    // Writing into a text cannot fail.
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    );
    let value = format!("{} ({:.2} of inflation)", count(rate.round() as u64), rate / inflation);
    text(out, LEFT + length + 8.0, middle, "", &value);
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
}
