//! URLs without some parameters of their queries.

use std::borrow::Cow;

use crate::transform::protect::query::is_url;

/// So often a text may be encoded within another one.
const ENCODINGS: usize = 5;

/// The names of the parameters to take out, in small letters.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters {
    names: Vec<String>,
}

impl Parameters {
    pub(super) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// Appends a URL without these parameters, and without whatever holds one of them: another parameter that is a URL
    /// itself, or the fragment. False, and nothing is appended, if it is no URL, or its path holds one.
    pub(super) fn mask(&self, text: &str, out: &mut String) -> bool {
        let text = text.trim();
        let (page, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        if !is_url(page) || self.is_in(page) {
            return false;
        }
        out.push_str(page);
        let (query, fragment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
        let mut before = '?';
        for parameter in query.get(1..).unwrap_or_default().split(['&', ';']) {
            if !parameter.is_empty() && !self.is_named(parameter) && !self.is_in(parameter) {
                out.push(before);
                out.push_str(parameter);
                before = '&';
            }
        }
        if !self.is_in(fragment) {
            out.push_str(fragment);
        }
        true
    }

    fn is_named(&self, parameter: &str) -> bool {
        let name = parameter.split('=').next().unwrap_or_default();
        let Some(name) = decoded(name) else { return true };
        // As some servers write the elements of a list: `email[]`, `email[0]`.
        let name = name.split('[').next().unwrap_or_default().trim().to_lowercase();
        self.names.contains(&name)
    }

    /// Whether one of the names stands in the text with a value, however often it is encoded.
    fn is_in(&self, text: &str) -> bool {
        if memchr::memchr3(b'=', b':', b'%', text.as_bytes()).is_none() {
            return false;
        }
        let Some(text) = decoded(text) else { return true };
        let text = text.to_lowercase();
        self.names.iter().any(|name| {
            text.match_indices(name.as_str()).any(|(at, _)| {
                let (before, after) = (text.get(..at), text.get(at + name.len()..));
                let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
                let whole = !before.unwrap_or_default().ends_with(is_of_word);
                let after = after.unwrap_or_default();
                let after = after
                    .trim_start_matches(|c: char| c == '"' || c == '\'' || c == '\\' || c.is_whitespace());
                whole && after.starts_with(['=', ':', '['])
            })
        })
    }
}

/// The text without its encodings; None if there are too many of them.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..ENCODINGS {
        let Some(plain) = decoded_once(&text) else { return Some(text) };
        text = Cow::Owned(plain);
    }
    None
}

/// None if nothing is encoded.
fn decoded_once(text: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let (mut at, mut any) = (0, false);
    while let Some(byte) = bytes.get(at) {
        let pair =
            (*byte == b'%').then(|| Some((digit(bytes.get(at + 1))?, digit(bytes.get(at + 2))?))).flatten();
        let (byte, length) = match pair {
            Some((high, low)) => (u8::try_from(high * 16 + low).unwrap_or_default(), 3),
            None if *byte == b'+' => (b' ', 1),
            None => (*byte, 1),
        };
        any |= pair.is_some();
        plain.push(byte);
        at += length;
    }
    any.then(|| String::from_utf8_lossy(&plain).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protect::check;

    fn masked(text: &str) -> Option<String> {
        let parameters = Parameters::new(&["email".to_owned(), "Token".to_owned()]);
        check::masked(|text, out| parameters.mask(text, out), text)
    }

    #[test]
    fn a_url_loses_these_parameters_and_no_others() {
        for (text, expected) in [
            ("https://x.example/a?a=1&email=jane&b=2#top", "https://x.example/a?a=1&b=2#top"),
            ("https://x.example/a?EMAIL=jane", "https://x.example/a"),
            ("https://x.example/a?%65mail=jane&b", "https://x.example/a?b"),
            ("https://x.example/a?%2565mail=jane", "https://x.example/a"),
            ("https://x.example/a?email[]=jane&email[0]=joe&b=2", "https://x.example/a?b=2"),
            (
                "https://x.example/a?e+mail=1&myemail=2&emails=3",
                "https://x.example/a?e+mail=1&myemail=2&emails=3",
            ),
            ("https://x.example/a?token", "https://x.example/a"),
            ("https://x.example/a?a=1;token=2;b=3", "https://x.example/a?a=1&b=3"),
            // Another URL within one parameter.
            ("https://x.example/a?next=https%3A%2F%2Fy%3Femail%3Djane&b=2", "https://x.example/a?b=2"),
            ("https://x.example/a?next=/y?email=jane&b=2", "https://x.example/a?b=2"),
            ("https://x.example/a?data=%7B%22email%22%3A%22jane%22%7D", "https://x.example/a"),
            ("https://x.example/#access_token=a&token=b", "https://x.example/"),
            ("https://x.example/#/cart?email=jane", "https://x.example/"),
            ("https://x.example/?subject=email", "https://x.example/?subject=email"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected), "{text}");
            assert_eq!(masked(expected).as_deref(), Some(expected), "masked again");
        }
    }

    #[test]
    fn what_is_no_url_or_has_one_in_its_path_is_not_masked() {
        for text in [
            "",
            "email=jane",
            "?email=jane",
            "https://x.example/go/https:%2F%2Fy%3Femail=jane",
            "https://x.example/a;email=jane",
            "https://jane@x.example/",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_too_often_is_taken_out() {
        let mut name = "%65mail".to_owned();
        for _ in 0..10 {
            name = name.replace('%', "%25");
        }
        let url = format!("https://x.example/a?{name}=jane&b=2");
        assert_eq!(masked(&url).as_deref(), Some("https://x.example/a?b=2"));
    }
}
