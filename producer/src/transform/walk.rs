//! One pass over the record that validates it and remembers where the wanted values lie.

use super::Reject;
use super::plan::{Node, Plan};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// Where the values of one record lie in its text, by target.
#[derive(Debug, Clone)]
pub(super) struct Spans {
    spans: Vec<(usize, usize)>,
    /// A bit for each target that has a span: few of them do, so that clearing and visiting stays cheap.
    present: Vec<u64>,
}

impl Spans {
    pub(super) fn new(targets: usize) -> Self {
        Self { spans: vec![(0, 0); targets], present: vec![0; targets.div_ceil(64)] }
    }

    pub(super) fn get<'a>(&self, target: usize, text: &'a str) -> Option<&'a str> {
        let word = self.present.get(target / 64)?;
        if word & (1 << (target % 64)) == 0 {
            return None;
        }
        let (start, end) = *self.spans.get(target)?;
        text.get(start..end)
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
        self.present.fill(0);
    }

    fn set(&mut self, target: usize, span: (usize, usize)) {
        if let (Some(slot), Some(word)) = (self.spans.get_mut(target), self.present.get_mut(target / 64)) {
            *slot = span;
            *word |= 1 << (target % 64);
        }
    }
}

/// Fills `spans` with those of this record.
///
/// serde_json goes into an object only if told that one is there, and gives up if it is something else. That is the
/// quick way. When it fails, the careful way looks before it goes in; its error is then a fault of the JSON.
pub(super) fn walk(plan: &Plan, text: &str, spans: &mut Spans) -> Result<(), Reject> {
    let record = text.trim_matches([' ', '\t', '\r', '\n']);
    if !record.starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Reject::NotObject,
            Err(error) => Reject::NotJson(error.to_string()),
        });
    }
    let mut pass = |careful: bool| {
        spans.clear();
        let mut walk = Walk { base: text.as_ptr() as usize, spans, careful };
        walk.remember(&plan.root, record);
        walk.object(&plan.root, record)
    };
    pass(false).or_else(|_| pass(true)).map_err(|error| Reject::NotJson(error.to_string()))
}

struct Walk<'s> {
    /// Address of the record's first byte, from which spans are measured.
    base: usize,
    spans: &'s mut Spans,
    careful: bool,
}

impl Walk<'_> {
    fn object(&mut self, node: &Node, text: &str) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(Visit { node, walk: self })?;
        json.end()
    }

    fn remember(&mut self, node: &Node, raw: &str) {
        // An empty value leaves the place to another spelling, or to a later one under the same key.
        if matches!(raw, "null" | "\"\"") {
            return;
        }
        let start = raw.as_ptr() as usize - self.base;
        for target in &node.targets {
            self.spans.set(*target, (start, start + raw.len()));
        }
    }
}

/// Goes through the value at a node.
struct Visit<'n, 'w, 's> {
    node: &'n Node,
    walk: &'w mut Walk<'s>,
}

impl<'de> DeserializeSeed<'de> for Visit<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { node, walk } = self;
        if !node.children.is_empty() && node.targets.is_empty() && !walk.careful {
            return deserializer.deserialize_map(Visit { node, walk });
        }
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        walk.remember(node, raw);
        if !node.children.is_empty() && raw.starts_with('{') {
            walk.object(node, raw).map_err(D::Error::custom)?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Visit<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Visit { node, walk: &mut *self.walk })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Looks a key up among the children of a node.
struct Key<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Key<'n> {
    type Value = Option<&'n Node>;

    /// As bytes, since a key may hold half a surrogate pair, which no string can.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de, 'n> Visitor<'de> for Key<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.children.get(key))
    }

    /// A key without escapes; read as bytes, it has not been checked for the control characters JSON forbids.
    fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        let child = self.0.children.get(key);
        if child.is_none() && key.iter().any(|byte| *byte < 0x20) {
            return Err(E::custom("control character in a key"));
        }
        Ok(child)
    }
}
