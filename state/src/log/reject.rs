//! A rejected record in the log and in S3: one line of JSON.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::Instance;

/// The line. What of the record it holds is one of three: all of it, what its protections leave, or that it was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RejectLine {
    pub at: DateTime<Utc>,
    pub instance: Instance,
    /// The kind of its reason, as metrics count it; rejects of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub reason: String,
    /// The record, when it is UTF-8: as received, or with `protected`, as its protections leave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The record as received, base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<ProtectedNote>,
    /// Bytes of a record that is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its hash under a secret key: equal records have equal hashes. Of a record that was too long, that of its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What was done to a record before it was kept. Masks may be applied again; a pseudonym must not get a pseudonym.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedNote {
    /// The id of the key of its pseudonyms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The paths at which it has pseudonyms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pseudonyms: Vec<String>,
}

/// What is kept of a record that cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptRecord {
    /// The record as received.
    Full(Vec<u8>),
    /// The record as its protections leave it.
    Protected(String, ProtectedNote),
    /// Nothing but that it was there.
    Digest {
        /// Its bytes.
        bytes: u64,
        /// Its hash under a secret key.
        hash: String,
    },
}

impl KeptRecord {
    /// Bytes that it takes here.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Full(record) => record.len(),
            Self::Protected(record, _) => record.len(),
            Self::Digest { hash, .. } => hash.len(),
        }
    }
}

impl RejectLine {
    pub(super) fn new(
        at: DateTime<Utc>,
        instance: Instance,
        (code, reason): (&str, &str),
        record: KeptRecord,
    ) -> Self {
        let (code, reason) = (Some(code.to_owned()), reason.to_owned());
        let (record_base64, protected, bytes, hash) = (None, None, None, None);
        let line = Self { at, instance, code, reason, record: None, record_base64, protected, bytes, hash };
        match record {
            KeptRecord::Full(record) => match String::from_utf8(record) {
                Ok(text) => Self { record: Some(text), ..line },
                Err(error) => {
                    Self { record_base64: Some(shared::object_store::base64(error.as_bytes())), ..line }
                }
            },
            KeptRecord::Protected(text, note) => Self { record: Some(text), protected: Some(note), ..line },
            KeptRecord::Digest { bytes, hash } => Self { bytes: Some(bytes), hash: Some(hash), ..line },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_what_is_kept_of_the_record_and_nothing_else() {
        let line = |record: KeptRecord| {
            let instance = Instance::try_from("web-1".to_owned()).unwrap();
            let line = RejectLine::new(DateTime::UNIX_EPOCH, instance, ("misfit", "why"), record);
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<RejectLine>(&text).unwrap(), line);
            text.strip_prefix("{\"at\":\"1970-01-01T00:00:00Z\",\"instance\":\"web-1\",\"code\":\"misfit\",\"reason\":\"why\",")
                .unwrap()
                .to_owned()
        };
        assert_eq!(line(KeptRecord::Full(b"{}".to_vec())), "\"record\":\"{}\"}");
        assert_eq!(line(KeptRecord::Full(b"\xff".to_vec())), "\"record_base64\":\"/w==\"}");
        let note = ProtectedNote { key: Some("01234567".to_owned()), pseudonyms: vec!["a.b".to_owned()] };
        assert_eq!(
            line(KeptRecord::Protected("{}".to_owned(), note)),
            "\"record\":\"{}\",\"protected\":{\"key\":\"01234567\",\"pseudonyms\":[\"a.b\"]}}"
        );
        assert_eq!(
            line(KeptRecord::Protected("{}".to_owned(), ProtectedNote::default())),
            "\"record\":\"{}\",\"protected\":{}}"
        );
        let digest = KeptRecord::Digest { bytes: 9, hash: "ab".to_owned() };
        assert_eq!(line(digest), "\"bytes\":9,\"hash\":\"ab\"}");
    }
}
