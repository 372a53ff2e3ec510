//! One pass over the record that validates it and remembers where the wanted values lie.

use crate::transform::Reject;
use crate::transform::plan::{Node, Plan};
use crate::transform::scan::{Invalid, Scanner, Text};
use crate::transform::stats::ColumnCounts;
use crate::transform::text;
use serde::de::IgnoredAny;

/// Where a value lies in the record's text.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
    escaped: bool,
}

/// Where the values of one record lie in its text, by target.
#[derive(Debug, Clone)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// A bit for each target that has a span: few of them do, so that clearing and visiting stays cheap.
    present: Vec<u64>,
    /// The bits of targets that have a value in every record: those whose value is not in the record.
    always: Vec<u64>,
    /// For the few keys with escapes.
    key: Vec<u8>,
    /// The text is a mended copy of the record.
    mended: bool,
    /// Where in it a U+FFFD stands for bytes that are no UTF-8, ascending.
    replaced: Vec<usize>,
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

    /// The text is a mended copy of the record, in which characters at these places stand for bytes that are no UTF-8.
    pub(super) fn mended_at(&mut self, replaced: &[usize]) {
        self.mended = true;
        self.replaced.extend_from_slice(replaced);
    }

    /// Whether the text is a mended copy of the record.
    pub(super) fn is_mended(&self) -> bool {
        self.mended
    }

    /// The targets present, ascending.
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

    fn clear(&mut self) {
        self.present.copy_from_slice(&self.always);
        self.mended = false;
        self.replaced.clear();
    }

    fn set(&mut self, target: usize, span: Span) {
        if let (Some(slot), Some(word)) = (self.spans.get_mut(target), self.present.get_mut(target / 64)) {
            *slot = span;
            *word |= 1 << (target % 64);
        }
    }
}

/// Fills `spans` with those of this record.
pub(super) fn walk(plan: &Plan, text: &str, spans: &mut Spans) -> Result<(), Reject> {
    spans.clear();
    let mut walk = Walk { scanner: Scanner::new(text), spans };
    walk.record(&plan.root).map_err(|Invalid| match serde_json::from_str::<IgnoredAny>(text) {
        // Another reader says it better: what is wrong, and where.
        Err(error) => Reject::NotJson(error.to_string()),
        Ok(_) => Reject::NotObject,
    })
}

struct Walk<'a, 's> {
    scanner: Scanner<'a>,
    spans: &'s mut Spans,
}

impl Walk<'_, '_> {
    fn record(&mut self, root: &Node) -> Result<(), Invalid> {
        self.scanner.blanks();
        if self.scanner.peek() != Some(b'{') {
            return Err(Invalid);
        }
        self.value(root)?;
        self.scanner.blanks();
        if self.scanner.peek().is_some() { Err(Invalid) } else { Ok(()) }
    }

    /// Goes as deep as the paths of the schema do; what lies beyond is gone over in one go.
    fn value(&mut self, node: &Node) -> Result<(), Invalid> {
        let start = self.scanner.at();
        let escaped = if self.scanner.peek() == Some(b'{') && !node.children.is_empty() {
            self.object(node)?;
            false
        } else {
            self.scanner.value()?
        };
        if !node.targets.is_empty() {
            self.remember(node, Span { start, end: self.scanner.at(), escaped });
        }
        Ok(())
    }

    fn object(&mut self, node: &Node) -> Result<(), Invalid> {
        let mut more = self.scanner.first(b'}')?;
        while more {
            let key = self.scanner.key()?;
            match self.child(node, key) {
                Some(child) => self.value(child)?,
                None => {
                    self.scanner.value()?;
                }
            }
            more = self.scanner.more(b'}')?;
        }
        Ok(())
    }

    fn child<'n>(&mut self, node: &'n Node, Text { start, end, escaped }: Text) -> Option<&'n Node> {
        let bytes = self.scanner.bytes();
        if !escaped {
            return node.children.find(bytes, start, end);
        }
        let (key, mut counts) = (&mut self.spans.key, ColumnCounts::default());
        key.clear();
        text::unescape(bytes.get(start..end)?, key, &mut counts);
        // Without its NULs, or with half a pair replaced, it is another key.
        if counts.is_zero() { node.children.find(key, 0, key.len()) } else { None }
    }

    fn remember(&mut self, node: &Node, span: Span) {
        let raw = self.scanner.bytes().get(span.start..span.end).unwrap_or_default();
        // An empty value leaves the place to another spelling, or to a later one under the same key.
        if raw == b"null" || raw == b"\"\"" {
            return;
        }
        for target in &node.targets {
            self.spans.set(*target, span);
        }
    }
}
