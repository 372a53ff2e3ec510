//! What of JSON a SUPER column takes. Redshift takes the text apart when it loads it, into values of its own: what has
//! none there would make COPY refuse the row.

use super::ColumnCounts;
use super::scan::Scanner;
use super::text;

/// The most bytes of a string, or of a key, as long as the session does not ask for longer ones (same page).
const MAX_STRING_BYTES: usize = 65_535;
/// The most objects and arrays within each other:
/// <https://docs.aws.amazon.com/redshift/latest/dg/limitations-super.html>.
const MAX_DEPTH: usize = 1000;

/// Whether every part of a JSON text has a value in Redshift: no string too long, no NUL and no half of a surrogate
/// pair in it, no number beyond a double, not too deep. `scratch` is overwritten.
pub(super) fn fits(raw: &str, scratch: &mut Vec<u8>) -> bool {
    let bytes = raw.as_bytes();
    let mut depth = 0_usize;
    let mut scanner = Scanner::of_valid(raw);
    // Brackets, commas, colons and blanks are gone over one by one: only what stands between them matters.
    while let Some(byte) = scanner.peek() {
        let start = scanner.at();
        match byte {
            b'"' => {
                let Ok(text) = scanner.string() else { return false };
                let string = bytes.get(text.start..text.end).unwrap_or_default();
                let fits = if text.escaped {
                    escapes_fit(string, scratch)
                } else {
                    string.len() <= MAX_STRING_BYTES
                };
                if !fits {
                    return false;
                }
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let Ok(_) = scanner.value() else { return false };
                let number = raw.get(start..scanner.at()).and_then(|text| text.parse::<f64>().ok());
                if !number.is_some_and(f64::is_finite) {
                    return false;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
        scanner.step();
    }
    true
}

fn escapes_fit(string: &[u8], scratch: &mut Vec<u8>) -> bool {
    let mut counts = ColumnCounts::default();
    scratch.clear();
    text::unescape(string, scratch, &mut counts);
    counts.is_zero() && scratch.len() <= MAX_STRING_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redshift_has_no_value_for_does_not_fit() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let long = |bytes: usize| "é".repeat(bytes / 2) + if bytes % 2 == 1 { "a" } else { "" };
        let (most, more) = (long(MAX_STRING_BYTES), long(MAX_STRING_BYTES + 1));
        let escaped = format!("[\"{}\\n\"]", &most[..most.len() - 1]);
        let long = |text: &str| [format!("[1, \"{text}\"]"), format!("{{\"{text}\": 1}}")];
        let fits = |text: &str| fits(text, &mut Vec::new());
        assert!(long(&most).iter().all(|text| fits(text)) && fits(&escaped));
        assert!(!long(&more).iter().any(|text| fits(text)) && !fits(&escaped.replace("[\"", "[\"a")));
        for text in ["1", "\"a\\n\\ud83d\\ude00\"", "[1e308, -0.0, {\"a\": [null, true]}]", &deep(1000)] {
            assert!(fits(text), "{text}");
        }
        for text in ["1e309", "[\"\\u0000\"]", "{\"a\\ud800\": 1}", "[-1e999999]", &deep(1001)] {
            assert!(!fits(text), "{text}");
        }
    }
}
