//! What is kept of a record that cannot become a row, and what is shown of any record.

use shared::config::KeepRejects;
use shared::schema::JsonPath;
use state::log::{KeptRecord, ProtectedNote};

use crate::transform::keeping::Keeping;
use crate::transform::mend::Mended;
use crate::transform::record::{Transform, read};
use crate::transform::scan::Span;

impl Transform {
    /// Keeps so much of rejects. Without a key of pseudonyms their hashes are under a key of this process alone.
    pub(crate) fn with_rejects(mut self, keep: KeepRejects) -> Self {
        let key = self.protection.as_ref().and_then(|all| all.pseudonyms().key_for_rejects());
        self.keeping = Keeping::new(keep, key);
        self
    }

    /// What is kept of a reject of so many bytes, of which `record` holds all, or the first. `readable` says whether it is a
    /// whole record that was read as one.
    pub(crate) fn kept(&mut self, record: &[u8], bytes: u64, readable: bool) -> KeptRecord {
        let protected = match self.keeping.keep {
            KeepRejects::Full => return KeptRecord::Full(record.to_vec()),
            KeepRejects::Protected if readable && !self.protects() => {
                return KeptRecord::Full(record.to_vec());
            }
            KeepRejects::Protected if readable => self.protected(record),
            _ => None,
        };
        match protected {
            Some((text, note)) => KeptRecord::Protected(text, note),
            None => self.keeping.digest(record, bytes),
        }
    }

    /// Whether rejects are kept as they were received.
    pub(crate) fn keeps_rejects_whole(&self) -> bool {
        self.keeping.keep == KeepRejects::Full
    }

    /// Whether any field is protected, so that a record must not be shown as it was sent.
    pub(crate) fn protects(&self) -> bool {
        self.protection.is_some()
    }

    /// The record with replacements in the place of protected values; None if it cannot be read, since then nothing in it can
    /// be found.
    pub(crate) fn protected(&mut self, record: &[u8]) -> Option<(String, ProtectedNote)> {
        let mut mended = Mended::default();
        let text = read(&self.plan, record, self.invalid_text, &mut self.spans, &mut mended).ok()?;
        let Some(protection) = &mut self.protection else {
            return Some((text.to_owned(), ProtectedNote::default()));
        };
        protection.apply_uncounted(text, &mut self.spans);
        let pseudonyms = protection.pseudonyms_of(&self.spans);
        let earlier = &self.earlier;
        let key = match &pseudonyms[..] {
            [] => None,
            all if all.iter().all(|path| earlier.pseudonyms.contains(path)) => earlier.key.clone(),
            _ => protection.pseudonyms().key_id(),
        };
        let note = ProtectedNote { key, pseudonyms };
        let from = self.spans.side.len();
        let whole = Span { start: 0, end: text.len(), escaped: false };
        let text = match self.spans.splice(text, whole) {
            true => self.spans.side.get(from..).unwrap_or_default().to_owned(),
            false => text.to_owned(),
        };
        Some((text, note))
    }

    /// The next records were protected so when they were rejected: what has a pseudonym gets no other one.
    pub(crate) fn set_earlier(&mut self, earlier: ProtectedNote) {
        if let Some(protection) = &mut self.protection {
            let paths = earlier.pseudonyms.iter().filter_map(|path| path.parse().ok());
            protection.exempt(&paths.collect::<Vec<JsonPath>>());
        }
        self.earlier = earlier;
    }
}
