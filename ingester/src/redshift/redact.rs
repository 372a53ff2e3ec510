//! Redacts values of records from the messages of Redshift, so that logs may carry them. Values stand between quotes
//! (`Invalid digit, Value 'x', Pos 0`, `invalid input syntax for integer: "x"`), as the bytes of a character that
//! Redshift does not take, and in the context of an error, in undocumented forms. Names of tables and columns stay. A
//! context is shown only where the message is about S3 or a manifest.
//!
//! The full reason of each refused row stands beside the row, in quarantine.

/// Behind these comes a value, in quotes.
const BEFORE_VALUE: [&str; 4] = ["value '", "value \"", ": \"", ": '"];
/// Behind these come bytes of a value, in hexadecimal digits.
const BEFORE_BYTES: [&str; 3] = ["hex sequence:", "byte sequence", "invalid char:"];
/// Words of messages about S3, in small letters. The context of these is a place in a bucket.
const ABOUT_S3: [&str; 5] =
    ["s3serviceexception", "s3 prefix", "s3 bucket", "manifest file", "in the manifest"];

/// The reason why a row was refused, without anything that stands between quotes.
pub(crate) fn reason(text: &str) -> String {
    let quote = |c: char| c == '\'' || c == '"';
    let text = without_bytes(text);
    cut(&text, text.find(quote), quote)
}

/// The message of an error. Quoted names stay.
pub(crate) fn message(text: &str) -> String {
    let text = without_bytes(text);
    let lower = text.to_ascii_lowercase();
    let value =
        BEFORE_VALUE.iter().filter_map(|before| Some((lower.find(before)? + before.len() - 1, before)));
    let Some((start, before)) = value.min_by_key(|(start, _)| *start) else { return text };
    let quote = if before.ends_with('"') { '"' } else { '\'' };
    cut(&text, Some(start), |c| c == quote)
}

/// Whether the context of an error with this message may be shown.
pub(super) fn may_show_context(message: &str) -> bool {
    // What stands in quotes may be a value, and look like anything.
    let words = reason(message).to_ascii_lowercase();
    ABOUT_S3.iter().any(|about| words.contains(about))
}

/// Leaves out what stands from the quote at `start` to the last one: a value may hold quotes too.
fn cut(text: &str, start: Option<usize>, quote: impl Fn(char) -> bool) -> String {
    let Some((before, rest)) = start.and_then(|start| text.split_at_checked(start)) else {
        return text.to_owned();
    };
    // Redshift may have cut the text off within the value.
    let end = rest.rfind(quote).filter(|end| *end > 0).unwrap_or(rest.len());
    let after = rest.get(end + 1..).unwrap_or_default();
    format!("{before}({} bytes){after}", end - 1)
}

fn without_bytes(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let found = BEFORE_BYTES.iter().filter_map(|before| Some(lower.find(before)? + before.len())).min();
    let Some((before, rest)) = found.and_then(|end| text.split_at_checked(end)) else {
        return text.to_owned();
    };
    let after = rest.find(" (").and_then(|end| rest.get(end..)).unwrap_or_default();
    format!("{before} …{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_keeps_its_words_and_loses_the_value() {
        for (said, shown) in [
            (
                "Invalid digit, Value 'N', Pos 0, Type: Decimal",
                "Invalid digit, Value (1 bytes), Pos 0, Type: Decimal",
            ),
            ("Overflow, Value 'it's 5', Type: Short", "Overflow, Value (6 bytes), Type: Short"),
            ("Overflow, Value 'cut off by the tab", "Overflow, Value (18 bytes)"),
            ("String length exceeds DDL length", "String length exceeds DDL length"),
            (
                "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: e9 (error 2)",
                "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: … (error 2)",
            ),
            ("Invalid char: c3 85", "Invalid char: …"),
        ] {
            assert_eq!(reason(said), shown);
        }
    }

    #[test]
    fn a_message_keeps_the_names_of_tables_and_columns() {
        for said in [
            "column \"evar7\" of relation \"livestream\" does not exist",
            "The specified S3 prefix 'ToIngest/x' does not exist",
            "Load into table 'livestream' failed.  Check 'stl_load_errors' system table for details.",
        ] {
            assert_eq!(message(said), said);
        }
        for (said, shown) in [
            ("invalid input syntax for integer: \"a\"b\"", "invalid input syntax for integer: (3 bytes)"),
            (
                "value \"99999\" is out of range for type smallint",
                "value (5 bytes) is out of range for type smallint",
            ),
            ("Invalid digit, Value 'x', Pos 0", "Invalid digit, Value (1 bytes), Pos 0"),
        ] {
            assert_eq!(message(said), shown);
        }
    }

    #[test]
    fn a_value_that_looks_like_the_text_around_it_is_left_out_too() {
        for value in ["@@", "a'@@", "@@', Pos 9", "\"@@\"", "é'\"@@é", "value '@@'", "hex sequence: @@"] {
            for said in [format!("Invalid digit, Value '{value}', Pos 0"), format!("integer: \"{value}\"")] {
                let shown = [reason(&said), message(&said)];
                assert!(shown.iter().all(|shown| !shown.contains("@@")), "{said}: {shown:?}");
            }
        }
    }

    #[test]
    fn only_an_error_about_s3_or_a_manifest_shows_its_context() {
        for shown in [
            "S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 1,CanRetry 1",
            "S3ServiceException:The AWS Access Key Id you provided does not exist,Error InvalidAccessKeyId",
            "Problem reading manifest file - S3ServiceException:The specified key does not exist.",
            "The specified S3 prefix 'ToIngest/x' does not exist",
            "None of the files named in the manifest exists",
        ] {
            assert!(may_show_context(shown), "{shown}");
        }
        for withheld in [
            "Disk Full",
            "Assert",
            "Value too long for character type",
            "Missing data for not-null field",
            "null value in column \"manifest\" violates not-null constraint",
            "invalid input syntax for integer: \"s3 prefix\"",
            "invalid input syntax for integer: \"a\"manifest file\"b\"",
            "column \"s3 bucket\" of relation \"in the manifest\" does not exist",
            "Invalid digit, Value 'S3ServiceException', Pos 0",
            "some message of a later version",
        ] {
            assert!(!may_show_context(withheld), "{withheld}");
        }
    }
}
