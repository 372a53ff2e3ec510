//! What the values of one field are like, without the values: types, lengths, digits and the form of the first.

use serde::{Deserialize, Serialize};
use state::status::drift::SeenValues;

use crate::transform::{JsonType, Scalar};

/// Characters of a form.
const FORM: usize = 40;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Values {
    empty: u64,
    /// By [`JsonType`].
    types: [u64; JsonType::ALL.len()],
    longest: u64,
    whole_digits: u64,
    fraction_digits: u64,
    negative: bool,
    /// Some text is no number.
    wordy: bool,
    example: Option<String>,
}

impl Values {
    /// Takes a value; one that is none, null or an empty text, is only counted.
    pub(super) fn add(&mut self, value: &Scalar<'_>) {
        if value.is_empty {
            self.empty += 1;
            return;
        }
        if let Some(count) = self.types.get_mut(value.json_type as usize) {
            *count += 1;
        }
        self.longest = self.longest.max(value.text.len() as u64);
        match value.digits() {
            Some(digits) => {
                self.whole_digits = self.whole_digits.max(digits.whole);
                self.fraction_digits = self.fraction_digits.max(digits.fraction);
                self.negative |= digits.negative;
            }
            None => self.wordy |= value.json_type == JsonType::String,
        }
        if self.example.is_none() {
            self.example = Some(form(value));
        }
    }

    pub(super) fn seen(&self) -> SeenValues {
        let types = JsonType::ALL.into_iter().zip(self.types).filter(|(_, count)| *count > 0);
        SeenValues {
            empty: self.empty,
            types: types.map(|(of, count)| (of.name().to_owned(), count)).collect(),
            longest: self.longest,
            whole_digits: self.whole_digits,
            fraction_digits: self.fraction_digits,
            negative: self.negative,
            numeric: !self.wordy && self.types.get(JsonType::String as usize).is_some_and(|count| *count > 0),
            example: self.example.clone(),
        }
    }
}

/// The form of a value: it says nothing of a person. `Jane 12` is `Aaaa 99`.
pub(super) fn form(value: &Scalar<'_>) -> String {
    match value.json_type {
        JsonType::Array => "[…]".to_owned(),
        JsonType::Object => "{…}".to_owned(),
        JsonType::Boolean | JsonType::Number | JsonType::String => form_of(value.text),
    }
}

/// The form of a text: a letter for letters, a digit for digits, and of the rest what stands on a keyboard.
pub(super) fn form_of(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..4 * FORM).unwrap_or(text));
    let mut form: String = text.chars().take(FORM).map(letter).collect();
    if text.chars().nth(FORM).is_some() {
        form.push('…');
    }
    form
}

fn letter(c: char) -> char {
    match c {
        c if c.is_uppercase() => 'A',
        c if c.is_alphabetic() => 'a',
        c if c.is_numeric() => '9',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_neither_letters_nor_digits_of_the_value() {
        for (text, expected) in [
            ("Jane Doe 12", "Aaaa Aaa 99"),
            ("jane@example.com", "aaaa@aaaaaaa.aaa"),
            ("198.51.100.77", "999.99.999.99"),
            ("夏 é\u{7}\u{202e}", "a a??"),
            ("", ""),
        ] {
            assert_eq!(form_of(text.as_bytes()), expected);
        }
        let long = form_of("x".repeat(1_000).as_bytes());
        assert_eq!(long.chars().count(), FORM + 1);
    }

    fn seen(raws: &[&str]) -> SeenValues {
        let mut values = Values::default();
        let mut scratch = Vec::new();
        raws.iter().for_each(|raw| values.add(&Scalar::of(raw, &mut scratch)));
        values.seen()
    }

    #[test]
    fn types_lengths_and_digits_are_those_of_the_values() {
        let numbers = seen(&["12", "-3.250", "\"007\"", "null", "\"\"", "1e3"]);
        assert_eq!((numbers.empty, numbers.longest), (2, 6));
        assert_eq!((numbers.whole_digits, numbers.fraction_digits, numbers.negative), (4, 3, true));
        assert!(numbers.numeric && numbers.types["number"] == 3 && numbers.types["text"] == 1, "{numbers:?}");
        let texts = seen(&["\"a\\u00e9\\n\"", "\"12\"", "{\"a\":1}", "[1,2]", "true"]);
        assert!(!texts.numeric && texts.longest == 7, "{texts:?}");
        assert_eq!(texts.types.keys().collect::<Vec<_>>(), ["array", "boolean", "object", "text"]);
        assert_eq!(texts.example.as_deref(), Some("aa?"));
    }
}
