//! Options of COPY that a site may add. What is not known to leave exactly-once and "all rows or none" alone is
//! refused: MAXERROR and NOLOAD load less than the seal says, the options of format and source are the product's own.
//!
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html>,
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-load.html>

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::sql::literal;

/// Checked options, each at most once, spelled as they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions(BTreeMap<&'static str, String>);

impl Default for CopyOptions {
    /// What every load has: analysing and re-encoding the table is not a loader's business, and would take longer
    /// than the load.
    fn default() -> Self {
        let off = |name: &'static str| (name, format!("{name} OFF"));
        Self(BTreeMap::from([off("COMPUPDATE"), off("STATUPDATE")]))
    }
}

impl CopyOptions {
    /// Checks the options of a configuration.
    ///
    /// # Errors
    /// What is wrong with the first that may not stand there.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut given: Vec<&str> = Vec::new();
        for text in texts {
            let (name, spelled) = option(text)?;
            if given.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            given.push(name);
            options.0.insert(name, spelled);
        }
        Ok(options)
    }
}

/// As COPY takes them, separated by blanks.
impl fmt::Display for CopyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, option) in self.0.values().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(option)?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for CopyOptions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

const ALLOWED: &str = "ACCEPTINVCHARS ['c'], BLANKSASNULL, COMPUPDATE ON|OFF|PRESET, ROUNDEC, STATUPDATE ON|OFF, TRIMBLANKS, \
                       TRUNCATECOLUMNS";

/// Why an option that Redshift knows is not for a site to give.
fn reason(name: &str) -> &'static str {
    match name {
        "MAXERROR" | "NOLOAD" | "IGNOREHEADER" | "IGNOREALLERRORS" | "IGNOREBLANKLINES" => {
            "it leaves rows out, and a batch is loaded whole or not at all"
        }
        "FILLRECORD" | "ACCEPTANYDATE" => "it loads damaged rows as if they were whole",
        "ESCAPE" | "DELIMITER" | "QUOTE" | "CSV" | "FORMAT" | "REMOVEQUOTES" | "NULL" | "EMPTYASNULL"
        | "GZIP" | "ZSTD" | "BZIP2" | "LZOP" | "ENCODING" | "DATEFORMAT" | "TIMEFORMAT" | "FIXEDWIDTH"
        | "JSON" | "AVRO" | "PARQUET" | "ORC" | "SHAPEFILE" | "EXPLICIT_IDS" => {
            "the files are read as the producer writes them"
        }
        "MANIFEST"
        | "REGION"
        | "IAM_ROLE"
        | "CREDENTIALS"
        | "ACCESS_KEY_ID"
        | "SECRET_ACCESS_KEY"
        | "SESSION_TOKEN"
        | "ENCRYPTED"
        | "MASTER_SYMMETRIC_KEY"
        | "SSH"
        | "READRATIO" => "it follows from the other keys of the configuration",
        _ => "it is not known here",
    }
}

/// The option's name, and how it is sent.
fn option(text: &str) -> Result<(&'static str, String), String> {
    let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let wrong = |rule: &str| Err(format!("{text:?}: {rule}"));
    let alone = |name: &'static str| {
        if rest.is_empty() { Ok((name, name.to_owned())) } else { wrong("the option takes no value") }
    };
    let switch = |name: &'static str, preset: bool| {
        let value = match rest.to_ascii_uppercase().as_str() {
            "ON" | "TRUE" => "ON",
            "OFF" | "FALSE" => "OFF",
            "PRESET" if preset => "PRESET",
            _ if preset => return wrong("write ON, OFF or PRESET behind it"),
            _ => return wrong("write ON or OFF behind it"),
        };
        Ok((name, format!("{name} {value}")))
    };
    match word.as_str() {
        "ACCEPTINVCHARS" => {
            let name = "ACCEPTINVCHARS";
            if rest.is_empty() {
                return Ok((name, name.to_owned()));
            }
            let quoted = rest.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            let mut chars = quoted.unwrap_or_default().chars();
            match (chars.next(), chars.next()) {
                // COPY replaces by any ASCII character but NULL; the others here would have to be quoted in the row.
                (Some(c), None) if c.is_ascii_graphic() && !"'\\\"~".contains(c) => {
                    Ok((name, format!("{name} {}", literal(&c.to_string()))))
                }
                _ => wrong("the replacement is one ASCII character between ' and ', and none of ' \\ \" ~"),
            }
        }
        "BLANKSASNULL" => alone("BLANKSASNULL"),
        "ROUNDEC" => alone("ROUNDEC"),
        "TRIMBLANKS" => alone("TRIMBLANKS"),
        "TRUNCATECOLUMNS" => alone("TRUNCATECOLUMNS"),
        "COMPUPDATE" => switch("COMPUPDATE", true),
        "STATUPDATE" => switch("STATUPDATE", false),
        other => wrong(&format!("{}; allowed are {ALLOWED}", reason(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<String, String> {
        CopyOptions::parse(texts.iter().copied()).map(|options| options.to_string())
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
