//! Filters drop unwanted records. A filter is a field, an operator and what to compare with.

use regex::bytes::RegexSet;
use shared::config::FilterRule;
use shared::schema::{JsonPath, PathError, SchemaError};

/// Why a transform cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("filter \"{}\": filter.field: {source}", name.escape_debug())]
    FilterPath { name: String, source: PathError },
    #[error("filter \"{}\": filter.matches: {source}", name.escape_debug())]
    FilterPattern { name: String, source: regex::Error },
    #[error("protect.{list}: \"{}\": {rule}", field.escape_debug())]
    Protect { list: &'static str, field: String, rule: String },
}

/// Drops the records whose value at `path` meets the test.
#[derive(Debug, Clone)]
pub struct Filter {
    /// For messages and counts.
    pub name: String,
    /// The path of the value, as in the schema: `exclude.value`.
    pub path: String,
    /// What drops the record.
    pub test: FilterTest,
}

/// Compares strings as they are, other values by their JSON text. Absent, null and the empty string are the same.
#[derive(Debug, Clone)]
pub enum FilterTest {
    /// There is a value.
    Exists,
    /// There is none.
    Absent,
    /// The value is one of these. A record without the value stays.
    Equals(Vec<String>),
    /// The value is none of these. A record without the value is dropped: nothing equals none of them.
    NotEquals(Vec<String>),
    /// It contains one of these.
    Contains(Vec<String>),
    /// It begins with one of these.
    StartsWith(Vec<String>),
    /// It ends with one of these.
    EndsWith(Vec<String>),
    /// One of these is found in it.
    Matches(RegexSet),
    /// It is a number above this.
    Greater(f64),
    /// It is a number below this.
    Less(f64),
}

impl Filter {
    /// The filter a `[[filter]]` describes.
    pub fn of(rule: &FilterRule) -> Result<Self, TransformError> {
        // The configuration has exactly one of them.
        let test = match rule {
            FilterRule { exists: Some(true), .. } => FilterTest::Exists,
            FilterRule { exists: Some(false), .. } => FilterTest::Absent,
            FilterRule { greater: Some(bound), .. } => FilterTest::Greater(*bound),
            FilterRule { less: Some(bound), .. } => FilterTest::Less(*bound),
            FilterRule { equals, .. } if !equals.is_empty() => FilterTest::Equals(equals.clone()),
            FilterRule { contains, .. } if !contains.is_empty() => FilterTest::Contains(contains.clone()),
            FilterRule { starts_with: starts, .. } if !starts.is_empty() => {
                FilterTest::StartsWith(starts.clone())
            }
            FilterRule { ends_with, .. } if !ends_with.is_empty() => FilterTest::EndsWith(ends_with.clone()),
            FilterRule { name, matches, .. } if !matches.is_empty() => {
                let fault = |source| TransformError::FilterPattern { name: name.clone(), source };
                FilterTest::Matches(RegexSet::new(matches).map_err(fault)?)
            }
            FilterRule { not_equals, .. } => FilterTest::NotEquals(not_equals.clone()),
        };
        Ok(Self { name: rule.name.clone(), path: rule.field.clone(), test })
    }

    pub(super) fn json_path(&self) -> Result<JsonPath, TransformError> {
        self.path.parse().map_err(|source| TransformError::FilterPath { name: self.name.clone(), source })
    }
}

impl FilterTest {
    /// Whether the record is to be dropped.
    pub(super) fn matches(&self, value: Option<&[u8]>) -> bool {
        let value = value.unwrap_or_default();
        let any = |values: &[String], test: fn(&[u8], &[u8]) -> bool| {
            values.iter().any(|one| test(value, one.as_bytes()))
        };
        match self {
            Self::Exists => !value.is_empty(),
            Self::Absent => value.is_empty(),
            Self::Equals(values) => any(values, |value, one| value == one),
            Self::NotEquals(values) => !any(values, |value, one| value == one),
            Self::Contains(values) => any(values, |value, one| memchr::memmem::find(value, one).is_some()),
            Self::StartsWith(values) => any(values, <[u8]>::starts_with),
            Self::EndsWith(values) => any(values, <[u8]>::ends_with),
            Self::Matches(patterns) => patterns.is_match(value),
            Self::Greater(bound) => number(value).is_some_and(|number| number > *bound),
            Self::Less(bound) => number(value).is_some_and(|number| number < *bound),
        }
    }
}

/// A double is exact enough for a bound.
fn number(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok().filter(|number: &f64| number.is_finite())
}
