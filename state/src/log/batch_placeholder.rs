//! Fills a column that holds the batch's id. A row is built before its batch is known, and a filling batch gets another id
//! when the log is opened again. So the log keeps the row with a placeholder of the same length in it, and the reader of a file
//! replaces the placeholder by the id.

use memchr::memmem::Finder;
use shared::ids::BatchId;

use crate::store::{Change, Store, StoreError, Table};

/// The key it is kept under. The word is that of the first logs; the mark of the ledger is another thing.
pub(super) const PLACEHOLDER: &[u8] = b"mark";

/// Takes the place of the batch's id in rows. It never leaves its log, so no record can hold it.
#[derive(Debug, Clone)]
pub(super) struct BatchPlaceholder {
    pub(super) text: String,
    finder: Finder<'static>,
}

impl BatchPlaceholder {
    fn new(text: String) -> Self {
        let finder = Finder::new(text.as_bytes()).into_owned();
        Self { text, finder }
    }

    pub(super) fn of(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(store.get(Table::Meta, PLACEHOLDER)?.map(Self::new))
    }

    /// The placeholder of a log; `change` makes one if there is none.
    pub(super) fn ensure(store: &Store, change: &mut Change) -> Result<Self, StoreError> {
        if let Some(placeholder) = Self::of(store)? {
            return Ok(placeholder);
        }
        let text = BatchId::new().to_string();
        change.put(Table::Meta, PLACEHOLDER, &text);
        Ok(Self::new(text))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_becomes_the_id_and_nothing_else_changes() {
        let (placeholder, batch) = (BatchPlaceholder::new(BatchId::new().to_string()), BatchId::new());
        let text = &placeholder.text;
        let almost = text.get(1..).unwrap_or_default();
        let mut rows = format!("a~{text}\n{almost}~{text}{text}").into_bytes();
        placeholder.replace(batch, &mut rows);
        assert_eq!(String::from_utf8(rows).unwrap(), format!("a~{batch}\n{almost}~{batch}{batch}"));
    }
}
