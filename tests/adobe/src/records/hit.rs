//! One hit as JSON, in the shape Adobe documents (`example-output` in the Livestream guide of
//! AdobeDocs/analytics-2.0-apis) and with the variations seen in the wild: both spellings of names, ids as number
//! or text, flags as boolean, number or letter, keys in any order, keys nobody knows.
//!
//! Bytes are appended directly; each part writes `"key":value,` and the last comma is taken off at the end.

use super::{
    Generator, Kind, events,
    mix::{For, Rng},
    values::{NASTY, Value, WORDS, hex, number},
};

mod context;
mod groups;

/// A hit being written.
struct Hit<'a> {
    of: &'a Generator,
    index: u64,
    rng: Rng,
    out: &'a mut Vec<u8>,
}

/// Every part of a record. They are written in this order from a part that differs from hit to hit, so that no
/// reader gets away with relying on the order.
const PARTS: [fn(&mut Hit<'_>); 13] = [
    context::identity,
    context::times,
    context::exclusion,
    context::browser,
    context::mobile,
    context::geography,
    context::page,
    groups::commerce,
    groups::evars,
    events_of,
    groups::props,
    groups::lists,
    groups::unknown,
];

pub(crate) fn write(of: &Generator, index: u64, out: &mut Vec<u8>) {
    let rng = Rng::new(of.draw(index, For::Rest));
    out.push(b'{');
    let mut hit = Hit { of, index, rng, out };
    let first = hit.rng.below(PARTS.len() as u64) as usize;
    for part in PARTS[first..].iter().chain(&PARTS[..first]) {
        part(&mut hit);
    }
    out.pop();
    out.push(b'}');
}

fn events_of(hit: &mut Hit<'_>) {
    let first = events::first(hit.of.draw(hit.index, For::Event1));
    events::write(first, &mut hit.rng, hit.out);
}

impl Hit<'_> {
    /// Bytes as they are.
    fn raw(&mut self, bytes: &str) {
        self.out.extend_from_slice(bytes.as_bytes());
    }

    fn key(&mut self, key: &str) {
        self.out.push(b'"');
        self.raw(key);
        self.raw("\":");
    }

    /// A text that needs no escape.
    fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        self.raw(value);
        self.raw("\",");
    }

    fn one_of(&mut self, key: &str, values: &[&str]) {
        let value = self.rng.pick(values);
        self.plain(key, value);
    }

    fn value(&mut self, key: &str, value: Value) {
        if !matches!(value, Value::Absent) {
            self.key(key);
            value.write_json(self.out);
            self.out.push(b',');
        }
    }

    fn number(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        number(value, self.out);
        self.out.push(b',');
    }

    /// A number below `n`.
    fn any_number(&mut self, key: &str, n: u64) {
        let value = self.rng.below(n);
        self.number(key, value);
    }

    /// A number, one time in `n` as text: the documentation and the captures disagree on ids and times.
    fn number_or_text(&mut self, key: &str, value: impl itoa::Integer, n: u64) {
        let quoted = self.rng.one_in(n);
        self.key(key);
        if quoted {
            self.out.push(b'"');
        }
        number(value, self.out);
        self.raw(if quoted { "\"," } else { "," });
    }

    /// A flag in one of the spellings given as JSON.
    fn flag(&mut self, key: &str, spellings: &[&str]) {
        self.key(key);
        let spelling = self.rng.pick(spellings);
        self.raw(spelling);
        self.out.push(b',');
    }

    /// A number appended without a key.
    fn digits(&mut self, value: impl itoa::Integer) {
        number(value, self.out);
    }

    fn any_digits(&mut self, n: u64) {
        let value = self.rng.below(n);
        number(value, self.out);
    }

    fn any_hex(&mut self) {
        let value = self.rng.next();
        hex(value, self.out);
    }

    fn word(&mut self) {
        let word = self.rng.pick(WORDS);
        self.raw(word);
    }

    /// `count` different numbers from `low` on, spread over `width`. The steps share no factor with the width.
    fn spread(
        &mut self,
        count: u64,
        low: u64,
        width: u64,
        steps: &[u64],
    ) -> impl Iterator<Item = u64> + use<> {
        let start = self.rng.below(width);
        let step = steps[self.rng.below(steps.len() as u64) as usize];
        (0..count).map(move |turn| low + (start + turn * step) % width)
    }

    fn drop_comma(&mut self) {
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
    }
}
