//! Rows are made before it is known which batch they go to. A column that holds the batch's id is therefore filled in
//! two steps: the row comes with a mark of the same length in it, and the commit, all of whose rows go to one batch,
//! puts the id in its place.

use memchr::memmem::Finder;
use shared::ids::BatchId;

/// Stands in rows for the id of the batch they go to. Made anew by each process, so that nobody can send it.
#[derive(Debug, Clone)]
pub struct BatchMark {
    text: String,
    finder: Finder<'static>,
}

impl BatchMark {
    /// A mark that nobody knows yet.
    #[must_use]
    pub fn new() -> Self {
        let text = BatchId::new().to_string();
        let finder = Finder::new(text.as_bytes()).into_owned();
        Self { text, finder }
    }

    /// What stands in the rows.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts the id of `batch` in the place of each mark.
    pub(super) fn replace(&self, batch: BatchId, rows: &mut [u8]) {
        let id = batch.to_string();
        let mut from = 0;
        while let Some(at) = rows.get(from..).and_then(|rest| self.finder.find(rest)) {
            let place = from + at..from + at + id.len();
            from = place.end;
            if let Some(place) = rows.get_mut(place).filter(|_| id.len() == self.text.len()) {
                place.copy_from_slice(id.as_bytes());
            }
        }
    }
}

impl Default for BatchMark {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_becomes_the_id_and_nothing_else_changes() {
        let (mark, batch) = (BatchMark::new(), BatchId::new());
        let text = mark.text();
        let almost = text.get(1..).unwrap_or_default();
        let mut rows = format!("a~{text}\n{almost}~{text}{text}").into_bytes();
        mark.replace(batch, &mut rows);
        assert_eq!(String::from_utf8(rows).unwrap(), format!("a~{batch}\n{almost}~{batch}{batch}"));
        assert_ne!(text, BatchMark::new().text());
    }
}
