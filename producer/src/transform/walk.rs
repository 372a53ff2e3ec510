//! One pass over the record validates it and remembers where the wanted values lie.

use crate::transform::outcome::{ColumnCounts, Reject};
use crate::transform::plan::{Node, Plan};
use crate::transform::scan::{Invalid, Scanner, Span};
use crate::transform::spans::Spans;
use crate::transform::text;
use serde::de::IgnoredAny;

pub(super) fn walk(plan: &Plan, text: &str, spans: &mut Spans) -> Result<(), Reject> {
    spans.clear();
    let mut walk = Walk { scanner: Scanner::new(text), spans };
    walk.record(&plan.root).map_err(|Invalid| match serde_json::from_str::<IgnoredAny>(text) {
        // serde_json says what is wrong, and where.
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

    /// Descends as deep as the paths of the schema; the scanner skips what lies deeper.
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

    fn child<'n>(&mut self, node: &'n Node, Span { start, end, escaped }: Span) -> Option<&'n Node> {
        let bytes = self.scanner.bytes();
        if !escaped {
            return node.children.find(bytes, start, end);
        }
        let (key, mut counts) = (&mut self.spans.key, ColumnCounts::default());
        key.clear();
        text::unescape(bytes.get(start..end)?, key, &mut counts);
        // A key that lost a NUL, or had half a pair replaced, is another key.
        if counts.is_zero() { node.children.find(key, 0, key.len()) } else { None }
    }

    fn remember(&mut self, node: &Node, span: Span) {
        let raw = self.scanner.bytes().get(span.start..span.end).unwrap_or_default();
        // An empty value leaves the place to another path, or to a later value of the same key.
        if raw == b"null" || raw == b"\"\"" {
            return;
        }
        for target in &node.targets {
            self.spans.set(*target, span);
        }
    }
}
