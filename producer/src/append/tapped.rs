//! What of a block is shown to those who tap the producer. The decoding thread keeps the records, since nobody has them
//! later; the log says what became of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use state::log::Staged;
use state::status::tap::{Altered, Became, Fate, Room, Seen, Tap};

use crate::append::decoded::Decoded;

/// Beside a block that was begun while somebody taps.
#[derive(PartialEq, Eq)]
pub(crate) struct TappedBlock {
    tap: TapHandle,
    room: Room,
    /// The names of the filters, by their positions.
    filters: Arc<[String]>,
    /// The position in the block of each record that is kept.
    kept: Vec<(usize, Seen)>,
}

/// Blocks are compared in tests only.
#[derive(Clone)]
struct TapHandle(Tap);

impl PartialEq for TapHandle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TapHandle {}

impl std::fmt::Debug for TappedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TappedBlock").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

impl TappedBlock {
    /// For the next block; None while nobody taps.
    pub(crate) fn begin(tap: &Tap, filters: &Arc<[String]>) -> Option<Box<Self>> {
        let room = tap.room()?;
        Some(Box::new(Self { tap: TapHandle(tap.clone()), room, filters: filters.clone(), kept: Vec::new() }))
    }

    /// Whether somebody wants this record and has room.
    pub(crate) fn wants(&self, decoded: &Decoded) -> bool {
        let wanted = match decoded {
            // Only the log knows which of the two it is.
            Decoded::Row { .. } => self.room.wants(Became::Row) || self.room.wants(Became::Duplicate),
            Decoded::Known { .. } => self.room.wants(Became::Duplicate),
            Decoded::Filtered { .. } => self.room.wants(Became::Filtered),
            Decoded::Rejected { .. } => self.room.wants(Became::Rejected),
        };
        wanted && self.kept.len() < self.room.records
    }

    /// Keeps the record at this position of the block. None: nothing of it may be shown.
    pub(crate) fn keep(
        &mut self,
        position: usize,
        bytes: usize,
        record: Option<&[u8]>,
        altered: Vec<Altered>,
    ) {
        let seen = match record {
            Some(record) => Seen::new(record, self.room.record_bytes, altered),
            None => Seen::hidden(bytes as u64, altered),
        };
        self.kept.push((position, seen));
    }

    /// Shows the block, now that the log has said what became of its rows, in their order.
    pub(crate) fn show(&self, connection: u8, at: DateTime<Utc>, records: &[Decoded], staged: &[Staged]) {
        let (mut kept, mut staged) = (self.kept.iter().peekable(), staged.iter());
        let shown = records.iter().enumerate().map(|(position, decoded)| {
            let seen = kept.next_if(|(of, _)| *of == position).map(|(_, seen)| seen);
            let fate = match decoded {
                Decoded::Row { hit, received, .. } => match staged.next() {
                    Some(Staged::Duplicate) => Fate::Duplicate { hit: *hit, received: *received },
                    Some(Staged::New) | None => Fate::Row { hit: *hit, received: *received },
                },
                Decoded::Known { hit, received } => Fate::Duplicate { hit: Some(*hit), received: *received },
                Decoded::Filtered { rule, received } => {
                    let filter = self.filters.get(*rule).map_or("", String::as_str);
                    Fate::Filtered { filter, received: *received }
                }
                Decoded::Rejected { code, reason, .. } => Fate::Rejected { code, reason },
            };
            (fate, seen)
        });
        self.tap.0.show(connection, at, shown);
    }
}

#[cfg(test)]
mod tests {
    use state::log::{HitId, KeptRecord};
    use state::status::tap::Wanted;

    use super::*;

    fn row(low: u64) -> Decoded {
        Decoded::Row { end: 0, hit: Some(HitId { high: 1, low }), received: None }
    }

    #[test]
    fn a_block_is_shown_with_what_the_log_said_of_each_row() {
        let (tap, filters) = (Tap::default(), Arc::from(["bots".to_owned()]));
        assert!(TappedBlock::begin(&tap, &filters).is_none(), "nobody taps");
        let mut tapping = tap.open(Wanted { only: Vec::new(), record_bytes: 99 }).unwrap();
        let mut tapped = TappedBlock::begin(&tap, &filters).unwrap();
        let reject = Decoded::Rejected {
            record: KeptRecord::Full(b"x".to_vec()),
            code: "not_json",
            reason: "not JSON".to_owned(),
        };
        let known = Decoded::Known { hit: HitId { high: 1, low: 9 }, received: None };
        let records = [row(1), Decoded::Filtered { rule: 0, received: None }, row(2), reject, known];
        for (position, decoded) in records.iter().enumerate() {
            // One was not kept.
            if position != 2 {
                assert!(tapped.wants(decoded));
                let text = format!("record {position}");
                tapped.keep(position, text.len(), Some(text.as_bytes()), Vec::new());
            }
        }
        tapped.show(0, DateTime::UNIX_EPOCH, &records, &[Staged::Duplicate, Staged::New]);
        let shown: Vec<_> = std::iter::from_fn(|| tapping.take()).collect();
        let texts: Vec<_> =
            shown.iter().map(|shown| (shown.became, shown.record.as_deref().unwrap())).collect();
        let expected = [
            (Became::Duplicate, "record 0"),
            (Became::Filtered, "record 1"),
            (Became::Rejected, "record 3"),
            (Became::Duplicate, "record 4"),
        ];
        assert_eq!(texts, expected);
        assert_eq!((shown[1].filter.as_deref(), tapping.missed()), (Some("bots"), 1));
    }

    #[test]
    fn only_what_is_wanted_is_asked_for() {
        let tap = Tap::default();
        let _tapping = tap.open(Wanted { only: vec![Became::Rejected], record_bytes: 99 }).unwrap();
        let tapped = TappedBlock::begin(&tap, &Arc::from([])).unwrap();
        assert!(!tapped.wants(&row(1)));
    }
}
