//! One pass over the record validates it and remembers where the wanted values lie.

use crate::transform::found::Found;
use crate::transform::outcome::{ColumnCounts, Reject};
use crate::transform::plan::{Node, Plan};
use crate::transform::scan::{Invalid, Scanner, Span};
use crate::transform::spans::Spans;
use crate::transform::text;
use serde::de::IgnoredAny;

/// Arrays within arrays are looked into so deep for protected values; what lies deeper is dropped.
const ARRAYS: usize = 8;

pub(super) fn walk(plan: &Plan, text: &str, spans: &mut Spans) -> Result<(), Reject> {
    spans.clear();
    let mut walk = Walk { scanner: Scanner::new(text), spans, no_targets: false };
    walk.record(&plan.root).map_err(|Invalid| match serde_json::from_str::<IgnoredAny>(text) {
        // serde_json says what is wrong, and where.
        Err(error) => Reject::NotJson(error.to_string()),
        Ok(_) => Reject::NotObject,
    })
}

struct Walk<'a, 's> {
    scanner: Scanner<'a>,
    spans: &'s mut Spans,
    /// Within an array or under a key that is only nearly the wanted one: only protected values are noted.
    no_targets: bool,
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
        let escaped = match (self.scanner.peek(), node.protects_within) {
            (Some(b'{'), _) if !node.children.is_empty() => {
                self.object(node)?;
                false
            }
            (Some(b'['), Some(site)) => {
                self.without_targets(|walk| walk.array(node, site, ARRAYS))?;
                false
            }
            _ => self.scanner.value()?,
        };
        let span = Span { start, end: self.scanner.at(), escaped };
        if !node.targets.is_empty() && !self.no_targets {
            self.remember(node, span);
        }
        if let Some(site) = node.protects {
            self.protect(Found::new(span, site, false));
        }
        Ok(())
    }

    /// The protected places inside a node are also those inside the elements of an array that stands in its place.
    fn array(&mut self, node: &Node, site: usize, depth: usize) -> Result<(), Invalid> {
        let mut more = self.scanner.first(b']')?;
        while more {
            let start = self.scanner.at();
            match (self.scanner.peek(), depth.checked_sub(1)) {
                (Some(b'{'), _) => self.object(node)?,
                (Some(b'['), Some(depth)) => self.array(node, site, depth)?,
                (Some(b'['), None) => {
                    self.scanner.value()?;
                    let span = Span { start, end: self.scanner.at(), escaped: false };
                    self.protect(Found::new(span, site, true));
                }
                _ => _ = self.scanner.value()?,
            }
            more = self.scanner.more(b']')?;
        }
        Ok(())
    }

    fn without_targets(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        let outer = std::mem::replace(&mut self.no_targets, true);
        walk(self)?;
        self.no_targets = outer;
        Ok(())
    }

    fn object(&mut self, node: &Node) -> Result<(), Invalid> {
        let mut more = self.scanner.first(b'}')?;
        while more {
            let key = self.scanner.key()?;
            match self.child(node, key) {
                Some((child, true)) => self.value(child)?,
                Some((child, false)) => self.without_targets(|walk| walk.value(child))?,
                None => {
                    self.scanner.value()?;
                }
            }
            more = self.scanner.more(b'}')?;
        }
        Ok(())
    }

    /// The wanted child, and whether the key is wholly its own. A key that lost a NUL is another key; but a reader that drops
    /// NULs, such as a SUPER column, takes it for the same, so what is protected under the one is protected under the other.
    fn child<'n>(&mut self, node: &'n Node, Span { start, end, escaped }: Span) -> Option<(&'n Node, bool)> {
        let bytes = self.scanner.bytes();
        if !escaped {
            return node.children.find(bytes, start, end).map(|child| (child, true));
        }
        let (key, mut counts) = (&mut self.spans.key, ColumnCounts::default());
        key.clear();
        text::unescape(bytes.get(start..end)?, key, &mut counts);
        let child = node.children.find(key, 0, key.len())?;
        let is_protected = child.protects.is_some() || child.protects_within.is_some();
        (counts.is_zero() || is_protected).then_some((child, counts.is_zero()))
    }

    fn protect(&mut self, found: Found) {
        let raw = self.scanner.bytes().get(found.span.start..found.span.end).unwrap_or_default();
        if raw == b"null" || raw == b"\"\"" {
            return;
        }
        // What was found inside it goes with it.
        while self.spans.found.last().is_some_and(|inner| inner.span.start >= found.span.start) {
            self.spans.found.pop();
        }
        self.spans.found.push(found);
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
