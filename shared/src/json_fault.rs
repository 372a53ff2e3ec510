//! Why a text is not the JSON that it should be, without a part of it: the parser's own words quote what they met, which
//! may be a value of a record or a secret.

use serde_json::Error;
use serde_json::error::Category;

/// What is wrong, and where.
pub fn json_fault(error: &Error) -> String {
    // Whatever the text, these begin alike, and name fields of ours.
    let own = |words: &str| words.starts_with("missing field") || words.starts_with("duplicate field");
    let words = error.to_string();
    match error.classify() {
        // Its own words are fixed ones.
        Category::Syntax | Category::Eof | Category::Io => words,
        Category::Data if own(&words) => words,
        Category::Data => {
            format!("a value that cannot stand there at line {} column {}", error.line(), error.column())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "read for its errors")]
    struct Form {
        number: u32,
    }

    fn fault(text: &str) -> String {
        json_fault(&serde_json::from_str::<Form>(text).unwrap_err())
    }

    #[test]
    fn the_fault_is_told_with_its_place_and_without_the_text() {
        assert_eq!(fault("{\"number\":\"secret\"}"), "a value that cannot stand there at line 1 column 18");
        assert_eq!(fault("{}"), "missing field `number` at line 1 column 2");
        assert!(fault("{\"number\":secret}").starts_with("expected value at line 1"));
        assert!(fault("{\"number\":").starts_with("EOF"));
        assert!(!fault("\"secret\"").contains("secret"));
    }
}
