//! Takes the record out of a line that is a reject.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use memchr::memmem;
use serde::Deserialize;
use shared::ids::Instance;

/// A reject as it stands in S3. A record of Adobe's has other keys, and more of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrapped<'l> {
    #[serde(rename = "at")]
    _at: DateTime<Utc>,
    #[serde(rename = "instance")]
    _instance: Instance,
    reason: String,
    #[serde(borrow)]
    record: Option<Cow<'l, str>>,
    #[serde(borrow)]
    record_base64: Option<Cow<'l, str>>,
}

impl Wrapped<'_> {
    /// The record that a line holds and why it was rejected, if the line is a reject.
    pub(super) fn read(line: &[u8]) -> Option<(Vec<u8>, String)> {
        memmem::find(line, b"\"reason\"")?;
        let wrapped: Wrapped<'_> = serde_json::from_slice(line).ok()?;
        let record = match (wrapped.record, wrapped.record_base64) {
            (Some(text), None) => text.into_owned().into_bytes(),
            (None, Some(text)) => shared::object_store::from_base64(&text)?,
            _ => return None,
        };
        Some((record, wrapped.reason))
    }
}
