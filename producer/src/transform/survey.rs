//! Every field of one record, the unknown ones too. It goes into an object only where a column or `[protect]` names something
//! inside: what lies in an object that nobody named may have keys that are values, such as addresses.

use crate::transform::outcome::ColumnCounts;
use crate::transform::plan::{Node, Plan};
use crate::transform::scan::{Invalid, Scanner, Span};
use crate::transform::text;

/// A value in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting<'t> {
    /// The same for the same place in every record, and another one for every other place.
    pub(crate) id: u64,
    /// The keys from the record inwards, their escapes as they stand.
    pub(crate) keys: &'t [&'t str],
    /// The target by which a column reads it.
    pub(crate) target: Option<usize>,
    pub(crate) raw: &'t str,
    /// It is protected: nothing of it may be shown, nor kept.
    pub(crate) is_protected: bool,
}

/// Calls `each` for every field of a record that was read.
pub(super) fn survey<'t>(plan: &Plan, text: &'t str, each: &mut dyn FnMut(&Sighting<'_>)) {
    let (scanner, keys, columns) = (Scanner::of_valid(text), Vec::new(), plan.candidates.len());
    let mut survey = Survey { scanner, text, keys, columns, scratch: Vec::new(), is_read: false, each };
    survey.scanner.blanks();
    // A record that became a row is a JSON object: nothing can fail.
    let _ = survey.object(&plan.root, 0);
}

struct Survey<'t, 'e> {
    scanner: Scanner<'t>,
    text: &'t str,
    keys: Vec<&'t str>,
    /// Targets below are of columns.
    columns: usize,
    scratch: Vec<u8>,
    /// A column reads all that lies around it.
    is_read: bool,
    each: &'e mut dyn FnMut(&Sighting<'_>),
}

impl Survey<'_, '_> {
    /// As deep as the plan.
    fn object(&mut self, node: &Node, parent: u64) -> Result<(), Invalid> {
        let mut more = self.scanner.first(b'}')?;
        while more {
            let key = self.scanner.key()?;
            let child = self.child(node, key);
            let name = self.text.get(key.start..key.end).unwrap_or_default();
            self.keys.push(name);
            self.value(child, place(parent, name))?;
            self.keys.pop();
            more = self.scanner.more(b'}')?;
        }
        Ok(())
    }

    fn value(&mut self, child: Option<&Node>, id: u64) -> Result<(), Invalid> {
        let target =
            child.and_then(|child| child.targets.iter().copied().find(|target| *target < self.columns));
        let is_protected = child.is_some_and(|child| child.protects.is_some());
        let start = self.scanner.at();
        match child.filter(|child| !child.children.is_empty() && !is_protected) {
            Some(child) if self.scanner.peek() == Some(b'{') => {
                let outer = self.is_read;
                self.is_read |= target.is_some();
                self.object(child, id)?;
                self.is_read = outer;
                if target.is_none() {
                    return Ok(());
                }
            }
            // What a column reads as a whole is in no other field.
            _ if self.is_read && target.is_none() && !is_protected => return self.scanner.value().map(drop),
            _ => _ = self.scanner.value()?,
        }
        let raw = self.text.get(start..self.scanner.at()).unwrap_or_default();
        (self.each)(&Sighting { id, keys: &self.keys, target, raw, is_protected });
        Ok(())
    }

    fn child<'n>(&mut self, node: &'n Node, Span { start, end, escaped }: Span) -> Option<&'n Node> {
        let bytes = self.scanner.bytes();
        if !escaped {
            return node.children.find(bytes, start, end);
        }
        self.scratch.clear();
        text::unescape(bytes.get(start..end)?, &mut self.scratch, &mut ColumnCounts::default());
        node.children.find(&self.scratch, 0, self.scratch.len())
    }
}

/// A number for a key within a place. Two places have the same one by a chance of one in 2^64.
fn place(parent: u64, key: &str) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = key.as_bytes().as_chunks::<8>();
    let tail = rest.iter().fold(rest.len() as u64 + 1, |word, byte| word << 8 | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words.chain([tail]).fold(parent.wrapping_add(1).wrapping_mul(MIX), |mixed, word| {
        let mixed = (mixed ^ word).wrapping_mul(MIX);
        mixed ^ mixed >> 29
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::config::{Config, Secrets};
    use shared::schema::Schema;

    use super::*;
    use crate::transform::Transform;

    fn seen(protect: &str, record: &str) -> Vec<String> {
        let example = include_str!("../../../deploy/pipeline.example.toml");
        let text = format!("{example}\n[protect]\n{protect}\n");
        let config = Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused).unwrap();
        let schema = Schema::built_in(1..=3);
        let transform =
            Transform::new(&schema, &[]).unwrap().with_protection(&config.protect, &schema).unwrap();
        let mut seen = Vec::new();
        survey(&transform.plan, record, &mut |sighting| {
            let Sighting { keys, target, raw, is_protected, .. } = sighting;
            let column = if target.is_some() { "column" } else { "none" };
            let raw = if *is_protected { "protected" } else { raw };
            seen.push(format!("{} {column} {raw}", keys.join("/")));
        });
        seen
    }

    #[test]
    fn every_field_is_seen_and_nothing_inside_what_nobody_named() {
        let record = r#"{"pageName":"a", "evars":{"evars":{"eVar1":"b","eVar999":1}}, "new":{"jane@example.com":2},
            "products":[{"name":"x"}], "hierarchies":{"hier2":"a:b","own":"c"}, "hitIdHigh":7, "\u0069p":"1.2.3.4", "events":[]}"#;
        let expected = [
            "pageName column \"a\"",
            "evars/evars/eVar1 column \"b\"",
            "evars/evars/eVar999 none 1",
            "new none {\"jane@example.com\":2}",
            "products column [{\"name\":\"x\"}]",
            "hierarchies/hier2 column \"a:b\"",
            "hierarchies column {\"hier2\":\"a:b\",\"own\":\"c\"}",
            "hitIdHigh column 7",
            "\\u0069p column \"1.2.3.4\"",
            "events none []",
        ];
        assert_eq!(seen("", record), expected);
    }

    #[test]
    fn what_is_protected_is_told_as_such_also_where_no_column_reads_it() {
        let record = r#"{"ip":"1.2.3.4","who":{"a":"b"},"part":{"in":{"deep":1},"other":2}}"#;
        let expected =
            ["ip column protected", "who none protected", "part/in none protected", "part/other none 2"];
        assert_eq!(seen("mask_ip = [\"ip\"]\ndrop = [\"who\", \"part.in\"]", record), expected);
    }

    #[test]
    fn places_have_different_numbers() {
        let mut numbers: Vec<_> = (0..1_000).map(|n| place(0, &format!("eVar{n}"))).collect();
        numbers.extend((0..1_000).map(|n| place(1, &format!("eVar{n}"))));
        numbers.extend(["", "\0", "a", "a\0"].map(|key| place(0, key)));
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }
}
