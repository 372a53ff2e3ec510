//! Where a value stands in a record: object keys joined by dots.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Object keys joined by dots: `evars.evars.eVar1`. A backslash stands before a dot or backslash. `$` is the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonPath {
    keys: Vec<String>,
}

/// A text that is not a path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a path: {rule}", text.escape_debug())]
pub struct PathError {
    text: String,
    rule: &'static str,
}

impl JsonPath {
    /// The record itself.
    pub fn record() -> Self {
        Self { keys: Vec::new() }
    }

    /// A path of these keys, which may hold any character.
    pub fn of<S: Into<String>>(keys: impl IntoIterator<Item = S>) -> Self {
        Self { keys: keys.into_iter().map(Into::into).collect() }
    }

    /// The keys from the record inwards; none for the record itself.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Whether this is `$`.
    pub fn is_record(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_record() {
            return f.write_str("$");
        }
        for (number, key) in self.keys.iter().enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            // A `$` as the first key would read back as the record.
            if key == "$" && number == 0 {
                f.write_str("\\")?;
            }
            for c in key.chars() {
                if matches!(c, '.' | '\\' | ']') {
                    f.write_str("\\")?;
                }
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl FromStr for JsonPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let refuse = |rule| PathError { text: text.to_owned(), rule };
        if text == "$" {
            return Ok(Self::record());
        }
        let mut keys = Vec::new();
        let mut key = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => key.push(chars.next().ok_or_else(|| refuse("it ends in a backslash"))?),
                '.' => keys.push(std::mem::take(&mut key)),
                other => key.push(other),
            }
        }
        keys.push(key);
        if keys.iter().any(String::is_empty) {
            return Err(refuse("a key is empty"));
        }
        // As the documentation of Livestream writes an array's elements. A key that ends so is written `[\\]`.
        if text.ends_with("[]") || text.contains("[].") {
            return Err(refuse("a path names no elements: leave `[]` out, the column gets the whole array"));
        }
        if text.starts_with("$.") {
            return Err(refuse("a path starts with the first key: leave `$.` out"));
        }
        Ok(Self { keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for keys in [
            vec!["ip"],
            vec!["evars", "evars", "eVar1"],
            vec!["a.b", "c\\d"],
            vec!["$"],
            vec!["$", "a"],
            vec!["{n}"],
            vec!["a[]"],
        ] {
            let path = JsonPath::of(keys);
            assert_eq!(path.to_string().parse::<JsonPath>().unwrap(), path);
        }
        assert_eq!("$".parse::<JsonPath>().unwrap(), JsonPath::record());
        assert_eq!(JsonPath::record().to_string(), "$");
    }

    #[test]
    fn what_is_no_path_of_keys_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a\\", "products[]", "products[].name", "$.pageName"] {
            assert!(text.parse::<JsonPath>().is_err(), "{text}");
        }
    }
}
