//! The schema compiled for the walk: a tree of object keys, whose nodes name the targets of the value found there.
//!
//! A target is a number. The columns' candidates come first, in column order and then in the order of the column's
//! paths: so ascending targets visit the columns in table order, and of each column the preferred path first. The
//! identity of the hit and the filters follow; they are wanted whatever the schema.

use crate::transform::convert::{Convert, Converter};
use crate::transform::filter::{Filter, FilterTest, TransformError};
use crate::transform::keys::Keys;
use crate::transform::spans::Spans;
use crate::transform::value;
use shared::schema::{JsonPath, Rule, Schema};
use state::log::HitId;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) root: Node,
    /// By target.
    pub(super) candidates: Vec<Candidate>,
    pub(super) columns: usize,
    filters: Vec<FilterTest>,
}

/// One path of one column; or the only candidate of a column that has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) column: usize,
    pub(super) convert: Convert,
    pub(super) rule: Rule,
}

/// A place in the record.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// The targets of the value that stands here.
    pub(super) targets: Vec<usize>,
    /// The wanted keys inside it.
    pub(super) children: Keys<Node>,
    /// Which protected place this is.
    pub(super) protects: Option<usize>,
    /// A protected place inside it, also inside the elements of an array.
    pub(super) protects_within: Option<usize>,
}

const HIT_HIGH: usize = 0;
const HIT_LOW: usize = 1;
const RECEIVED: usize = 2;
/// Without these a hit cannot be told from another one, nor its time be known.
pub(crate) const IDENTITY: [&str; 3] = ["hitIdHigh", "hitIdLow", "receivedTimeGMT"];

impl Plan {
    pub(super) fn new(schema: &Schema, filters: &[Filter]) -> Result<Self, TransformError> {
        schema.validate("schema")?;
        let mut root = Node::default();
        let mut candidates = Vec::new();
        for (number, column) in schema.in_row().enumerate() {
            let candidate = Candidate { column: number, convert: Convert::new(column), rule: column.rule };
            for path in &column.paths {
                root.want(path, candidates.len());
                candidates.push(candidate);
            }
            if column.paths.is_empty() {
                candidates.push(candidate);
            }
        }
        let mut next = candidates.len();
        for key in IDENTITY {
            root.want(&JsonPath::of([key]), next);
            next += 1;
        }
        for filter in filters {
            root.want(&filter.json_path()?, next);
            next += 1;
        }
        let filters = filters.iter().map(|filter| filter.test.clone()).collect();
        Ok(Self { root, candidates, columns: schema.in_row().count(), filters })
    }

    /// The targets whose value is not in the record.
    pub(super) fn constants(&self) -> impl Iterator<Item = usize> {
        let all = self.candidates.iter().enumerate();
        let is_constant = |convert| matches!(convert, Convert::Instance(_) | Convert::Batch);
        all.filter(move |(_, candidate)| is_constant(candidate.convert)).map(|(target, _)| target)
    }

    pub(super) fn targets(&self) -> usize {
        self.candidates.len() + IDENTITY.len() + self.filters.len()
    }

    /// The position of the first filter that matches.
    pub(super) fn filtered(&self, text: &str, spans: &Spans, converter: &mut Converter) -> Option<usize> {
        let first = self.candidates.len() + IDENTITY.len();
        self.filters.iter().enumerate().position(|(number, test)| {
            let value =
                spans.get(first + number, text).map(|raw| value::plain_text(raw, &mut converter.text));
            test.matches(value)
        })
    }

    /// Hit id and time of reception.
    pub(super) fn identity(
        &self,
        text: &str,
        spans: &Spans,
        converter: &mut Converter,
    ) -> (Option<HitId>, Option<i64>) {
        let raw = |target: usize| spans.get(self.candidates.len() + target, text);
        let scratch = &mut converter.text;
        let high = raw(HIT_HIGH).and_then(|raw| value::unsigned(value::scalar(raw, scratch)?));
        let low = raw(HIT_LOW).and_then(|raw| value::unsigned(value::scalar(raw, scratch)?));
        let received = raw(RECEIVED).and_then(|raw| value::seconds(value::scalar(raw, scratch)?));
        (high.zip(low).map(|(high, low)| HitId { high, low }), received)
    }
}

impl Node {
    fn want(&mut self, path: &JsonPath, target: usize) {
        let mut node = self;
        for key in path.keys() {
            let Some(child) = node.children.entry(key, Self::default) else { return };
            node = child;
        }
        node.targets.push(target);
    }

    /// Makes the place of a path a protected one, and adds the targets of all that lies around it to `around`.
    pub(super) fn protect(&mut self, path: &JsonPath, site: usize, around: &mut Vec<usize>) -> Option<&Self> {
        let mut node = self;
        for key in path.keys() {
            node.protects_within.get_or_insert(site);
            around.extend_from_slice(&node.targets);
            node = node.children.entry(key, Self::default)?;
        }
        node.protects = Some(site);
        Some(node)
    }
}
