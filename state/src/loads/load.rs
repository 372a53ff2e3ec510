//! What the ingester knows of one batch. It is kept small: a value of the database has a hard limit, and reasons come from
//! outside.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::content::Content;
use shared::ids::{BatchId, Instance};
use shared::layout::Compression;

use crate::loads::status::{ErrorClass, IllegalLoadMove, LoadEvent, LoadState};

/// Failures kept of a load: the latest.
pub const FAILURES_KEPT: usize = 10;
/// Bytes of the reason of the latest failure, as JSON.
const WHY_BYTES: usize = 1500;
/// Bytes of the reason of each failure kept, as JSON.
const FAILURE_WHY_BYTES: usize = 205;
/// Bytes of the column, and of the reason, that a refusal names, as JSON.
const COLUMN_BYTES: usize = 64;
const REFUSED_BYTES: usize = 120;
/// Bytes of a schema's fingerprint; a seal with a longer one is none of ours.
const FINGERPRINT_BYTES: usize = 16;

/// What the ingester knows of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Load {
    pub batch: BatchId,
    pub instance: Instance,
    pub files: u32,
    pub rows: u64,
    /// Bytes of its files in S3.
    pub bytes: u64,
    /// How its rows are written; None when its seal was not read, or a version found it that did not keep this.
    #[serde(default)]
    pub form: Option<Form>,
    /// Checksum of its rows, as its seal says; None as for `form`, or when the seal has none.
    #[serde(default)]
    pub content: Option<Content>,
    /// Highest `receivedTimeGMT` of its rows, as its seal says; None as for `form`, or when the seal has none.
    #[serde(default)]
    pub last_received: Option<DateTime<Utc>>,
    pub discovered: DateTime<Utc>,
    pub attempts: u32,
    /// Failures so far, those included that kept an attempt from starting.
    #[serde(default)]
    pub failed: u32,
    /// When the latest attempt started, if it is under way or was the one that succeeded.
    #[serde(default)]
    pub started: Option<DateTime<Utc>>,
    #[serde(default)]
    pub loaded: Option<DateTime<Utc>>,
    #[serde(default)]
    pub found_again: Option<DateTime<Utc>>,
    /// Rows that Redshift refused and that are in quarantine, as far as this ingester knows.
    #[serde(default)]
    pub quarantined: u64,
    /// What is known of the latest rows that went into quarantine.
    #[serde(default)]
    pub quarantine: Option<Quarantined>,
    /// Rows that the table had already: `rows` are those loaded, these and the quarantined ones.
    #[serde(default)]
    pub known: u64,
    #[serde(default)]
    pub staged: bool,
    /// The id under which the ledger has it; None: its own.
    #[serde(default)]
    pub entered_as: Option<BatchId>,
    /// Whether objects of the bad-row search may still be in S3.
    #[serde(default, alias = "sifting")]
    pub search_objects: bool,
    /// The latest failures, oldest first.
    #[serde(default)]
    pub failures: Vec<Failed>,
    #[serde(flatten)]
    pub state: LoadState,
}

/// Rows of a batch that went into quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quarantined {
    pub at: DateTime<Utc>,
    /// How many there were then.
    pub rows: u64,
    /// The first of them; None when another process put them there.
    pub first: Option<Refused>,
    /// Since when there are fewer, or none.
    pub replayed: Option<DateTime<Utc>>,
}

/// What Redshift said of a row that it refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The column, if Redshift named one.
    pub column: Option<String>,
    /// Why, without the value.
    pub reason: String,
}

/// How the ledger has a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entered {
    /// Rows that the table had already.
    pub known: u64,
    /// Whether this ingester loaded it, the staged way.
    pub staged: bool,
    /// The id under which the ledger has it, if not its own.
    pub entered_as: Option<BatchId>,
}

/// What batches must have in common to be loaded together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Compression of its files.
    pub compression: Compression,
    /// Fingerprint of its columns.
    pub schema: String,
}

impl Form {
    /// The form of a seal; None if a producer of ours wrote no such seal.
    pub fn new(compression: Compression, schema: &str) -> Option<Self> {
        (schema.len() <= FINGERPRINT_BYTES).then(|| Self { compression, schema: schema.to_owned() })
    }
}

/// An attempt that failed, or could not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Failed {
    /// Its number, from 1; None when it could not start.
    pub attempt: Option<u32>,
    /// When it started, if it did.
    pub started: Option<DateTime<Utc>>,
    pub failed: DateTime<Utc>,
    pub class: ErrorClass,
    pub why: String,
}

impl Load {
    /// A batch whose seal was just seen.
    pub fn new(
        batch: BatchId,
        instance: Instance,
        files: u32,
        rows: u64,
        bytes: u64,
        discovered: DateTime<Utc>,
    ) -> Self {
        Self {
            batch,
            instance,
            files,
            rows,
            bytes,
            form: None,
            content: None,
            last_received: None,
            discovered,
            attempts: 0,
            failed: 0,
            started: None,
            loaded: None,
            found_again: None,
            quarantined: 0,
            quarantine: None,
            known: 0,
            staged: false,
            entered_as: None,
            search_objects: false,
            failures: Vec::new(),
            state: LoadState::Discovered,
        }
    }

    /// The latest attempts that failed in a row: how many of them are kept, and when the first of these failed.
    pub fn tries_in_a_row(&self) -> (u32, Option<DateTime<Utc>>) {
        let tries = self.failures.iter().rev().take_while(|failed| failed.attempt.is_some());
        let (count, since) = tries.fold((0_u32, None), |(count, _), failed| (count + 1, Some(failed.failed)));
        (count, since)
    }

    /// The id under which the ledger has it, or will have it.
    pub fn ledger_id(&self) -> BatchId {
        self.entered_as.unwrap_or(self.batch)
    }

    pub(super) fn entered(&self, entered: Entered) -> Self {
        let Entered { known, staged, entered_as } = entered;
        Self { known, staged: staged || self.staged, entered_as, ..self.clone() }
    }

    /// With so many rows in quarantine now, of which Redshift said this of the `first`, if that is known.
    pub(super) fn in_quarantine(mut self, rows: u64, first: Option<Refused>, now: DateTime<Utc>) -> Self {
        if rows > self.quarantined {
            let first = first.map(|Refused { column, reason }| Refused {
                column: column.map(|column| cut(&column, COLUMN_BYTES)),
                reason: cut(&reason, REFUSED_BYTES),
            });
            self.quarantine = Some(Quarantined { at: now, rows, first, replayed: None });
            // A version that kept longer reasons may have left no room.
            self.failures.iter_mut().for_each(|failed| failed.why = cut(&failed.why, FAILURE_WHY_BYTES));
        } else if rows < self.quarantined
            && let Some(quarantine) = &mut self.quarantine
        {
            quarantine.replayed = Some(now);
        }
        self.quarantined = rows;
        self
    }

    /// Whether an attempt is under way, or was when the process ended.
    pub fn is_loading(&self) -> bool {
        self.state == LoadState::Loading
    }

    /// Whether the ledger has it, as far as this ingester knows.
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, LoadState::Loaded { .. } | LoadState::Archived { .. })
    }

    /// What the latest failure met, while it is not loaded.
    pub fn last_class(&self) -> Option<ErrorClass> {
        self.failures.last().map(|failed| failed.class)
    }

    /// What its last attempt met, if that failed; also while the next attempt is under way, which may meet the same.
    pub fn trouble(&self) -> Option<ErrorClass> {
        match self.state {
            LoadState::Retrying { class, .. } => Some(class),
            LoadState::Loading if self.failed > 0 => self.last_class(),
            LoadState::Loading
            | LoadState::Discovered
            | LoadState::Loaded { .. }
            | LoadState::Archived { .. } => None,
        }
    }

    /// Whether it needs an operator: only an operator can mend it, or it failed so many times or more.
    pub fn is_alarming(&self, alert_after: u32) -> bool {
        match (&self.state, self.trouble()) {
            (_, Some(ErrorClass::Configuration | ErrorClass::Data)) => true,
            (LoadState::Retrying { .. } | LoadState::Loading, _) => self.failed >= alert_after,
            (LoadState::Discovered | LoadState::Loaded { .. } | LoadState::Archived { .. }, _) => false,
        }
    }

    pub(super) fn after(&self, event: LoadEvent, now: DateTime<Utc>) -> Result<Self, IllegalLoadMove> {
        let event = match event {
            LoadEvent::Failed { next, class, why } => {
                LoadEvent::Failed { next, class, why: cut(&why, WHY_BYTES) }
            }
            other => other,
        };
        let mut load = Self { state: self.state.next(event.clone(), now)?, ..self.clone() };
        match event {
            LoadEvent::Attempt => {
                load.attempts = load.attempts.saturating_add(1);
                load.started = Some(now);
            }
            LoadEvent::Failed { class, why, .. } => {
                let attempt = (self.state == LoadState::Loading).then_some(load.attempts);
                let started = load.started.take();
                let why = cut(&why, FAILURE_WHY_BYTES);
                load.failed = load.failed.saturating_add(1);
                load.failures.push(Failed { attempt, started, failed: now, class, why });
                let old = load.failures.len().saturating_sub(FAILURES_KEPT);
                load.failures.drain(..old);
            }
            LoadEvent::Loaded => load.loaded = Some(now),
            LoadEvent::Archived => {}
            LoadEvent::FoundAgain => {
                (load.started, load.loaded, load.found_again, load.failed) = (None, None, Some(now), 0);
                // The folder may now hold another batch of the same id.
                (load.known, load.staged, load.entered_as) = (0, false, None);
            }
        }
        Ok(load)
    }
}

/// The beginning of `text` that takes at most `max` bytes as JSON, quotes not counted: a control character takes six.
fn cut(text: &str, max: usize) -> String {
    let json_bytes = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    if text.chars().map(json_bytes).sum::<usize>() <= max {
        return text.to_owned();
    }
    let mut left = max.saturating_sub('…'.len_utf8());
    let fits = |c: &char| {
        let fits = json_bytes(*c) <= left;
        left = left.saturating_sub(json_bytes(*c));
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::MAX_VALUE;

    fn load() -> Load {
        let instance = Instance::try_from("i".repeat(64)).unwrap();
        Load::new(BatchId::new(), instance, u32::MAX, u64::MAX, u64::MAX, DateTime::UNIX_EPOCH)
    }

    fn failed(why: &str, now: DateTime<Utc>) -> LoadEvent {
        LoadEvent::Failed { next: now, class: ErrorClass::Configuration, why: why.to_owned() }
    }

    #[test]
    fn the_largest_load_there_can_be_fits_a_value_of_the_database() {
        let now: DateTime<Utc> = "2026-12-31T23:59:59.123456789Z".parse().unwrap();
        for why in ["é\u{1}\"".repeat(5_000), "\u{1}".repeat(10_000), "😀\n".repeat(4_000)] {
            let form = Form::new(Compression::Zstd, &"f".repeat(FINGERPRINT_BYTES));
            let mut load = Load {
                content: Some(Content::of_rows(b"")),
                known: u64::MAX,
                staged: true,
                entered_as: Some(BatchId::new()),
                found_again: Some(now),
                loaded: Some(now),
                last_received: Some(now),
                discovered: now,
                form,
                ..load()
            };
            for _ in 0..2 * FAILURES_KEPT {
                load = load.after(LoadEvent::Attempt, now).unwrap();
                load.attempts = u32::MAX;
                load = load.after(failed(&why, now), now).unwrap();
            }
            load.started = Some(now);
            let first = Refused { column: Some(why.clone()), reason: why.clone() };
            let mut load = load.in_quarantine(u64::MAX, Some(first), now);
            load.quarantine.as_mut().unwrap().replayed = Some(now);
            assert_eq!(load.failures.len(), FAILURES_KEPT);
            let len = serde_json::to_vec(&load).unwrap().len();
            assert!(len <= MAX_VALUE, "{len} bytes");
            assert!(len > MAX_VALUE - 500, "{len} bytes: there is room for longer reasons");
        }
    }

    #[test]
    fn failures_are_kept_with_the_times_of_their_attempts_and_the_oldest_go_first() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let mut load = load().after(failed("no connection", at(1)), at(1)).unwrap();
        for n in 0..10 {
            load = load.after(LoadEvent::Attempt, at(10 * n + 10)).unwrap();
            assert_eq!(load.started, Some(at(10 * n + 10)));
            load = load.after(failed(&format!("failure {n}"), at(10 * n + 15)), at(10 * n + 15)).unwrap();
        }
        let kept: Vec<_> = load.failures.iter().map(|failure| failure.attempt).collect();
        assert_eq!(kept, (1..=10).map(Some).collect::<Vec<_>>(), "the one that could not start is gone");
        let last = load.failures.last().unwrap();
        assert_eq!((last.started, last.failed, &last.why[..]), (Some(at(100)), at(105), "failure 9"));
        let load =
            load.after(LoadEvent::Attempt, at(200)).unwrap().after(LoadEvent::Loaded, at(201)).unwrap();
        assert_eq!((load.started, load.loaded), (Some(at(200)), Some(at(201))));
        let load = load.after(LoadEvent::Archived, at(202)).unwrap();
        let load = load.after(LoadEvent::FoundAgain, at(300)).unwrap();
        assert_eq!((load.started, load.loaded, load.found_again), (None, None, Some(at(300))));
    }

    #[test]
    fn a_quarantine_is_kept_with_its_first_refusal_and_the_time_of_its_replay() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let first = Refused { column: Some("evar1".to_owned()), reason: "too long".to_owned() };
        let load = load().in_quarantine(3, Some(first.clone()), at(1)).in_quarantine(3, None, at(2));
        let noted = Quarantined { at: at(1), rows: 3, first: Some(first), replayed: None };
        assert_eq!((load.quarantined, load.quarantine.as_ref()), (3, Some(&noted)));
        let load = load.in_quarantine(0, None, at(9));
        assert_eq!((load.quarantined, load.quarantine.unwrap().replayed), (0, Some(at(9))));
    }

    #[test]
    fn a_load_written_before_failures_were_kept_is_still_read() {
        let old = format!(
            r#"{{"batch":"{}","instance":"a","files":1,"rows":2,"bytes":3,"discovered":"2026-03-02T14:01:41Z",
            "attempts":1,"state":"retrying","next":"2026-03-02T14:02:41Z","class":"data","why":"w"}}"#,
            BatchId::new()
        );
        let load: Load = serde_json::from_str(&old).unwrap();
        assert!(load.failures.is_empty() && load.started.is_none() && load.form.is_none());
        assert!(matches!(load.state, LoadState::Retrying { ref why, .. } if why == "w"));
    }

    #[test]
    fn only_attempts_that_were_made_count_as_tries_in_a_row() {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        let held = load().after(failed("no connection", at(1)), at(1)).unwrap();
        assert_eq!((held.tries_in_a_row(), held.failed), ((0, None), 1));
        let tried = held.after(LoadEvent::Attempt, at(2)).unwrap().after(failed("w", at(3)), at(3)).unwrap();
        let tried = tried.after(LoadEvent::Attempt, at(4)).unwrap().after(failed("w", at(5)), at(5)).unwrap();
        assert_eq!((tried.tries_in_a_row(), tried.failed), ((2, Some(at(3))), 3));
    }

    #[test]
    fn it_is_alarming_at_once_when_only_a_person_can_mend_it_and_else_after_so_many_failures() {
        let now = DateTime::UNIX_EPOCH;
        let fail = |load: &Load, class| {
            let event = LoadEvent::Failed { next: now, class, why: "w".to_owned() };
            load.after(LoadEvent::Attempt, now).unwrap().after(event, now).unwrap()
        };
        assert!(fail(&load(), ErrorClass::Data).is_alarming(5));
        let once = fail(&load(), ErrorClass::Unknown);
        assert!(!once.is_alarming(2) && fail(&once, ErrorClass::Passing).is_alarming(2));
        let again = fail(&once, ErrorClass::Passing).after(LoadEvent::Attempt, now).unwrap();
        assert!(again.is_alarming(2) && !again.after(LoadEvent::Loaded, now).unwrap().is_alarming(2));
    }

    proptest! {
        #[test]
        fn a_cut_reason_is_the_beginning_of_the_whole_and_takes_no_more_than_it_may(
            text in r#"(?s)([\x00-\x1f]|["\\]|.){0,40}"#,
            max in 3_usize..60,
        ) {
            let short = cut(&text, max);
            prop_assert!(serde_json::to_string(&short).unwrap().len() <= max + 2, "{short:?}");
            if short != text {
                prop_assert!(text.starts_with(short.strip_suffix('…').unwrap()));
                prop_assert!(serde_json::to_string(&text).unwrap().len() > max + 2);
            }
        }
    }
}
