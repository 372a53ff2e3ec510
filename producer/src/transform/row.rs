//! Writes the cells of a row in table order, `~` between them.

use super::cell;
use super::convert::{Converter, Done};
use super::plan::Plan;
use super::stats::Stats;
use super::walk::Spans;

/// Appends one line. Most columns of a wide table are empty: their delimiters are written in one go.
pub(super) fn emit(
    plan: &Plan,
    text: &str,
    spans: &Spans,
    converter: &mut Converter,
    stats: &mut Stats,
    row: &mut Vec<u8>,
) {
    row.reserve(text.len() + plan.columns + 1);
    // The column the row's end stands in, whether it has its value, and whether an earlier spelling was nulled.
    let (mut column, mut filled, mut nulled) = (0, false, false);
    for target in spans.iter() {
        let Some(candidate) = plan.candidates.get(target) else { break };
        if candidate.column != column {
            row.resize(row.len() + candidate.column - column, cell::DELIMITER);
            (column, filled, nulled) = (candidate.column, false, false);
        } else if filled {
            continue;
        }
        let Some(raw) = spans.get(target, text) else { continue };
        let counts = stats.column(column);
        match converter.convert(candidate.convert, raw, row, counts) {
            Done::Written => {
                filled = true;
                // The value is there after all.
                counts.nulled -= u64::from(nulled);
            }
            Done::Empty => {}
            Done::Null => {
                counts.nulled += u64::from(!nulled);
                nulled = true;
            }
        }
    }
    row.resize(row.len() + plan.columns.saturating_sub(column + 1), cell::DELIMITER);
    if plan.columns == 1 && !filled {
        // CSV readers skip an empty line.
        row.extend_from_slice(b"\"\"");
    }
    row.push(b'\n');
}
