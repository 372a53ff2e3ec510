//! Errors with everything that caused them: most libraries show only their outermost layer.

use std::error::Error;

/// The error and its causes, outermost first, each said once.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        below = cause.source();
    }
    text
}
