//! What became of each batch, for people.

use std::collections::BTreeMap;
use std::io::Write;

use shared::exit::{Exit, Failure};
use shared::human::{count, counted, line, shown};
use shared::ids::BatchId;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::quarantine::set::Refusal;
use crate::redshift::redact;

use super::batch::Ending;

/// Reasons, or batches, that are named at most.
pub(super) const NAMED: usize = 5;
/// Characters of a reason that are shown.
const REASON_CHARS: usize = 200;

/// Writes what became of a batch; the exit code it is worth, if it is not all loaded.
pub(super) fn report(
    out: &mut impl Write,
    batch: BatchId,
    ended: &Result<Ending, LoadFailure>,
) -> Result<Option<Exit>, Failure> {
    write!(out, "{batch}  ")?;
    match ended {
        Ok(Ending::Loaded { rows, known, left_over }) => {
            writeln!(
                out,
                "{} loaded{}, none is left in quarantine",
                counted(*rows, "row", "rows"),
                there(*known)
            )?;
            if let Some(failure) = left_over {
                writeln!(
                    out,
                    "    its objects there stay until `ingester reconcile` deletes them: {failure}"
                )?;
            }
            Ok(None)
        }
        Ok(Ending::Nothing) => {
            writeln!(out, "its rows were loaded before; its quarantine is tidied")?;
            Ok(None)
        }
        Ok(Ending::NotLoaded) => {
            writeln!(out, "is not loaded yet: the ingester loads it, and decides what stays in quarantine")?;
            Ok(Some(Exit::NoInput))
        }
        Ok(Ending::Refused { rows, known, left, reasons }) => {
            let (loaded, refused) = (counted(*rows, "row", "rows"), count(left.len() as u64));
            writeln!(out, "{loaded} loaded{}, {refused} still refused", there(*known))?;
            for (reason, rows) in common(left).into_iter().take(NAMED) {
                writeln!(out, "    {}: {reason}", counted(rows, "row", "rows"))?;
            }
            writeln!(out, "    each row's reason: {reasons}")?;
            Ok(Some(Exit::Data))
        }
        Err(failure) => {
            writeln!(out, "probably nothing was loaded; it is safe to retry: {failure}")?;
            Ok(Some(match failure.class {
                ErrorClass::Data => Exit::Data,
                ErrorClass::Configuration => Exit::Config,
                _ => Exit::Unavailable,
            }))
        }
    }
}

fn there(known: u64) -> String {
    if known == 0 { String::new() } else { format!(", {} were in the table already", count(known)) }
}

/// Reasons, the most frequent first. Values are not shown.
fn common(refusals: &[Refusal]) -> Vec<(String, u64)> {
    let mut counts = BTreeMap::<_, (u64, &Refusal)>::new();
    for refusal in refusals {
        counts.entry((refusal.column.as_deref(), refusal.code)).or_insert((0, refusal)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
    let text = |(rows, Refusal { column, code, reason, .. }): (u64, &Refusal)| {
        let column = column.as_deref().unwrap_or("(none named)");
        let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        (
            format!("column {}, code {code}: {}", shown(column), line(&redact::reason(reason), REASON_CHARS)),
            rows,
        )
    };
    counts.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_by_column_and_code() {
        let refusal = |column: &str, code| Refusal {
            file: "0.csv".to_owned(),
            row: 1,
            line: 1,
            column: Some(column.to_owned()),
            value: Some("secret".to_owned()),
            code: Some(code),
            reason: format!("reason {code}"),
        };
        let all = [refusal("a", 1204), refusal("b", 1213), refusal("b", 1213)];
        assert_eq!(
            common(&all),
            [
                ("column b, code 1213: reason 1213".to_owned(), 2),
                ("column a, code 1204: reason 1204".to_owned(), 1)
            ]
        );
        // Whoever writes to the bucket can write reasons.
        let odd = Refusal { reason: "\x1b[2Jowned\n".to_owned(), ..refusal("a\x07", 1) };
        assert_eq!(common(&[odd])[0].0, "column a\\u{7}, code 1:  [2Jowned ");
    }
}
