//! What of the stream is not as it was, and which fields it brings. A producer tells it; see docs/SCHEMA.md.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::human::counted;

/// How a field or column is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// A field came that no column reads.
    NewField,
    /// A column is filled far less often.
    FilledLess,
    /// Values are exactly 255 bytes long, at which Adobe cuts.
    #[serde(rename = "at_255_bytes")]
    At255Bytes,
    /// Values are exactly as long as the column allows.
    AtLimit,
    /// Values are cut.
    Cut,
    /// Values have no form in the type of the column.
    Nulled,
    /// Numbers or times are rounded.
    Rounded,
    /// A field that had few values has another one.
    NewValue,
}

impl DriftKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::NewField,
        Self::FilledLess,
        Self::At255Bytes,
        Self::AtLimit,
        Self::Cut,
        Self::Nulled,
        Self::Rounded,
        Self::NewValue,
    ];

    /// The name in metrics and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NewField => "new_field",
            Self::FilledLess => "filled_less",
            Self::At255Bytes => "at_255_bytes",
            Self::AtLimit => "at_limit",
            Self::Cut => "cut",
            Self::Nulled => "nulled",
            Self::Rounded => "rounded",
            Self::NewValue => "new_value",
        }
    }

    /// What is said of the columns or fields.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::NewField => "came and are in no column",
            Self::FilledLess => "filled less often than before",
            Self::At255Bytes => "values of exactly 255 bytes, as Adobe cuts them",
            Self::AtLimit => "values that fill the column",
            Self::Cut => "values are cut",
            Self::Nulled => "values do not fit the type and become NULL",
            Self::Rounded => "values are rounded",
            Self::NewValue => "values that were not there before",
        }
    }
}

/// A change that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// How it is not as it was.
    pub kind: DriftKind,
    /// The column; or, of a field that is in none, its path.
    pub field: String,
    /// When it was told first.
    pub at: DateTime<Utc>,
    /// The share of records before, from 0 to 1.
    pub before: f64,
    /// The share of the latest records.
    pub now: f64,
    /// The form of the value: a letter stands for any letter, 9 for any digit. Never the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// The round of [`DriftSnapshot::rounds`] in which targets of alerts are told of it.
    #[serde(default)]
    pub round: u64,
}

/// Everything that drifted lately.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DriftSnapshot {
    /// Rows that were counted.
    pub rows: u64,
    /// Too few were counted to tell a change.
    pub learning: bool,
    /// Fields that were met and are in no column.
    pub fields_in_no_column: u64,
    /// Times that there was no room to remember one more such field.
    pub fields_not_remembered: u64,
    /// What was told within a day, by kind and field.
    pub drifted: Vec<Drifted>,
    /// Changes that there was no room to tell.
    pub not_told: u64,
    /// How often something was told since the start: targets of alerts are told again when it grows.
    #[serde(default)]
    pub rounds: u64,
    /// Changes since the start, by kind.
    pub since_start: BTreeMap<DriftKind, u64>,
}

/// Names of one kind that are said in one line; the rest is counted.
const NAMED: usize = 12;

impl DriftSnapshot {
    /// Without what targets of alerts are told of in the next round: else they would be told of it twice.
    #[must_use]
    pub fn said(&self) -> Self {
        let mut said = self.clone();
        said.drifted.retain(|one| one.round <= self.rounds);
        said
    }

    /// A line for each kind of change: what is said of how many, and which.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let of = |kind| self.drifted.iter().filter(move |one| one.kind == kind);
        let kinds = DriftKind::ALL.into_iter().filter(|kind| of(*kind).next().is_some());
        let line = |kind: DriftKind| {
            let names: Vec<_> = of(kind).take(NAMED).map(|one| named(one, of(kind).count())).collect();
            let more = of(kind).count().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {}", counted(more as u64, "other", "others"))
            } else {
                String::new()
            };
            format!("{}: {}{more}", kind.says(), names.join(", "))
        };
        kinds.map(line).collect()
    }
}

/// The name, with the shares if there is room for them.
fn named(one: &Drifted, of: usize) -> String {
    let Drifted { field, before, now, .. } = one;
    if of > 3 { field.clone() } else { format!("{field} ({} → {})", percent(*before), percent(*now)) }
}

/// A share for people.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.1 => format!("{p:.3} %"),
        p if p < 10.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// The fields of a stream, as a producer has seen them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenFields {
    /// Since when they were looked at; None: of a file.
    pub since: Option<DateTime<Utc>>,
    /// Records of which every field was looked at.
    pub looked_at: u64,
    /// The fields: those of the columns in their order, and behind them those that are in no column.
    pub fields: Vec<SeenField>,
    /// Times that there was no room to remember one more field.
    pub not_remembered: u64,
    /// What is not as it was.
    pub drift: DriftSnapshot,
}

/// One place in the records of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SeenField {
    /// Where it stands. A key that may be a value itself is shown by its form.
    pub path: String,
    /// The path can be written into a schema file as it is.
    pub is_plain: bool,
    /// The column that reads it.
    pub column: Option<String>,
    /// Records that have it, of those looked at.
    pub records: u64,
    pub first_seen: DateTime<Utc>,
    /// Nothing else is known of it.
    pub is_protected: bool,
    pub values: SeenValues,
    /// How many different values it has, as long as these are few.
    pub different: Option<u64>,
}

/// What the values of a field are like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenValues {
    /// How many were no value: null or an empty text.
    pub empty: u64,
    /// How many of each type.
    pub types: BTreeMap<String, u64>,
    /// Bytes of the longest, as it is stored: the text of a string, the JSON of anything else.
    pub longest: u64,
    /// The most digits before the point, of those that are numbers.
    pub whole_digits: u64,
    /// Behind it.
    pub fraction_digits: u64,
    /// Some are below zero.
    pub negative: bool,
    /// All that are texts are numbers.
    pub numeric: bool,
    /// The form of the first.
    pub example: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drifted(kind: DriftKind, field: &str) -> Drifted {
        Drifted {
            kind,
            field: field.to_owned(),
            at: DateTime::UNIX_EPOCH,
            before: 1.0,
            now: 0.753,
            example: None,
            round: 1,
        }
    }

    #[test]
    fn each_kind_has_a_line_that_names_its_columns() {
        let mut snapshot = DriftSnapshot {
            drifted: (1..=20).map(|n| drifted(DriftKind::At255Bytes, &format!("evar{n}"))).collect(),
            ..DriftSnapshot::default()
        };
        snapshot.drifted.push(drifted(DriftKind::FilledLess, "useragent"));
        let lines = snapshot.lines();
        assert_eq!(lines[0], "filled less often than before: useragent (100 % → 75 %)");
        assert!(
            lines[1].starts_with("values of exactly 255 bytes, as Adobe cuts them: evar1, evar2"),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("evar12 and 8 others"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn names_in_json_are_those_of_the_metrics() {
        for kind in DriftKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_small_share_is_not_shown_as_none() {
        let shares = [0.0, 0.000_123, 0.0123, 0.5, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "0.012 %", "1.2 %", "50 %", "100 %"]);
    }
}
