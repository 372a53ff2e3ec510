//! What becomes of one record, column by column, by the same steps as for a row.

use serde::Serialize;
use shared::schema::{Column, Rule, Schema};

use crate::transform::mend::Mended;
use crate::transform::outcome::{ColumnCounts, Reject};
use crate::transform::plan::Candidate;
use crate::transform::protect::How;
use crate::transform::record::{Transform, read};
use crate::transform::row::{Stored, store};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Explained {
    pub(crate) column: String,
    /// The path whose value is stored; or, if none is, the first that leads to a value.
    pub(crate) path: Option<String>,
    /// The value as it was sent; nothing of one that is protected.
    pub(crate) raw: Option<String>,
    /// How the value, or what lies in it, is protected.
    pub(crate) protection: Option<String>,
    /// What its protection made of the value: `dropped`, `masked`, `pseudonym`, or of what lies in it.
    pub(crate) became: Option<&'static str>,
    /// The value as Redshift stores it; none is NULL.
    pub(crate) stored: Option<String>,
    pub(crate) applied: Option<String>,
}

impl Transform {
    /// Every column of a row, for the record in `line`. `schema` is the one the transform was made for.
    pub(crate) fn explain(&mut self, schema: &Schema, line: &[u8]) -> Result<Vec<Explained>, Reject> {
        let mut mended = Mended::default();
        let text = read(&self.plan, line, self.invalid_text, &mut self.spans, &mut mended)?;
        if let Some(protection) = &mut self.protection {
            protection.apply_uncounted(text, &mut self.spans);
        }
        let columns = schema.in_row().enumerate();
        Ok(columns.map(|(number, column)| self.explain_column(number, column, text)).collect())
    }

    /// How the column is protected: by the first of its paths that is.
    pub(crate) fn protection_of(&self, number: usize) -> Option<&'static str> {
        let targets = self.plan.candidates.iter().enumerate().filter(|(_, one)| one.column == number);
        let mut hows = targets.filter_map(|(target, _)| self.protection.as_ref()?.of_target(target));
        hows.next().map(How::name)
    }

    /// How the value of a target of this record is protected, what became of it, and whether of the whole.
    fn protection_of_value(&self, target: usize) -> Option<(String, &'static str, bool)> {
        let protection = self.protection.as_ref()?;
        if let Some(how) = protection.of_target(target) {
            return Some((how.name().to_owned(), became(how, self.spans.span(target).is_some()), true));
        }
        self.spans.span(target)?;
        let within = protection.within(&self.spans, self.spans.original(target)?);
        let words: Vec<_> = within.iter().map(|(field, how)| format!("{} {field}", how.name())).collect();
        (!words.is_empty()).then(|| (words.join(", "), "parts", false))
    }

    fn explain_column(&mut self, number: usize, column: &Column, text: &str) -> Explained {
        let mut explained = Explained { column: column.name.clone(), ..Explained::default() };
        let all = self.plan.candidates.iter().copied().enumerate();
        let candidates: Vec<(usize, Candidate)> = all.filter(|(_, one)| one.column == number).collect();
        for (no, (target, candidate)) in candidates.into_iter().enumerate() {
            let protection = self.protection_of_value(target);
            let Some(value) = self.spans.get_marked(target, text) else {
                // Whether a dropped value was there is not told either.
                if let Some((words, became, _)) = protection.filter(|_| explained.protection.is_none()) {
                    (explained.protection, explained.became) = (Some(words), Some(became));
                }
                continue;
            };
            let mut cell = Vec::new();
            let invalid = self.spans.replaced(target);
            let stored = store(candidate, value, invalid, &mut self.converter, &mut cell);
            let is_written = matches!(stored, Stored::Written(_) | Stored::Full(_));
            if is_written || explained.path.is_none() {
                explained.path = column.paths.get(no).map(ToString::to_string);
                let as_sent = protection.as_ref().is_none_or(|(_, _, whole)| !whole);
                explained.raw = (column.kind.is_from_record() && as_sent).then(|| value.0.to_owned());
                (explained.protection, explained.became) =
                    protection.map(|(words, became, _)| (words, became)).unzip();
                explained.applied = match stored {
                    Stored::Written(altered) | Stored::Empty(altered) => describe(&altered, column),
                    Stored::Full(_) => None,
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

/// What a protection makes of a value. Whether one that is dropped was there is not told.
fn became(how: How, is_there: bool) -> &'static str {
    match how {
        How::Drop => "dropped",
        How::Pseudonym if is_there => "pseudonym",
        _ if is_there => "masked",
        How::Pseudonym => "no value",
        How::MaskIp | How::MaskEmail | How::MaskQuery | How::MaskParameters => "no value, or dropped",
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
