//! The value of an event: the sum of count × 10^exponent over its array, exactly.

use crate::transform::number::{Number, Scaled};
use crate::transform::scan::Scanner;
use crate::transform::value::{self, Shape, plain_unsigned, shape};

/// The sum of an array, an object or a number. The outer none: it has no value; the inner: there is nothing to add up.
pub(super) fn sum(raw: &str, scratch: &mut Vec<u8>) -> Option<Option<Scaled>> {
    let mut scanner = Scanner::of_valid(raw);
    match shape(raw) {
        Shape::Array(_) => {
            let mut total = None;
            let mut more = scanner.first(b']').ok()?;
            while more {
                let value = Term::read(raw, &mut scanner)?.value(scratch)?;
                total = Some(match total {
                    None => value,
                    Some(total) => add(total, value)?,
                });
                more = scanner.more(b']').ok()?;
            }
            Some(total)
        }
        Shape::Object(_) => Term::read(raw, &mut scanner)?.value(scratch).map(Some),
        Shape::Number(_) | Shape::String(_) => Number::parse(value::scalar(raw, scratch)?)?.exact().map(Some),
        Shape::Null => Some(None),
        Shape::Bool(_) => None,
    }
}

fn add(a: Scaled, b: Scaled) -> Option<Scaled> {
    let scale = a.scale.max(b.scale);
    let align = |value: Scaled| {
        let factor = i128::try_from(10_u128.checked_pow(scale - value.scale)?).ok()?;
        value.signed()?.checked_mul(factor)
    };
    Some(Scaled::from_signed(align(a)?.checked_add(align(b)?)?, scale))
}

/// One `{count, exponent, unique}`.
#[derive(Default)]
struct Term<'a> {
    count: Option<&'a str>,
    exponent: Option<&'a str>,
}

impl<'a> Term<'a> {
    /// The object at the scanner's position; none if it is something else.
    fn read(raw: &'a str, scanner: &mut Scanner<'a>) -> Option<Self> {
        if scanner.peek() != Some(b'{') {
            return None;
        }
        let mut term = Self::default();
        let read = scanner.members(raw, |key, value| match key {
            // A key may come twice: the last that is not empty counts, as with any other.
            "count" => value::keep_last(&mut term.count, value),
            "exponent" => value::keep_last(&mut term.exponent, value),
            _ => {}
        });
        read.is_ok().then_some(term)
    }

    fn value(&self, scratch: &mut Vec<u8>) -> Option<Scaled> {
        let (count, exponent) = (self.count?, self.exponent.unwrap_or("0"));
        // Nearly every event: a small count, and as many digits after the point as its currency has.
        let scale = match exponent {
            "0" => Some(0),
            "-1" => Some(1),
            "-2" => Some(2),
            "-3" => Some(3),
            _ => None,
        };
        if let (Some(scale), Some(count)) = (scale, plain_unsigned(count.as_bytes())) {
            return Some(Scaled { negative: false, units: count.into(), scale, rounded: false });
        }
        let exponent = match exponent {
            "null" => 0,
            raw => i64::try_from(Number::parse(value::scalar(raw, scratch)?)?.whole()?.signed()?).ok()?,
        };
        Number::parse(value::scalar(count, scratch)?)?.shifted(exponent).exact()
    }
}
