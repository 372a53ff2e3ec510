//! What becomes of one record, column by column: the same steps as for a row, looked at.

use crate::transform::mend::Mended;
use crate::transform::outcome::Reject;
use crate::transform::plan::Candidate;
use crate::transform::record::{Transform, read};
use crate::transform::row::{Stored, store};
use crate::transform::stats::ColumnCounts;
use serde::Serialize;
use shared::schema::{Column, Rule, Schema};

/// One column of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The column.
    pub column: String,
    /// The path whose value is stored; or, if none is, the first that leads to a value.
    pub path: Option<String>,
    /// The value as it stands in the record.
    pub raw: Option<String>,
    /// The value as Redshift stores it; none is NULL.
    pub stored: Option<String>,
    /// What the rule of the column did, if it had anything to do.
    pub applied: Option<String>,
}

impl Transform {
    /// Every column of a row, for the record in `line`. `schema` is the one the transform was made for.
    ///
    /// # Errors
    /// When it cannot become a row whatever the schema.
    pub fn explain(&mut self, schema: &Schema, line: &[u8]) -> Result<Vec<Explained>, Reject> {
        let mut mended = Mended::default();
        let text = read(&self.plan, line, self.invalid_text, &mut self.spans, &mut mended)?;
        let mut explained = Vec::new();
        for (number, column) in schema.in_row().enumerate() {
            let candidates: Vec<(usize, Candidate)> = self
                .plan
                .candidates
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, candidate)| candidate.column == number)
                .collect();
            explained.push(self.explain_column(column, &candidates, text));
        }
        Ok(explained)
    }

    fn explain_column(
        &mut self,
        column: &Column,
        candidates: &[(usize, Candidate)],
        text: &str,
    ) -> Explained {
        let mut explained =
            Explained { column: column.name.clone(), path: None, raw: None, stored: None, applied: None };
        for (no, (target, candidate)) in candidates.iter().enumerate() {
            let Some(value) = self.spans.get_marked(*target, text) else { continue };
            let mut cell = Vec::new();
            let stored =
                store(*candidate, value, self.spans.replaced(*target), &mut self.converter, &mut cell);
            let (written, applied) = match stored {
                Stored::Written(altered) => (true, said(&altered, column)),
                Stored::Empty(altered) => (false, said(&altered, column)),
                Stored::Misfit if column.rule == Rule::Reject => {
                    (false, Some(misfit(column, "the record is a reject")))
                }
                Stored::Misfit => (false, Some(misfit(column, "NULL"))),
            };
            if written || explained.raw.is_none() {
                explained.path = column.paths.get(no).map(ToString::to_string);
                explained.raw = column.kind.is_from_record().then(|| value.0.to_owned());
                explained.applied = applied;
            }
            if written {
                explained.stored = Some(unquoted(&cell));
                break;
            }
        }
        explained
    }
}

fn misfit(column: &Column, then: &str) -> String {
    format!("{}: {} cannot hold it as it was sent, so {then}", column.rule, column.sql_type)
}

fn said(altered: &ColumnCounts, column: &Column) -> Option<String> {
    let mut said = Vec::new();
    if altered.cut > 0 {
        said.push(format!("cut to {}", column.sql_type));
    }
    if altered.rounded > 0 {
        said.push(format!("rounded to {}", column.sql_type));
    }
    if altered.nuls > 0 {
        said.push(format!("{} NUL left out", altered.nuls));
    }
    if altered.delimiters > 0 {
        said.push("joined by a comma, its delimiter is none".to_owned());
    }
    if altered.replaced > 0 {
        said.push(format!("{} half of a surrogate pair replaced by U+FFFD", altered.replaced));
    }
    if altered.invalid > 0 {
        said.push(format!("{} invalid UTF-8 replaced by U+FFFD", altered.invalid));
    }
    (!said.is_empty()).then(|| format!("cut: {}", said.join(", ")))
}

/// The value of a CSV cell.
fn unquoted(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => text.into_owned(),
    }
}
