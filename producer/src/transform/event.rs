//! The value of an event: the sum of count × 10^exponent over its array, exactly.

use super::number::{Number, Scaled, power_of_ten};
use super::value::{self, Shape, shape};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// The sum of an event's array, of one of its objects, or a number by itself; the outer none if it has no value,
/// the inner if there is nothing to add up.
pub(super) fn sum(raw: &str, scratch: &mut Vec<u8>) -> Option<Option<Scaled>> {
    match shape(raw) {
        Shape::Array(array) => {
            let mut sum = Sum { total: None, scratch };
            let mut json = serde_json::Deserializer::from_str(array);
            json.deserialize_seq(&mut sum).ok()?;
            Some(sum.total)
        }
        Shape::Object(object) => {
            let mut json = serde_json::Deserializer::from_str(object);
            json.deserialize_map(TermVisitor).ok()?.value(scratch).map(Some)
        }
        Shape::Number(_) | Shape::String(_) => Number::parse(value::scalar(raw, scratch)?)?.exact().map(Some),
        Shape::Null => Some(None),
        Shape::Bool(_) => None,
    }
}

struct Sum<'s> {
    total: Option<Scaled>,
    scratch: &'s mut Vec<u8>,
}

impl<'de> Visitor<'de> for &mut Sum<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(term) = array.next_element::<Term<'_>>()? {
            let value = term.value(self.scratch).ok_or_else(|| A::Error::custom("no number"))?;
            let total = match self.total {
                None => Some(value),
                Some(total) => add(total, value),
            };
            self.total = Some(total.ok_or_else(|| A::Error::custom("the sum is too large"))?);
        }
        Ok(())
    }
}

fn add(a: Scaled, b: Scaled) -> Option<Scaled> {
    let scale = a.scale.max(b.scale);
    let align = |value: Scaled| {
        let factor = i128::try_from(power_of_ten(scale - value.scale)?).ok()?;
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

impl Term<'_> {
    fn value(&self, scratch: &mut Vec<u8>) -> Option<Scaled> {
        let exponent = match self.exponent {
            None | Some("0" | "null") => 0,
            Some(raw) => {
                i64::try_from(Number::parse(value::scalar(raw, scratch)?)?.whole()?.signed()?).ok()?
            }
        };
        Number::parse(value::scalar(self.count?, scratch)?)?.shifted(exponent).exact()
    }
}

impl<'de> Deserialize<'de> for Term<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TermVisitor)
    }
}

struct TermVisitor;

impl<'de> Visitor<'de> for TermVisitor {
    type Value = Term<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with count and exponent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Term<'de>, A::Error> {
        let mut term = Term::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Count => term.count = Some(map.next_value::<&RawValue>()?.get()),
                Key::Exponent => term.exponent = Some(map.next_value::<&RawValue>()?.get()),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(term)
    }
}

enum Key {
    Count,
    Exponent,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"count" => Key::Count,
                    b"exponent" => Key::Exponent,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_bytes(KeyVisitor)
    }
}
