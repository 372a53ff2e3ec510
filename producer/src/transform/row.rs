//! Writes the cells of a row in table order, `~` between them, and applies the rules of the columns.

use crate::transform::cell;
use crate::transform::convert::{Converter, Done, Out};
use crate::transform::outcome::{ColumnCounts, Full, Reject, Stats};
use crate::transform::plan::{Candidate, Plan};
use crate::transform::spans::Spans;
use shared::schema::Rule;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// Its cell is written; what had to be altered, the rule being to cut, is counted.
    Written(ColumnCounts),
    /// Its cell is written as it was sent, and is as long as it can be.
    Full(Full),
    /// There is no value: the cell stays empty. What was altered may be all there was, such as a NUL.
    Empty(ColumnCounts),
    /// The type cannot hold it as it was sent, and the rule is not to cut, or it cannot be cut.
    Misfit,
}

/// Appends the cell of a value under the rule of its column. `invalid` characters of it stand for bytes that were no
/// UTF-8.
pub(super) fn store(
    candidate: Candidate,
    (raw, escaped): (&str, bool),
    invalid: u64,
    converter: &mut Converter,
    row: &mut Vec<u8>,
) -> Stored {
    let start = row.len();
    let mut altered = ColumnCounts { invalid, ..ColumnCounts::default() };
    let mut out = Out { row, counts: &mut altered };
    let done = converter.convert(candidate.convert, raw, escaped, &mut out);
    let stored = match done {
        Done::Null => Stored::Misfit,
        Done::Written | Done::Full(_) | Done::Empty if !altered.is_zero() && candidate.rule != Rule::Cut => {
            Stored::Misfit
        }
        Done::Full(full) if altered.is_zero() => return Stored::Full(full),
        Done::Written | Done::Full(_) => return Stored::Written(altered),
        Done::Empty => Stored::Empty(altered),
    };
    row.truncate(start);
    stored
}

/// Appends one line. Most columns of a wide table are empty: their delimiters are written in one go.
pub(super) fn emit(
    plan: &Plan,
    text: &str,
    spans: &Spans,
    converter: &mut Converter,
    stats: &mut Stats,
    row: &mut Vec<u8>,
) -> Result<(), Reject> {
    row.reserve(text.len() + plan.columns + 1);
    let start = row.len();
    // The column at the end of the row, whether it has its value, and the rule by which a value of another path was not
    // stored. That counts even if this path has a value, because something that was sent is not stored.
    let (mut column, mut filled, mut misfit) = (0, false, None);
    for target in spans.iter() {
        let Some(candidate) = plan.candidates.get(target) else { break };
        if candidate.column != column {
            if let Some(rule) = misfit.take() {
                stats.misfit(column, rule)?;
            }
            row.resize(row.len() + candidate.column - column, cell::DELIMITER);
            (column, filled) = (candidate.column, false);
        } else if filled {
            continue;
        }
        let Some(value) = spans.get_marked(target, text) else { continue };
        let altered = match store(*candidate, value, spans.replaced(target), converter, row) {
            Stored::Written(altered) => {
                filled = true;
                stats.filled(column);
                altered
            }
            Stored::Full(full) => {
                filled = true;
                stats.filled(column);
                stats.full(column, full);
                continue;
            }
            Stored::Empty(altered) => altered,
            Stored::Misfit => {
                misfit = Some(candidate.rule);
                continue;
            }
        };
        if !altered.is_zero() {
            stats.altered(column, altered);
        }
    }
    if let Some(rule) = misfit {
        stats.misfit(column, rule)?;
    }
    row.resize(row.len() + plan.columns.saturating_sub(column + 1), cell::DELIMITER);
    if row.len() == start {
        // CSV readers skip an empty line.
        row.extend_from_slice(b"\"\"");
    }
    row.push(b'\n');
    Ok(())
}
