//! Events: an object of arrays of {count, exponent, unique}, where the value is the sum of count·10^exponent.

use super::{
    mix::Rng,
    values::{hex, number},
};

/// The first event, with its value as `decimal(18,2)` worked out by hand.
pub(crate) struct Event {
    entries: &'static [(i64, i32)],
    pub(crate) stored: &'static str,
}

const fn event(entries: &'static [(i64, i32)], stored: &'static str) -> Event {
    Event { entries, stored }
}

/// Each is a way to get the sum wrong: scale, several entries, sign, more digits than a double holds.
const FIRST: &[Event] = &[
    event(&[(1, 0)], "1.00"),
    event(&[(150, -2)], "1.50"),
    event(&[(3, 2)], "300.00"),
    event(&[(1, 0), (25, -1)], "3.50"),
    event(&[(7, 0), (7, 0)], "14.00"),
    event(&[(-5, -1)], "-0.50"),
    event(&[(9_007_199_254_740_993, 0)], "9007199254740993.00"),
    event(&[(12_345_678, -2)], "123456.78"),
    event(&[(1, -2), (1, -2), (1, -2)], "0.03"),
    event(&[(10, -1), (20, -2)], "1.20"),
    event(&[(1, -2), (999_999_999_999_999_998, -2)], "9999999999999999.99"),
    event(&[(2_500, -3)], "2.50"),
];

const NAMED: &[&str] =
    &["revenue", "productViews", "carts", "checkouts", "cartAdditions", "cartRemovals", "cartViews"];

/// `event1` for this draw: one hit in four has none.
pub(crate) fn first(draw: u64) -> Option<&'static Event> {
    (draw & 3 != 0).then(|| &FIRST[((draw >> 8) % FIRST.len() as u64) as usize])
}

/// `"events":{…},` with `event1` as given and about five others.
pub(crate) fn write(first: Option<&Event>, rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"events\":{");
    if let Some(first) = first {
        out.extend_from_slice(b"\"event1\":");
        entries(first.entries, rng, out);
    }
    let mut event = 2 + rng.below(8);
    for _ in 0..2 + rng.below(4) {
        out.extend_from_slice(b"\"event");
        number(event, out);
        out.extend_from_slice(b"\":");
        other(rng, out);
        event += 1 + rng.below(247);
    }
    if rng.one_in(4) {
        let from = rng.below(NAMED.len() as u64 - 1) as usize;
        for name in &NAMED[from..from + 1 + rng.below(2) as usize] {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            other(rng, out);
        }
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"},");
}

/// `"events":{…}` of a product.
pub(crate) fn write_of_product(rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"events\":{\"event");
    number(2 + rng.below(998), out);
    out.extend_from_slice(b"\":");
    other(rng, out);
    out.pop();
    out.push(b'}');
}

fn other(rng: &mut Rng, out: &mut Vec<u8>) {
    let count = i64::from(rng.below(500) as u16) + 1;
    match rng.below(8) {
        0 => entries(&[(count, -2)], rng, out),
        1 => entries(&[(count, 0), (count * 10, -1)], rng, out),
        _ => entries(&[(count, 0)], rng, out),
    }
}

fn entries(entries: &[(i64, i32)], rng: &mut Rng, out: &mut Vec<u8>) {
    out.push(b'[');
    for (count, exponent) in entries {
        out.extend_from_slice(b"{\"count\":");
        number(*count, out);
        out.extend_from_slice(b",\"exponent\":");
        number(*exponent, out);
        out.extend_from_slice(b",\"unique\":\"");
        if rng.one_in(8) {
            hex(rng.next(), out);
        }
        out.extend_from_slice(b"\"},");
    }
    out.pop();
    out.extend_from_slice(b"],");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_value_is_the_exact_sum() {
        for event in FIRST {
            let thousandths: i128 = event
                .entries
                .iter()
                .map(|(count, exponent)| i128::from(*count) * 10_i128.pow((exponent + 3).unsigned_abs()))
                .sum();
            assert_eq!(thousandths % 10, 0, "two decimals suffice for {}", event.stored);
            let stored: i128 = event.stored.replace('.', "").parse().unwrap();
            assert_eq!(stored * 10, thousandths, "{}", event.stored);
        }
    }
}
