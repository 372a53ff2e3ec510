//! Where the wanted values of one record lie in its text.

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
        };
        for target in always {
            spans.set(target, Span::default());
        }
        spans.always.copy_from_slice(&spans.present);
        spans
    }

    pub(super) fn get<'a>(&self, target: usize, text: &'a str) -> Option<&'a str> {
        self.get_marked(target, text).map(|(raw, _)| raw)
    }

    /// The value, and whether it is a string with escapes.
    pub(super) fn get_marked<'a>(&self, target: usize, text: &'a str) -> Option<(&'a str, bool)> {
        let word = self.present.get(target / 64)?;
        if word & (1 << (target % 64)) == 0 {
            return None;
        }
        let Span { start, end, escaped } = *self.spans.get(target)?;
        Some((text.get(start..end)?, escaped))
    }

    /// How many characters of the value stand for bytes that were no UTF-8.
    pub(super) fn replaced(&self, target: usize) -> u64 {
        if self.replaced.is_empty() {
            return 0;
        }
        let Some(Span { start, end, .. }) = self.spans.get(target) else { return 0 };
        self.replaced.iter().filter(|at| (*start..*end).contains(*at)).count() as u64
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
    }

    pub(super) fn set(&mut self, target: usize, span: Span) {
        if let (Some(slot), Some(word)) = (self.spans.get_mut(target), self.present.get_mut(target / 64)) {
            *slot = span;
            *word |= 1 << (target % 64);
        }
    }
}
