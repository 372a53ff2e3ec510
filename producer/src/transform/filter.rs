//! Filters: records that are not wanted.

/// Drops the records whose value at `path` meets the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// For messages and counts.
    pub name: String,
    /// Where the value stands, as in the schema: `exclude.value`.
    pub path: String,
    /// What drops the record.
    pub test: FilterTest,
}

/// Compares a string as it is, a number or boolean by its text, anything else by its JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterTest {
    /// The value is one of these. A record without the value stays.
    Equals(Vec<String>),
    /// The value is none of these. A record without the value goes, since nothing equals none of them.
    NotEquals(Vec<String>),
}

impl FilterTest {
    /// Whether the record is to be dropped; an absent value, null and the empty string are the same.
    pub(super) fn matches(&self, value: Option<&[u8]>) -> bool {
        let among = |values: &[String]| values.iter().any(|one| one.as_bytes() == value.unwrap_or_default());
        match self {
            Self::Equals(values) => among(values),
            Self::NotEquals(values) => !among(values),
        }
    }
}
