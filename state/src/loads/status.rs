//! The states of a load, and the only function that changes them.
//!
//! ```text
//!              ┌────────────────────────── found again in S3 ◄───────────────────────┐
//!              ▼                                                                     │
//! discovered ──attempt──► loading ──loaded──► loaded ──archived──► archived ─────────┘
//!      │                   │   ▲
//!      └──────failed───────┤   │ attempt
//!                          ▼   │
//!                        retrying
//! ```
//! *discovered*: its seal was seen in S3. *loading*: an attempt is under way, or was when the process ended: it is
//! simply retried, because the ledger decides what became of it. *retrying*: the last attempt failed and the
//! next has its time. *loaded*: the ledger has it. *archived*: its folder is moved, kept or deleted as configured.
//! An attempt may follow an attempt, when the process ended in between, and a failure a failure, when the next attempt
//! could not start.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The state of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LoadState {
    Discovered,
    Loading,
    Retrying { next: DateTime<Utc>, class: ErrorClass, why: String },
    Loaded { at: DateTime<Utc> },
    Archived { at: DateTime<Utc> },
}

/// The class of a load failure; it decides who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// It passes by itself.
    Passing,
    /// A file the seal names is not there, or not as it was.
    Incomplete,
    /// An operator has to mend a role, a permission, a table or the configuration.
    Configuration,
    /// Redshift refuses rows of the batch.
    Data,
    /// Redshift returned an error that this version does not know.
    Unknown,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Passing, Self::Incomplete, Self::Configuration, Self::Data, Self::Unknown];

    /// Its word in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Incomplete => "incomplete",
            Self::Configuration => "configuration",
            Self::Data => "data",
            Self::Unknown => "unknown",
        }
    }
}

/// What happens to a load.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LoadEvent {
    Attempt,
    Failed {
        next: DateTime<Utc>,
        class: ErrorClass,
        why: String,
    },
    Loaded,
    Archived,
    /// Its seal was seen in S3 although it was archived: a producer published it again after a crash.
    FoundAgain,
}

/// A move the state machine does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal move of a load: {event:?} while {state:?}")]
pub struct IllegalLoadMove {
    state: LoadState,
    event: LoadEvent,
}

impl LoadState {
    /// The words of all states, in the order of a load.
    pub const NAMES: [&str; 5] = ["discovered", "loading", "retrying", "loaded", "archived"];

    /// Its word in metrics and JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let [discovered, loading, retrying, loaded, archived] = Self::NAMES;
        match self {
            Self::Discovered => discovered,
            Self::Loading => loading,
            Self::Retrying { .. } => retrying,
            Self::Loaded { .. } => loaded,
            Self::Archived { .. } => archived,
        }
    }

    pub(crate) fn next(&self, event: LoadEvent, now: DateTime<Utc>) -> Result<Self, IllegalLoadMove> {
        use LoadEvent as E;
        match (self, event) {
            (Self::Discovered | Self::Loading | Self::Retrying { .. }, E::Attempt) => Ok(Self::Loading),
            (Self::Discovered | Self::Loading | Self::Retrying { .. }, E::Failed { next, class, why }) => {
                Ok(Self::Retrying { next, class, why })
            }
            (Self::Loading, E::Loaded) => Ok(Self::Loaded { at: now }),
            (Self::Loaded { .. }, E::Archived) => Ok(Self::Archived { at: now }),
            (Self::Archived { .. }, E::FoundAgain) => Ok(Self::Discovered),
            (state, event) => Err(IllegalLoadMove { state: state.clone(), event }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_event() -> impl Strategy<Value = LoadEvent> {
        let failed = (prop::sample::select(ErrorClass::ALL.to_vec()), "[a-z]{0,9}")
            .prop_map(|(class, why)| LoadEvent::Failed { next: DateTime::UNIX_EPOCH, class, why });
        prop_oneof![
            4 => Just(LoadEvent::Attempt),
            2 => failed,
            4 => Just(LoadEvent::Loaded),
            2 => Just(LoadEvent::Archived),
            1 => Just(LoadEvent::FoundAgain),
        ]
    }

    /// How far a load has come; waiting for its first attempt, for its next, and attempting are equally far.
    fn progress(state: &LoadState) -> u8 {
        match state {
            LoadState::Discovered | LoadState::Loading | LoadState::Retrying { .. } => 0,
            LoadState::Loaded { .. } => 1,
            LoadState::Archived { .. } => 2,
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_only_legal_moves_succeed_and_only_found_again_leads_back(
            events in prop::collection::vec(any_event(), 0..40),
        ) {
            use {LoadEvent as E, LoadState as S};
            let mut state = S::Discovered;
            for event in events {
                let legal = match state {
                    S::Discovered | S::Retrying { .. } => matches!(event, E::Attempt | E::Failed { .. }),
                    S::Loading => matches!(event, E::Attempt | E::Failed { .. } | E::Loaded),
                    S::Loaded { .. } => event == E::Archived,
                    S::Archived { .. } => event == E::FoundAgain,
                };
                let now = DateTime::UNIX_EPOCH;
                match state.next(event.clone(), now) {
                    Ok(next) => {
                        prop_assert!(legal, "{event:?} while {state:?}");
                        if event == E::FoundAgain {
                            prop_assert_eq!(&next, &S::Discovered);
                        } else {
                            prop_assert!(progress(&next) >= progress(&state), "{state:?} to {next:?}");
                            prop_assert!(progress(&next) - progress(&state) <= 1, "{state:?} to {next:?}");
                        }
                        state = next;
                    }
                    Err(error) => {
                        prop_assert!(!legal, "{event:?} while {state:?}");
                        let said = error.to_string();
                        prop_assert!(said.contains(&format!("{event:?}")), "{said}");
                        prop_assert!(said.contains(&format!("{state:?}")), "{said}");
                    }
                }
            }
        }
    }
}
