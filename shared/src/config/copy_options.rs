//! Options of COPY that a configuration may add. An option that could break exactly-once or "all rows or none" is refused:
//! MAXERROR and NOLOAD load less than the seal says, and the program itself sets the options of format and source.
//!
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html>,
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-load.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

/// Checked options, each at most once, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions(BTreeMap<&'static str, CopyValue>);

/// What follows the name of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CopyValue {
    None,
    Word(&'static str),
    Character(char),
}

impl Default for CopyOptions {
    /// What every load has: to analyse and re-encode the table would take longer than the load.
    fn default() -> Self {
        Self(["COMPUPDATE", "STATUPDATE"].map(|name| (name, CopyValue::Word("OFF"))).into())
    }
}

impl CopyOptions {
    /// Checks the options of a configuration; the error names the first that is not allowed, and why.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut given: Vec<&str> = Vec::new();
        for text in texts {
            let (name, value) = option(text).map_err(|rule| format!("{text:?}: {rule}"))?;
            if given.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            given.push(name);
            options.0.insert(name, value);
        }
        Ok(options)
    }

    /// Each option with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &CopyValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

impl<'de> Deserialize<'de> for CopyOptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

#[derive(Clone, Copy)]
enum Form {
    Alone,
    Switch,
    SwitchOrPreset,
    Character,
}

const OPTIONS: [(&str, Form); 7] = [
    ("ACCEPTINVCHARS", Form::Character),
    ("BLANKSASNULL", Form::Alone),
    ("COMPUPDATE", Form::SwitchOrPreset),
    ("ROUNDEC", Form::Alone),
    ("STATUPDATE", Form::Switch),
    ("TRIMBLANKS", Form::Alone),
    ("TRUNCATECOLUMNS", Form::Alone),
];

const ALLOWED: &str = "ACCEPTINVCHARS ['c'], BLANKSASNULL, COMPUPDATE ON|OFF|PRESET, ROUNDEC, STATUPDATE ON|OFF, TRIMBLANKS, \
                       TRUNCATECOLUMNS";

/// Options that Redshift knows and that are not for a site to give, and why.
const REFUSED: [(&str, &str); 4] = [
    (
        "MAXERROR NOLOAD IGNOREHEADER IGNOREALLERRORS IGNOREBLANKLINES",
        "it leaves rows out, and a batch is loaded whole or not at all",
    ),
    ("FILLRECORD ACCEPTANYDATE", "it loads damaged rows as if they were whole"),
    (
        "ESCAPE DELIMITER QUOTE CSV FORMAT REMOVEQUOTES NULL EMPTYASNULL GZIP ZSTD BZIP2 LZOP ENCODING DATEFORMAT \
         TIMEFORMAT FIXEDWIDTH JSON AVRO PARQUET ORC SHAPEFILE EXPLICIT_IDS",
        "the files are read as the producer writes them",
    ),
    (
        "MANIFEST REGION IAM_ROLE CREDENTIALS ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN ENCRYPTED \
         MASTER_SYMMETRIC_KEY SSH READRATIO",
        "it follows from the other keys of the configuration",
    ),
];

fn option(text: &str) -> Result<(&'static str, CopyValue), String> {
    let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let Some((name, form)) = OPTIONS.into_iter().find(|(name, _)| *name == word) else {
        let refused = REFUSED.iter().find(|(names, _)| names.split(' ').any(|name| name == word));
        let why = refused.map_or("it is not known here", |(_, why)| why);
        return Err(format!("{why}; allowed are {ALLOWED}"));
    };
    let value = match (form, rest.to_ascii_uppercase().as_str()) {
        (Form::Alone | Form::Character, "") => Ok(CopyValue::None),
        (Form::Alone, _) => Err("the option takes no value"),
        (Form::Switch | Form::SwitchOrPreset, "ON" | "TRUE") => Ok(CopyValue::Word("ON")),
        (Form::Switch | Form::SwitchOrPreset, "OFF" | "FALSE") => Ok(CopyValue::Word("OFF")),
        (Form::SwitchOrPreset, "PRESET") => Ok(CopyValue::Word("PRESET")),
        (Form::SwitchOrPreset, _) => Err("write ON, OFF or PRESET behind it"),
        (Form::Switch, _) => Err("write ON or OFF behind it"),
        (Form::Character, _) => replacement(rest).map(CopyValue::Character),
    };
    Ok((name, value?))
}

/// COPY replaces by any ASCII character but NULL; the others here would have to be quoted in the row.
fn replacement(quoted: &str) -> Result<char, &'static str> {
    let text = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_graphic() && !"'\\\"~".contains(c) => Ok(c),
        _ => Err("the replacement is one ASCII character between ' and ', and none of ' \\ \" ~"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<String, String> {
        let text = |(name, value): (&str, &CopyValue)| match value {
            CopyValue::None => name.to_owned(),
            CopyValue::Word(word) => format!("{name} {word}"),
            CopyValue::Character(c) => format!("{name} '{c}'"),
        };
        let options = CopyOptions::parse(texts.iter().copied())?;
        Ok(options.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn without_any_the_table_is_neither_analysed_nor_encoded_anew() {
        assert_eq!(parsed(&[]).unwrap(), "COMPUPDATE OFF STATUPDATE OFF");
    }

    #[test]
    fn what_is_allowed_is_sent_in_one_spelling_and_replaces_our_own() {
        for (text, sent) in [
            ("acceptinvchars", "ACCEPTINVCHARS COMPUPDATE OFF STATUPDATE OFF"),
            ("ACCEPTINVCHARS  '^' ", "ACCEPTINVCHARS '^' COMPUPDATE OFF STATUPDATE OFF"),
            ("BLANKSASNULL", "BLANKSASNULL COMPUPDATE OFF STATUPDATE OFF"),
            ("roundec", "COMPUPDATE OFF ROUNDEC STATUPDATE OFF"),
            ("TRIMBLANKS", "COMPUPDATE OFF STATUPDATE OFF TRIMBLANKS"),
            ("TRUNCATECOLUMNS", "COMPUPDATE OFF STATUPDATE OFF TRUNCATECOLUMNS"),
            ("StatUpdate on", "COMPUPDATE OFF STATUPDATE ON"),
            ("STATUPDATE TRUE", "COMPUPDATE OFF STATUPDATE ON"),
            ("COMPUPDATE preset", "COMPUPDATE PRESET STATUPDATE OFF"),
        ] {
            assert_eq!(parsed(&[text]).unwrap(), sent, "{text}");
        }
        let several = ["TRUNCATECOLUMNS", "ACCEPTINVCHARS '?'", "COMPUPDATE ON"];
        assert_eq!(
            parsed(&several).unwrap(),
            "ACCEPTINVCHARS '?' COMPUPDATE ON STATUPDATE OFF TRUNCATECOLUMNS"
        );
    }

    #[test]
    fn what_would_break_a_promise_or_is_unknown_is_refused_with_the_reason() {
        for (text, why) in [
            ("MAXERROR 10", "leaves rows out"),
            ("maxerror as 10", "leaves rows out"),
            ("NOLOAD", "leaves rows out"),
            ("IGNOREHEADER 1", "leaves rows out"),
            ("FILLRECORD", "damaged rows"),
            ("ESCAPE", "as the producer writes them"),
            ("DELIMITER ','", "as the producer writes them"),
            ("NULL AS 'x'", "as the producer writes them"),
            ("MANIFEST", "follows from the other keys"),
            ("CREDENTIALS 'aws_access_key_id=x'", "follows from the other keys"),
            ("FORMAT", "as the producer writes them"),
            ("", "is not known here"),
            ("TRUNCATECOLUMNS; DROP TABLE t", "is not known here"),
            ("TRUNCATECOLUMNS MAXERROR 5", "takes no value"),
            ("ROUNDEC --", "takes no value"),
            ("STATUPDATE", "write ON or OFF"),
            ("STATUPDATE PRESET", "write ON or OFF"),
            ("COMPUPDATE ON MAXERROR 5", "write ON, OFF or PRESET"),
            ("ACCEPTINVCHARS '''", "one ASCII character"),
            ("ACCEPTINVCHARS 'ab'", "one ASCII character"),
            ("ACCEPTINVCHARS 'é'", "one ASCII character"),
            ("ACCEPTINVCHARS '~'", "one ASCII character"),
            ("ACCEPTINVCHARS x", "one ASCII character"),
            ("ACCEPTINVCHARS 'x' NOLOAD", "one ASCII character"),
        ] {
            let said = parsed(&[text]).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(parsed(&["ROUNDEC", "roundec"]).unwrap_err().contains("given twice"));
    }
}
