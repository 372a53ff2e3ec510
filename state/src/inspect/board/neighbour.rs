//! What the other service of this machine answered last, for the time in which it does not answer.

use std::sync::Mutex;

use chrono::{DateTime, Utc};
use shared::lock::locked;

use crate::status::service::Part;
use crate::status::snapshot::{IngesterSnapshot, ProducerSnapshot};

#[derive(Debug)]
pub(super) struct Neighbour<T>(Mutex<LastAnswer<T>>);

#[derive(Debug)]
struct LastAnswer<T> {
    last: Option<Box<T>>,
    silent_since: Option<DateTime<Utc>>,
}

/// What holds of a service only while it runs.
pub(super) trait Ending {
    /// The snapshot without it.
    fn ended(self) -> Self;
}

impl Ending for ProducerSnapshot {
    fn ended(self) -> Self {
        let (components, alerts) = (Vec::new(), Vec::new());
        Self { components, alerts, counters: None, waiting_bytes: None, max_bytes: None, ..self }
    }
}

impl Ending for IngesterSnapshot {
    fn ended(self) -> Self {
        Self { components: Vec::new(), alerts: Vec::new(), held_back: None, ..self }
    }
}

impl<T: Clone + Ending> Neighbour<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LastAnswer { last: None, silent_since: None }))
    }

    /// Notes an answer. If there is none, takes the last one in its place, and the time since which there is none.
    pub(super) fn completed(&self, part: Part<T>) -> Part<T> {
        // For a value that a panic leaves whole.
        let mut known = locked(&self.0);
        let Some(mut silent) = part.silent else {
            (known.last, known.silent_since) = (part.snapshot.clone().map(Box::new), None);
            return part;
        };
        silent.since = *known.silent_since.get_or_insert(silent.since);
        let snapshot = known.last.as_deref().cloned().map(T::ended);
        Part { silent: Some(silent), snapshot, ..part }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::status::activity::{Component, ComponentStatus};
    use crate::status::service::Silent;

    fn silent(second: i64) -> Part<IngesterSnapshot> {
        let since = DateTime::from_timestamp(second, 0).unwrap();
        let silent = Some(Silent { since, why: "nobody answers".to_owned() });
        Part { silent, ..Part::read(Path::new("/nothing"), None) }
    }

    #[test]
    fn who_does_not_answer_is_shown_as_it_was_with_the_time_since_then() {
        let neighbour = Neighbour::new();
        assert!(neighbour.completed(silent(1)).snapshot.is_none(), "it never answered");
        let components =
            vec![ComponentStatus { component: Component::Load, number: None, step: None, failing: None }];
        let snapshot = Some(IngesterSnapshot { components, ..IngesterSnapshot::default() });
        let answered = Part { pid: Some(7), ..Part::read(Path::new("/nothing"), snapshot) };
        assert_eq!(neighbour.completed(answered).pid, Some(7));
        for second in [5, 6, 9] {
            let shown = neighbour.completed(silent(second));
            assert_eq!(shown.silent.unwrap().since, DateTime::from_timestamp(5, 0).unwrap());
            assert!(shown.snapshot.unwrap().components.is_empty(), "what it was doing it does no more");
        }
    }
}
