//! What of JSON a SUPER column can hold. COPY parses the text into values of Redshift, and refuses the row if one of them
//! has no form there.

use crate::transform::outcome::ColumnCounts;
use crate::transform::scan::{Scanner, Span};
use crate::transform::text;

/// The most bytes of a string, or of a key, as long as the session does not ask for longer ones (same page).
const MAX_STRING_BYTES: usize = 65_535;
/// Of objects and arrays: <https://docs.aws.amazon.com/redshift/latest/dg/limitations-super.html>.
const MAX_DEPTH: usize = 1000;

/// Whether Redshift can hold every part of a JSON text: no string too long, no NUL or half of a surrogate pair in it,
/// no number beyond a double, not too deep. `scratch` is overwritten.
pub(super) fn fits(raw: &str, scratch: &mut Vec<u8>) -> bool {
    each_string(raw, |Span { start, end, escaped }| {
        let string = raw.as_bytes().get(start..end).unwrap_or_default();
        if !escaped {
            return string.len() <= MAX_STRING_BYTES;
        }
        let mut counts = ColumnCounts::default();
        scratch.clear();
        text::unescape(string, scratch, &mut counts);
        counts.is_zero() && scratch.len() <= MAX_STRING_BYTES
    })
}

/// Appends the text with strings and keys as Redshift can hold them: without NULs, U+FFFD for halves of surrogate
/// pairs, and cut between two characters. False if something else has no value.
pub(super) fn mend(raw: &str, out: &mut Vec<u8>, counts: &mut ColumnCounts) -> bool {
    let (bytes, mut copied) = (raw.as_bytes(), 0);
    let fits = each_string(raw, |Span { start, end, .. }| {
        out.extend_from_slice(bytes.get(copied..start).unwrap_or_default());
        mend_string(bytes.get(start..end).unwrap_or_default(), out, counts);
        copied = end;
        true
    });
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    fits
}

/// Whether the numbers and the depth of a valid JSON text fit, and `string` says so of each of its strings and keys.
fn each_string(raw: &str, mut string: impl FnMut(Span) -> bool) -> bool {
    let mut depth = 0_usize;
    let mut scanner = Scanner::of_valid(raw);
    // Brackets, commas, colons and blanks are skipped one by one: only what stands between them matters.
    while let Some(byte) = scanner.peek() {
        let start = scanner.at();
        match byte {
            b'"' => {
                let Ok(text) = scanner.string() else { return false };
                if !string(text) {
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

/// The inside of a string, its escapes as they stand, as far as Redshift takes it.
fn mend_string(string: &[u8], out: &mut Vec<u8>, counts: &mut ColumnCounts) {
    let (mut rest, mut room, mut character) = (string, MAX_STRING_BYTES, Vec::new());
    while !rest.is_empty() {
        let (plain, escape) = rest.split_at(memchr::memchr(b'\\', rest).unwrap_or(rest.len()));
        let kept = text::cut(plain, room);
        out.extend_from_slice(kept);
        room -= kept.len();
        character.clear();
        let mut altered = ColumnCounts::default();
        rest = text::character(escape, &mut character, &mut altered);
        if kept.len() < plain.len() || character.len() > room {
            counts.cut += 1;
            return;
        }
        room -= character.len();
        match altered.is_zero() {
            true => out.extend_from_slice(escape.get(..escape.len() - rest.len()).unwrap_or_default()),
            // Nothing of a NUL, U+FFFD for half a pair.
            false => out.extend_from_slice(&character),
        }
        counts.add(&altered);
    }
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

    #[test]
    fn of_a_string_only_what_redshift_cannot_hold_is_lost() {
        let mended = |text: &str| {
            let (mut out, mut counts) = (Vec::new(), ColumnCounts::default());
            let fits = mend(text, &mut out, &mut counts);
            fits.then(|| (String::from_utf8(out).unwrap(), counts))
        };
        let counts = |nuls, replaced, cut| ColumnCounts { nuls, replaced, cut, ..ColumnCounts::default() };
        for (text, expected, counts) in [
            (r#" {"a\n" : [1, "x\u0000y", true]} "#, r#" {"a\n" : [1, "xy", true]} "#, counts(1, 0, 0)),
            (r#"{"\u0000":"\u0000\\\u0000"}"#, r#"{"":"\\"}"#, counts(3, 0, 0)),
            (r#"["\ud800","\ud83d\ude00é"]"#, "[\"\u{fffd}\",\"\\ud83d\\ude00é\"]", counts(0, 1, 0)),
        ] {
            assert_eq!(mended(text), Some((expected.to_owned(), counts)), "{text}");
        }
        let most = "a".repeat(MAX_STRING_BYTES - 1);
        for (end, kept) in
            [("\\n", "\\n"), ("\\nb", "\\n"), ("é", ""), ("b\\ud83d\\ude00", "b"), ("\\u00e9", "")]
        {
            let (text, cut) = mended(&format!("[\"{most}{end}\",\"kept\"]")).unwrap();
            assert_eq!(
                (text.len(), text.ends_with(&format!("a{kept}\",\"kept\"]"))),
                (most.len() + kept.len() + 11, true)
            );
            assert_eq!(cut, counts(0, 0, u64::from(kept != end)), "{end}");
        }
        for text in ["[\"\\u0000\", 1e309]", &format!("{}{}", "[".repeat(1001), "]".repeat(1001))] {
            assert_eq!(mended(text), None);
        }
    }
}
