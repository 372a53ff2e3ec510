//! What becomes of one record, column by column, by the same steps as for a row.

use serde::Serialize;
use shared::schema::{Column, Rule, Schema};

use crate::transform::mend::Mended;
use crate::transform::outcome::{ColumnCounts, Reject};
use crate::transform::plan::Candidate;
use crate::transform::record::{Transform, read};
use crate::transform::row::{Stored, store};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Explained {
    pub(crate) column: String,
    /// The path whose value is stored; or, if none is, the first that leads to a value.
    pub(crate) path: Option<String>,
    pub(crate) raw: Option<String>,
    /// The value as Redshift stores it; none is NULL.
    pub(crate) stored: Option<String>,
    pub(crate) applied: Option<String>,
}

impl Transform {
    /// Every column of a row, for the record in `line`. `schema` is the one the transform was made for.
    pub(crate) fn explain(&mut self, schema: &Schema, line: &[u8]) -> Result<Vec<Explained>, Reject> {
        let mut mended = Mended::default();
        let text = read(&self.plan, line, self.invalid_text, &mut self.spans, &mut mended)?;
        let columns = schema.in_row().enumerate();
        Ok(columns.map(|(number, column)| self.explain_column(number, column, text)).collect())
    }

    fn explain_column(&mut self, number: usize, column: &Column, text: &str) -> Explained {
        let mut explained =
            Explained { column: column.name.clone(), path: None, raw: None, stored: None, applied: None };
        let all = self.plan.candidates.iter().copied().enumerate();
        let candidates: Vec<(usize, Candidate)> = all.filter(|(_, one)| one.column == number).collect();
        for (no, (target, candidate)) in candidates.into_iter().enumerate() {
            let Some(value) = self.spans.get_marked(target, text) else { continue };
            let mut cell = Vec::new();
            let invalid = self.spans.replaced(target);
            let stored = store(candidate, value, invalid, &mut self.converter, &mut cell);
            let is_written = matches!(stored, Stored::Written(_));
            if is_written || explained.raw.is_none() {
                explained.path = column.paths.get(no).map(ToString::to_string);
                explained.raw = column.kind.is_from_record().then(|| value.0.to_owned());
                explained.applied = match stored {
                    Stored::Written(altered) | Stored::Empty(altered) => describe(&altered, column),
                    Stored::Misfit => {
                        let then =
                            if column.rule == Rule::Reject { "the record is a reject" } else { "NULL" };
                        let (rule, sql_type) = (column.rule, column.sql_type);
                        Some(format!("{rule}: {sql_type} cannot hold it as it was sent, so {then}"))
                    }
                };
            }
            if is_written {
                explained.stored = Some(unquoted(&cell));
                break;
            }
        }
        explained
    }
}

/// What the rule `cut` did to a value.
fn describe(altered: &ColumnCounts, column: &Column) -> Option<String> {
    let ColumnCounts { cut, rounded, nuls, delimiters, replaced, invalid, .. } = *altered;
    let kinds = [
        (cut, format!("cut to {}", column.sql_type)),
        (rounded, format!("rounded to {}", column.sql_type)),
        (nuls, format!("{nuls} NUL left out")),
        (delimiters, "joined by a comma, its delimiter is none".to_owned()),
        (replaced, format!("{replaced} half of a surrogate pair replaced by U+FFFD")),
        (invalid, format!("{invalid} invalid UTF-8 replaced by U+FFFD")),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect();
    (!kinds.is_empty()).then(|| format!("cut: {}", kinds.join(", ")))
}

fn unquoted(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => text.into_owned(),
    }
}
