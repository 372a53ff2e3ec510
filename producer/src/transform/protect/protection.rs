//! The protections of one schema, and their work on one record after the other.

use shared::config::Protect;
use shared::schema::{JsonPath, Schema};

use crate::transform::filter::TransformError;
use crate::transform::plan::{Node, Plan};
use crate::transform::protect::field::{Field, fields};
use crate::transform::protect::how::How;
use crate::transform::protect::pseudonym::Pseudonyms;
use crate::transform::protect::replace::Replacer;
use crate::transform::scan::Span;
use crate::transform::spans::Spans;

/// Values of one field since they were last drained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProtectedCounts {
    /// Values that were protected.
    pub(crate) values: u64,
    /// Of these, those that had not the form that the mask expects, or of which a part had not: they are dropped.
    pub(crate) unexpected: u64,
}

/// Owns buffers: one for each thread.
#[derive(Debug, Clone)]
pub(in crate::transform) struct Protection {
    /// As `[protect]` names them.
    fields: Vec<String>,
    sites: Vec<Site>,
    /// Targets whose value may have a protected one in it, and which columns read.
    around: Vec<usize>,
    replacer: Replacer,
    counts: Vec<ProtectedCounts>,
    /// The sites whose pseudonyms the record has already, since it was protected before.
    exempt: Vec<bool>,
}

/// One protected path.
#[derive(Debug, Clone)]
struct Site {
    field: usize,
    how: How,
    path: JsonPath,
    /// The targets that are this value, and those that lie in it.
    own: Vec<usize>,
    inside: Vec<usize>,
}

impl Protection {
    /// Adds the places of the protected values to the plan. None if nothing is protected.
    pub(in crate::transform) fn new(
        protect: &Protect,
        schema: &Schema,
        plan: &mut Plan,
    ) -> Result<Option<Self>, TransformError> {
        let fields = fields(protect, schema)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let (mut sites, mut around): (Vec<Site>, Vec<usize>) = Default::default();
        let columns = plan.candidates.len();
        for (number, Field { how, paths, .. }) in fields.iter().enumerate() {
            for path in paths {
                // Another field of the same list may stand for it.
                if sites.iter().any(|site| site.path == *path) {
                    continue;
                }
                let Some(node) = plan.root.protect(path, sites.len(), &mut around) else { continue };
                let (own, mut inside) = (node.targets.clone(), Vec::new());
                node.children.values().for_each(|child| targets_below(child, &mut inside));
                let of_columns =
                    |targets: Vec<usize>| targets.into_iter().filter(|target| *target < columns).collect();
                let (own, inside) = (of_columns(own), of_columns(inside));
                sites.push(Site { field: number, how: *how, path: path.clone(), own, inside });
            }
        }
        around.retain(|target| *target < columns);
        around.sort_unstable();
        around.dedup();
        let counts = vec![ProtectedCounts::default(); fields.len()];
        let exempt = vec![false; sites.len()];
        let fields = fields.into_iter().map(|field| field.name).collect();
        Ok(Some(Self { fields, sites, around, replacer: Replacer::new(protect), counts, exempt }))
    }

    pub(in crate::transform) fn pseudonyms(&self) -> &Pseudonyms {
        &self.replacer.pseudonyms
    }

    /// Puts replacements in the place of the protected values that the walk found. From then on every target has what may be
    /// kept of it.
    pub(in crate::transform) fn apply(&mut self, text: &str, spans: &mut Spans) {
        if spans.found.is_empty() {
            return;
        }
        let (mut found, mut side) = (std::mem::take(&mut spans.found), std::mem::take(&mut spans.side));
        for value in &mut found {
            let Some(site) = self.sites.get(value.site) else { continue };
            let Span { start, end, escaped } = value.span;
            let (from, raw) = (side.len(), text.get(start..end).unwrap_or("null"));
            let as_expected = if value.too_deep {
                side.push_str("null");
                false
            } else if self.exempt.get(value.site) == Some(&true) && site.how == How::Pseudonym {
                side.push_str(raw);
                true
            } else {
                self.replacer.replace(site.how, (raw, escaped), &mut side)
            };
            value.replacement = from..side.len();
            if let Some(counts) = self.counts.get_mut(site.field) {
                counts.values += 1;
                counts.unexpected += u64::from(!as_expected);
            }
            let replacement = side.get(from..).unwrap_or_default();
            let dropped = replacement == "null";
            let escaped = escaped && memchr::memchr(b'\\', replacement.as_bytes()).is_some();
            let moved = Span { start: text.len() + from, end: text.len() + side.len(), escaped };
            for target in &site.own {
                // A key that stands twice has two values, and a target the last one that is not empty.
                if spans.span(*target).is_some_and(|span| span.start == start) {
                    if dropped { spans.unset(*target) } else { spans.replace(*target, moved) }
                }
            }
            for target in &site.inside {
                if spans.span(*target).is_some_and(|span| (start..end).contains(&span.start)) {
                    spans.unset(*target);
                }
            }
        }
        (spans.found, spans.side) = (found, side);
        for target in &self.around {
            let Some(span) = spans.span(*target) else { continue };
            let from = spans.side.len();
            if spans.splice(text, span) {
                let end = text.len() + spans.side.len();
                spans.replace(*target, Span { start: text.len() + from, end, escaped: false });
            }
        }
    }

    /// The pseudonyms at these paths are made already: the record was protected before.
    pub(in crate::transform) fn exempt(&mut self, paths: &[JsonPath]) {
        for (exempt, site) in self.exempt.iter_mut().zip(&self.sites) {
            *exempt = paths.contains(&site.path);
        }
    }

    /// The paths of the pseudonyms in the record that was read last.
    pub(in crate::transform) fn pseudonyms_of(&self, spans: &Spans) -> Vec<String> {
        let sites = self.sites.iter().enumerate().filter(|(_, site)| site.how == How::Pseudonym);
        let is_found = |number: &usize| spans.found.iter().any(|found| found.site == *number);
        sites.filter(|(number, _)| is_found(number)).map(|(_, site)| site.path.to_string()).collect()
    }

    /// How the value of a target is protected.
    pub(in crate::transform) fn of_target(&self, target: usize) -> Option<How> {
        let is_of = |site: &&Site| site.own.contains(&target) || site.inside.contains(&target);
        self.sites.iter().find(is_of).map(|site| site.how)
    }

    /// The fields that were found within a span of the record, and how each is protected.
    pub(in crate::transform) fn within(&self, spans: &Spans, span: Span) -> Vec<(&str, How)> {
        let mut fields = Vec::new();
        for found in spans.within(span) {
            let site = self.sites.get(found.site);
            let field = site.and_then(|site| Some((self.fields.get(site.field)?.as_str(), site.how)));
            fields.extend(field.filter(|field| !fields.contains(field)));
        }
        fields
    }

    /// Hands over the counts of each field, and counts from zero.
    pub(in crate::transform) fn drain(&mut self, mut each: impl FnMut(&str, ProtectedCounts)) {
        for (field, counts) in self.fields.iter().zip(&mut self.counts) {
            if counts.values > 0 {
                each(field, std::mem::take(counts));
            }
        }
    }

    /// Every protected path.
    pub(in crate::transform) fn paths(&self) -> Vec<JsonPath> {
        self.sites.iter().map(|site| site.path.clone()).collect()
    }

    pub(in crate::transform) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Works without counting: the record was counted before, or is only shown.
    pub(in crate::transform) fn apply_uncounted(&mut self, text: &str, spans: &mut Spans) {
        let counts = self.counts.clone();
        self.apply(text, spans);
        self.counts = counts;
    }
}

fn targets_below(node: &Node, targets: &mut Vec<usize>) {
    targets.extend_from_slice(&node.targets);
    node.children.values().for_each(|child| targets_below(child, targets));
}
