//! Names that both services pass around, parsed once so that a wrong one cannot be passed.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// Declares an id, which is a UUID of version 7 so that ids sort by the time they were made, and its parse error.
macro_rules! uuid_v7 {
    ($(#[$about:meta])* $id:ident, $wrong:ident: $rule:literal, $fits:expr) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(Uuid);

        #[expect(clippy::new_without_default, reason = "no id is the default one")]
        impl $id {
            /// A new id of the present, by the clock of the machine. It sorts after every id that this process made before,
            /// also when the clock is set back.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        /// A text that is no such id.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($rule)]
        pub struct $wrong(String);

        impl FromStr for $id {
            type Err = $wrong;

            fn from_str(text: &str) -> Result<Self, $wrong> {
                let id = Uuid::parse_str(text).ok().filter(|id| $fits(id, text));
                id.map(Self).ok_or_else(|| $wrong(text.to_owned()))
            }
        }
    };
}

uuid_v7!(
    /// Identity of a batch. Names of batches sort by the time the batch was opened.
    BatchId,
    NotABatchId: "{0:?} is not a batch id (a version 7 UUID such as 0198c5a2-7d10-7cc0-8e1f-3f5d0a1b2c3d)",
    |id: &Uuid, text: &str| id.get_version_num() == 7 && text.len() == 36
);

uuid_v7!(
    /// Identity of a run: one start of a producer on its log, or one replay. A log and its copy never share one.
    RunId,
    NotARunId: "{0:?} is not a run id (a UUID)",
    |_: &Uuid, _: &str| true
);

impl BatchId {
    /// The id before all ids of batches opened at `at` or later.
    pub fn floor(at: DateTime<Utc>) -> Self {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0) & 0xffff_ffff_ffff;
        Self::of_parts(u128::from(millis) << 80, 0)
    }

    /// Another id of the same moment, made of this one and of `what`: that of a batch that bears the id of another one.
    pub fn derived(&self, what: &[u8]) -> Self {
        let mut hash = Xxh3::new();
        hash.update(self.as_bytes());
        hash.update(what);
        Self::of_parts(self.0.as_u128() >> 80 << 80, hash.digest128())
    }

    fn of_parts(time: u128, rest: u128) -> Self {
        let rest = rest & ((1 << 80) - 1) & !(0xf << 76) & !(0x3 << 62);
        Self(Uuid::from_u128(time | rest | 0x7 << 76 | 0x2 << 62))
    }

    /// The moment the batch was opened, to the millisecond.
    pub fn opened_at(&self) -> DateTime<Utc> {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |stamp| stamp.to_unix());
        DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(0), nanos).unwrap_or_default()
    }

    /// The UTC day the batch was opened: the folder it stands in.
    pub fn day(&self) -> NaiveDate {
        self.opened_at().date_naive()
    }

    /// The 16 bytes of the id, in the order it sorts by.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// The beginning of a batch id, or the whole: enough of it to name a batch by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchPrefix(String);

const PREFIX_MIN: usize = 8;

/// A text that cannot begin a batch id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not begin a batch id: give the whole, such as 0198c5a2-7d10-7cc0-8e1f-3f5d0a1b2c3d, or its first {PREFIX_MIN} characters or more"
)]
pub struct NotABatchPrefix(String);

impl BatchPrefix {
    /// Whether a batch id begins with it.
    pub fn begins(&self, batch: BatchId) -> bool {
        batch.to_string().starts_with(&self.0)
    }
}

impl FromStr for BatchPrefix {
    type Err = NotABatchPrefix;

    fn from_str(text: &str) -> Result<Self, NotABatchPrefix> {
        // Any id there can be tells where hyphens and the version stand.
        let form = "xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx";
        let lower = text.to_ascii_lowercase();
        let fits = lower.chars().zip(form.chars()).all(|(c, form)| match form {
            'x' => c.is_ascii_hexdigit(),
            fixed => c == fixed,
        });
        let whole = lower.len() < form.len() || lower.parse::<BatchId>().is_ok();
        if fits && whole && (PREFIX_MIN..=form.len()).contains(&lower.len()) {
            Ok(Self(lower))
        } else {
            Err(NotABatchPrefix(text.to_owned()))
        }
    }
}

impl From<BatchId> for BatchPrefix {
    fn from(batch: BatchId) -> Self {
        Self(batch.to_string())
    }
}

impl TryFrom<String> for BatchPrefix {
    type Error = NotABatchPrefix;

    fn try_from(text: String) -> Result<Self, NotABatchPrefix> {
        text.parse()
    }
}

impl From<BatchPrefix> for String {
    fn from(prefix: BatchPrefix) -> String {
        prefix.0
    }
}

impl fmt::Display for BatchPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a producer with its own log: 1 to 64 of `a-z A-Z 0-9 . _ -`, since it stands in S3 keys and metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(String);

/// A text that cannot name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an instance: use 1 to 64 letters, digits, '.', '_' or '-'")]
pub struct NotAnInstance(String);

impl TryFrom<String> for Instance {
    type Error = NotAnInstance;

    fn try_from(text: String) -> Result<Self, NotAnInstance> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(legal) {
            Ok(Self(text))
        } else {
            Err(NotAnInstance(text))
        }
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> String {
        instance.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_ids_sort_by_the_time_they_were_made() {
        let ids: Vec<_> = (0..1000).map(|_| BatchId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string()));
    }

    #[test]
    fn a_batch_id_tells_when_it_was_opened() {
        let batch: BatchId = "019d0a5b-3c7b-7cc0-8e1f-3f5d0a1b2c3d".parse().unwrap();
        assert_eq!(batch.opened_at().timestamp_millis(), 0x019d_0a5b_3c7b);
    }

    #[test]
    fn a_floor_sorts_between_what_was_opened_before_and_what_is_opened_then() {
        let batch = BatchId::new();
        let at = batch.opened_at();
        let (floor, above) = (BatchId::floor(at), BatchId::floor(at + chrono::TimeDelta::milliseconds(1)));
        assert!(floor < batch && batch < above && floor.opened_at() == at);
        assert_eq!(floor.to_string().parse(), Ok(floor));
    }

    #[test]
    fn a_derived_id_is_one_of_the_same_moment_and_another_for_other_batches_and_contents() {
        let batch = BatchId::new();
        let derived = batch.derived(b"a");
        assert_eq!(derived.to_string().parse(), Ok(derived));
        assert_eq!((derived, derived.opened_at()), (batch.derived(b"a"), batch.opened_at()));
        let others = [batch, batch.derived(b"b"), BatchId::new().derived(b"a"), derived.derived(b"a")];
        assert!(!others.contains(&derived));
    }

    #[test]
    fn only_version_7_ids_in_their_usual_spelling_are_batch_ids() {
        assert!(BatchId::new().to_string().parse::<BatchId>().is_ok());
        for wrong in ["", "x", "00000000-0000-4000-8000-000000000000", "0198c5a27d107cc08e1f3f5d0a1b2c3d"] {
            assert!(wrong.parse::<BatchId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_batch_may_be_named_by_the_beginning_of_its_id() {
        let batch = BatchId::new();
        let text = batch.to_string();
        for len in PREFIX_MIN..=text.len() {
            let prefix: BatchPrefix = text[..len].to_uppercase().parse().unwrap();
            assert!(prefix.begins(batch) && prefix.to_string() == text[..len]);
        }
        let other: BatchPrefix = "00000000-0000-7000-8000-000000000000".parse().unwrap();
        assert!(!other.begins(batch));
        let long = format!("{text}0");
        for wrong in ["", "019caed", "019caedax", "019caeda_c", "019caeda-ca6f-43aa", "0198c5a27d10", &long] {
            assert!(wrong.parse::<BatchPrefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn instance_names_are_safe_in_keys() {
        assert!(Instance::try_from("web-1.eu_2".to_owned()).is_ok());
        for wrong in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(Instance::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
