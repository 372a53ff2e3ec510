//! The values of text fields: how each is spelled in JSON and what it means. The two stand side by side, written
//! by hand, so that the oracle owes nothing to a JSON parser.

use super::mix::mix;

/// One troublesome text, as JSON source (without the outer quotes) and as the text it stands for.
pub(crate) struct Text {
    pub(crate) json: &'static str,
    pub(crate) plain: &'static str,
}

const fn text(json: &'static str, plain: &'static str) -> Text {
    Text { json, plain }
}

/// Everything that breaks a careless writer of `~`-separated CSV, a careless reader of JSON, or a careless NULL.
pub(crate) const NASTY: &[Text] = &[
    text("a~b~~c", "a~b~~c"),
    text("~", "~"),
    text("say \\\"hi\\\"", "say \"hi\""),
    text("\\\"", "\""),
    text("\\\"\\\"~\\\"", "\"\"~\""),
    text("line one\\nline two", "line one\nline two"),
    text("\\n", "\n"),
    text("carriage\\rreturn", "carriage\rreturn"),
    text("dos\\r\\nline\\r\\n", "dos\r\nline\r\n"),
    text("tab\\there", "tab\there"),
    text("back\\\\slash", "back\\slash"),
    text("ends in a backslash\\\\", "ends in a backslash\\"),
    text("\\\\N", "\\N"),
    text("\\\\\\\\N", "\\\\N"),
    text("\\\\n is not a line feed", "\\n is not a line feed"),
    text("NULL", "NULL"),
    text("null", "null"),
    text("crab 🦀 raw", "crab 🦀 raw"),
    text("crab \\ud83e\\udd80 escaped", "crab 🦀 escaped"),
    text("\\uD83D\\uDC68\\u200d\\uD83D\\uDC69\\u200D\\uD83D\\uDC67", "👨\u{200d}👩\u{200d}👧"),
    text("夏の靴 promo 漢字", "夏の靴 promo 漢字"),
    text("\\u590f\\u306e\\u9774", "夏の靴"),
    text("\\u00e9t\\u00E9 en Provence", "été en Provence"),
    text("Größe ß Ünï", "Größe ß Ünï"),
    text("nul\\u0000inside", "nul\0inside"),
    text("\\u0000", "\0"),
    text("\\u0000\\u0000lead and trail\\u0000", "\0\0lead and trail\0"),
    text("bell\\u0007 esc\\u001b del\\u007f", "bell\u{7} esc\u{1b} del\u{7f}"),
    text("\\b\\f", "\u{8}\u{c}"),
    text("  leading", "  leading"),
    text("trailing  ", "trailing  "),
    text(" ", " "),
    text("http:\\/\\/example.com\\/a?b=c&d=%7E", "http://example.com/a?b=c&d=%7E"),
    text("\\u007e tilde by escape", "~ tilde by escape"),
    text("\\u0022quoted by escape\\u0022", "\"quoted by escape\""),
    text("\\u000a\\u000d", "\n\r"),
    text("{\\\"json\\\":[1,2]}", "{\"json\":[1,2]}"),
    text("'; DROP TABLE hits; --", "'; DROP TABLE hits; --"),
    text("$1 %s {} <b>&amp;</b>", "$1 %s {} <b>&amp;</b>"),
    text("\\u2028separators\\u2029 \u{feff}bom", "\u{2028}separators\u{2029} \u{feff}bom"),
    text("not authorized", "not authorized"),
    text("c'est l\u{2019}\u{301}", "c'est l\u{2019}\u{301}"),
];

/// Words of ordinary values; enough of them that gzip finds about as much as it would in real traffic.
pub(crate) const WORDS: &[&str] = &[
    "Summer",
    "Shoe",
    "Promo",
    "checkout",
    "homepage",
    "mens",
    "womens",
    "running",
    "clothing",
    "landing",
    "search",
    "results",
    "detail",
    "cart",
    "logged-in",
    "guest",
    "newsletter",
    "organic",
    "paid",
    "social",
    "email",
    "affiliate",
    "en_US",
    "de_DE",
    "fr_FR",
    "mobile",
    "desktop",
    "tablet",
    "app",
    "spring",
    "clearance",
    "members",
    "video",
    "article",
    "category",
    "Zürich",
];

/// The value of one text field, decided by one draw.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    /// The key is not there.
    Absent,
    /// `null`.
    Null,
    /// `""`.
    Empty,
    /// One of [`NASTY`].
    Nasty(&'static Text),
    /// A little over 300 bytes: more than `varchar(255)` and, two times in three, not cuttable at every byte.
    Long(u64),
    /// The same, cut at 255 bytes.
    Cut(u64),
    /// Words with a number.
    Ordinary(u64),
}

/// Adobe cuts eVars at so many bytes.
const CUT: usize = 255;

const FILLERS: [&str; 3] = ["x", "日", "🦀"];

impl Value {
    /// One field in six or so is out of the ordinary.
    pub(crate) fn of(draw: u64) -> Self {
        let detail = mix(draw ^ 0x5bd1_e995);
        match draw & 0x7f {
            0..=3 => Self::Absent,
            4 => Self::Null,
            5..=6 => Self::Empty,
            7 => Self::Long(detail),
            8..=18 => Self::Nasty(&NASTY[(detail % NASTY.len() as u64) as usize]),
            // Half of them recur, as campaign and page names do; without that gzip would find too little.
            _ if draw & 0x80 == 0 => Self::Ordinary(mix(detail % 100)),
            _ => Self::Ordinary(detail),
        }
    }

    /// As [`Value::of`], but there: for keys whose presence was decided before.
    pub(crate) fn present(draw: u64) -> Self {
        match Self::of(draw) {
            Self::Absent => Self::Ordinary(draw >> 8),
            other => other,
        }
    }

    /// As Adobe sends an eVar since its release of 2026-04-13.
    pub(crate) fn cut(self) -> Self {
        match self {
            Self::Long(detail) => Self::Cut(detail),
            other => other,
        }
    }

    /// The JSON value; nothing for [`Value::Absent`], whose key must not be written either.
    pub(crate) fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => {}
            Self::Null => out.extend_from_slice(b"null"),
            Self::Empty => out.extend_from_slice(b"\"\""),
            Self::Nasty(text) => {
                out.push(b'"');
                out.extend_from_slice(text.json.as_bytes());
                out.push(b'"');
            }
            // No character of these two needs an escape.
            Self::Long(_) | Self::Cut(_) | Self::Ordinary(_) => {
                out.push(b'"');
                self.write_plain(out);
                out.push(b'"');
            }
        }
    }

    fn write_plain(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent | Self::Null | Self::Empty => {}
            Self::Nasty(text) => out.extend_from_slice(text.plain.as_bytes()),
            Self::Long(detail) => {
                let start = out.len();
                number(detail % 100_000, out);
                let filler = FILLERS[(detail >> 32) as usize % FILLERS.len()].as_bytes();
                while out.len() - start < 300 {
                    out.extend_from_slice(filler);
                }
            }
            Self::Cut(detail) => {
                let mut plain = Vec::new();
                Self::Long(detail).write_plain(&mut plain);
                let plain = String::from_utf8(plain).unwrap_or_default();
                out.extend_from_slice(
                    plain.get(..plain.floor_char_boundary(CUT)).unwrap_or_default().as_bytes(),
                );
            }
            Self::Ordinary(detail) => {
                out.extend_from_slice(WORDS[detail as usize & 31].as_bytes());
                out.push(b' ');
                out.extend_from_slice(WORDS[(detail >> 8) as usize % WORDS.len()].as_bytes());
                match detail >> 60 {
                    0..6 => {}
                    6..11 => {
                        out.extend_from_slice(b" #");
                        number((detail >> 16) & 0xffff, out);
                    }
                    11..14 => {
                        out.extend_from_slice(b"|DFA:");
                        number((detail >> 16) & 0xff_ffff, out);
                        out.push(b':');
                        number((detail >> 40) & 0xf_ffff, out);
                    }
                    _ => {
                        out.push(b'-');
                        hex(mix(detail), out);
                    }
                }
            }
        }
    }

    /// What a `varchar(max)` column holds for it: NUL cannot be stored, an empty text and none are both NULL, and
    /// a longer one is cut between characters.
    pub(crate) fn stored(self, max: usize) -> Option<String> {
        let mut plain = Vec::new();
        self.write_plain(&mut plain);
        plain.retain(|byte| *byte != 0);
        let mut plain = String::from_utf8(plain).unwrap_or_default();
        plain.truncate(plain.floor_char_boundary(max));
        (!plain.is_empty()).then_some(plain)
    }
}

/// Appends `n` in decimal.
pub(crate) fn number(n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends sixteen hexadecimal digits, as in tracking codes and session tokens.
pub(crate) fn hex(n: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).map(|digit| DIGITS[(n >> (digit * 4)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nasty_text_means_what_its_json_says() {
        for text in NASTY {
            let parsed: String = serde_json::from_str(&format!("\"{}\"", text.json)).unwrap();
            assert_eq!(parsed, text.plain, "{}", text.json);
        }
    }

    #[test]
    fn long_texts_exceed_a_column_and_are_cut_between_characters() {
        for detail in 0..3 {
            let value = Value::Long((detail << 32) | 12_345);
            let mut json = Vec::new();
            value.write_json(&mut json);
            assert!(json.len() > 300);
            let stored = value.stored(255).unwrap();
            assert!((252..=255).contains(&stored.len()), "{}", stored.len());
        }
    }

    #[test]
    fn a_cut_text_is_the_beginning_of_the_long_one_and_stored_alike() {
        for detail in (0..3).map(|filler| (filler << 32) | 12_345) {
            let json = |value: Value| {
                let mut json = Vec::new();
                value.write_json(&mut json);
                serde_json::from_slice::<String>(&json).unwrap()
            };
            let (long, cut) = (Value::Long(detail), Value::Long(detail).cut());
            assert!((252..=255).contains(&json(cut).len()) && json(long).starts_with(&json(cut)));
            assert_eq!(cut.stored(255), long.stored(255));
        }
    }

    #[test]
    fn nothing_is_stored_for_empty_null_absent_or_only_nul() {
        let only_nul = Value::Nasty(&Text { json: "\\u0000", plain: "\0" });
        for value in [Value::Absent, Value::Null, Value::Empty, only_nul] {
            assert_eq!(value.stored(255), None);
        }
    }
}
