//! Mends a record that is nearly JSON: some bytes are no UTF-8, or control characters stand in its strings as they are.
//! Without that, one character would cost the whole hit.

use std::fmt::Write;

/// The mended copy, which is JSON if nothing else is wrong with the record. Its buffers stay for the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Mended {
    pub(super) text: String,
    /// Where in the text a U+FFFD stands for bytes that are no UTF-8, ascending.
    pub(super) replaced: Vec<usize>,
}

impl Mended {
    /// U+FFFD replaces what is no UTF-8, escapes replace control characters within strings. False if there is neither.
    pub(super) fn mend(&mut self, line: &[u8]) -> bool {
        let Self { text, replaced } = self;
        text.clear();
        replaced.clear();
        let (mut in_string, mut after_backslash, mut controls) = (false, false, false);
        for chunk in line.utf8_chunks() {
            let valid = chunk.valid();
            let mut copied = 0;
            for (at, byte) in valid.bytes().enumerate() {
                match byte {
                    // Whatever it is, it belongs to the escape; a control character makes none.
                    _ if after_backslash => after_backslash = false,
                    b'\\' if in_string => after_backslash = true,
                    b'"' => in_string = !in_string,
                    0..=0x1f if in_string => {
                        text.push_str(valid.get(copied..at).unwrap_or_default());
                        // Writing to a String cannot fail.
                        let _ = write!(text, "\\u{byte:04x}");
                        copied = at + 1;
                        controls = true;
                    }
                    _ => {}
                }
            }
            text.push_str(valid.get(copied..).unwrap_or_default());
            if !chunk.invalid().is_empty() {
                after_backslash = false;
                replaced.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        controls || !replaced.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(line: &[u8]) -> Option<String> {
        let mut mended = Mended::default();
        mended.mend(line).then(|| mended.text.clone())
    }

    #[test]
    fn only_what_is_no_utf_8_and_control_characters_within_strings_change() {
        for (line, expected) in [
            (&b"{\"a\": \"caf\xe9\"}"[..], "{\"a\": \"caf\u{fffd}\"}"),
            (b"{\"\xe9\xe9\": 1}", "{\"\u{fffd}\u{fffd}\": 1}"),
            // The start of a character that does not go on is one.
            (b"{\"a\": \"\xe4\xb8\"}", "{\"a\": \"\u{fffd}\"}"),
            (b"{\"a\":\t\"a\tb\\\"\x00\"}", "{\"a\":\t\"a\\u0009b\\\"\\u0000\"}"),
            (b"{\"a\": \"\\\\\x1f\"}", "{\"a\": \"\\\\\\u001f\"}"),
        ] {
            assert_eq!(mended(line).as_deref(), Some(expected), "{}", line.escape_ascii());
        }
        for line in [&b""[..], b"{\"a\":\t\"\xc3\xa9\"}", b"\x00{}", b"{\"a\": \"\\t\"}"] {
            assert_eq!(mended(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_backslash_makes_no_escape_of_what_follows_it_raw() {
        let line = b"{\"a\": \"\\\t\"}";
        assert_eq!(mended(line), None);
        assert_eq!(mended(b"{\"a\": \"\\\xff\"}").as_deref(), Some("{\"a\": \"\\\u{fffd}\"}"));
    }
}
