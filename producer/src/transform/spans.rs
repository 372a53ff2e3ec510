//! Where the wanted values of one record lie in its text, or in the text beside it.

use crate::transform::found::Found;
use crate::transform::scan::Span;

#[derive(Debug, Clone)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// A bit for each target that has a span. Few have one, so clearing and visiting stays cheap.
    present: Vec<u64>,
    /// The bits of targets that have a value in every record: those whose value is not in the record.
    always: Vec<u64>,
    /// For the few keys with escapes.
    pub(super) key: Vec<u8>,
    pub(super) mended: bool,
    /// Where in it a U+FFFD stands for bytes that are no UTF-8, ascending.
    pub(super) replaced: Vec<usize>,
    /// The protected values, in the order in which they stand.
    pub(super) found: Vec<Found>,
    /// What took the place of values. A span that begins behind the record's text lies here, from that text's length on.
    pub(super) side: String,
    /// Where the values lay that lie beside the record now.
    moved: Vec<(usize, Span)>,
}

impl Spans {
    /// For so many targets, of which these need no place in the record.
    pub(super) fn new(targets: usize, always: impl Iterator<Item = usize>) -> Self {
        let words = targets.div_ceil(64);
        let mut spans = Self {
            spans: vec![Span::default(); targets],
            present: vec![0; words],
            always: vec![0; words],
            key: Vec::new(),
            mended: false,
            replaced: Vec::new(),
            found: Vec::new(),
            side: String::new(),
            moved: Vec::new(),
        };
        for target in always {
            spans.set(target, Span::default());
        }
        spans.always.copy_from_slice(&spans.present);
        spans
    }

    pub(super) fn get<'a>(&'a self, target: usize, text: &'a str) -> Option<&'a str> {
        self.get_marked(target, text).map(|(raw, _)| raw)
    }

    /// The value, and whether it is a string with escapes.
    pub(super) fn get_marked<'a>(&'a self, target: usize, text: &'a str) -> Option<(&'a str, bool)> {
        let Span { start, end, escaped } = self.span(target)?;
        match text.get(start..end) {
            Some(value) => Some((value, escaped)),
            None => Some((self.beside(start, end, text)?, escaped)),
        }
    }

    #[cold]
    fn beside(&self, start: usize, end: usize, text: &str) -> Option<&str> {
        self.side.get(start.checked_sub(text.len())?..end.checked_sub(text.len())?)
    }

    pub(super) fn span(&self, target: usize) -> Option<Span> {
        let word = self.present.get(target / 64)?;
        if word & (1 << (target % 64)) == 0 {
            return None;
        }
        self.spans.get(target).copied()
    }

    /// How many characters of the value stand for bytes that were no UTF-8.
    pub(super) fn replaced(&self, target: usize) -> u64 {
        if self.replaced.is_empty() {
            return 0;
        }
        let Some(Span { start, end, .. }) = self.original(target) else { return 0 };
        self.replaced.iter().filter(|at| (start..end).contains(*at)).count() as u64
    }

    /// Where the value stands in the record, also if something else took its place.
    pub(super) fn original(&self, target: usize) -> Option<Span> {
        let moved = self.moved.iter().find(|(of, _)| *of == target).map(|(_, span)| *span);
        moved.or_else(|| self.spans.get(target).copied())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.present.iter().enumerate().flat_map(|(number, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(number * 64 + bit as usize)
            })
        })
    }

    pub(super) fn clear(&mut self) {
        self.present.copy_from_slice(&self.always);
        self.mended = false;
        self.replaced.clear();
        self.found.clear();
        self.side.clear();
        self.moved.clear();
    }

    pub(super) fn set(&mut self, target: usize, span: Span) {
        if let (Some(slot), Some(word)) = (self.spans.get_mut(target), self.present.get_mut(target / 64)) {
            *slot = span;
            *word |= 1 << (target % 64);
        }
    }

    /// The value lies elsewhere from now on.
    pub(super) fn replace(&mut self, target: usize, span: Span) {
        if let Some(slot) = self.spans.get_mut(target) {
            self.moved.push((target, std::mem::replace(slot, span)));
        }
    }

    /// There is no value.
    pub(super) fn unset(&mut self, target: usize) {
        if let Some(word) = self.present.get_mut(target / 64) {
            *word &= !(1 << (target % 64));
        }
    }

    /// The protected values within a span of the record.
    pub(super) fn within(&self, span: Span) -> &[Found] {
        let first = self.found.partition_point(|found| found.span.start < span.start);
        let behind = self.found.partition_point(|found| found.span.start < span.end);
        self.found.get(first..behind).unwrap_or_default()
    }

    /// Appends a span of the record to the text beside it, with the replacements of the protected values in it. False, and
    /// nothing is appended, if there are none.
    pub(super) fn splice(&mut self, text: &str, span: Span) -> bool {
        let first = self.found.partition_point(|found| found.span.start < span.start);
        let values = self.within(span).len();
        let mut copied = span.start;
        for number in first..first + values {
            let Some(Found { span, replacement, .. }) = self.found.get(number) else { break };
            let (start, end, replacement) = (span.start, span.end, replacement.clone());
            self.side.push_str(text.get(copied..start).unwrap_or_default());
            self.side.extend_from_within(replacement);
            copied = end;
        }
        if values > 0 {
            self.side.push_str(text.get(copied..span.end).unwrap_or_default());
        }
        values > 0
    }
}
