//! Tells a stream that was damaged on its way from one in which a record is wrong now and then.
//!
//! gzip tells of damage at the end of a member, and the member of a stream never ends. Deflate may decode damaged bytes
//! for as long as it lasts, and what comes out are lines that no reader can read, behind which hits are lost that Adobe
//! takes for sent. So a run of unreadable lines ends the session, and the next one is sent the hits again.
//!
//! ```text
//!             limit reached, none to be gone over
//! reading ───────────────────────────────────────► damaged
//!    │ ▲
//!    │ └── as many readable records as the limit ──┐
//!    └── limit reached, one to be gone over ──► passing
//! ```

/// What a readable record takes off the count of unreadable ones. Of damaged text a record may be readable by chance,
/// and must not begin the count anew; where every fifth record can be read, it is no damage.
const READABLE: u32 = 4;

/// Counts unreadable records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    limit: u32,
    /// Runs that may still be gone over: Adobe has sent such before.
    to_pass: u32,
    passed: u32,
    count: u32,
    /// Readable records that are to come before a run that is gone over has ended.
    passing: u32,
    damaged: bool,
}

impl Unreadable {
    /// So many unreadable records in a row are damage, 0: never; but this many runs of them are gone over first.
    #[must_use]
    pub fn new(limit: u32, to_pass: u32) -> Self {
        Self { limit, to_pass, ..Self::default() }
    }

    /// A record could be read, whatever became of it.
    pub fn readable(&mut self) {
        self.count = self.count.saturating_sub(READABLE);
        self.passing = self.passing.saturating_sub(1);
    }

    /// So many records could not be read.
    pub fn unreadable(&mut self, records: u32) {
        if self.limit == 0 {
            return;
        }
        if self.passing > 0 {
            self.passing = self.limit;
            return;
        }
        self.count = self.count.saturating_add(records);
        if self.count < self.limit {
            return;
        }
        self.count = 0;
        match self.to_pass.checked_sub(1) {
            Some(left) => {
                (self.to_pass, self.passed, self.passing) = (left, self.passed + 1, self.limit);
                tracing::warn!(
                    records = self.limit,
                    "records that cannot be read come again after every reconnect, so Adobe sends them so: they are \
                     kept as rejects and the stream is read on"
                );
            }
            None => self.damaged = true,
        }
    }

    /// Whether a line that has not ended, of so many bytes, is damage too: each `line` bytes count as a record.
    #[must_use]
    pub fn is_damaged_with(&self, pending: u64, line: usize) -> bool {
        let records = pending / (line as u64).max(1);
        self.damaged || (self.limit > 0 && records + u64::from(self.count) >= u64::from(self.limit))
    }

    /// Whether the stream is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Why the session ends then.
    #[must_use]
    pub fn why(&self) -> String {
        format!(
            "damaged: {} records in a row cannot be read (adobe.damaged_after); the hits in their place are asked for \
             again",
            self.limit
        )
    }

    /// Runs that were gone over.
    #[must_use]
    pub fn passed(&self) -> u32 {
        self.passed
    }
}

/// How many sessions may end as damaged one after the other before runs are gone over.
const SESSIONS: u32 = 3;

/// How many sessions of a connection ended as damaged, and so how many runs the next one goes over.
///
/// What is damaged on its way is whole the next time. What Adobe sends unreadable, as in a format of tomorrow, is not:
/// after some sessions it is gone over, a run more each time, so that every stream is read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damages(u32);

impl Damages {
    /// Runs of unreadable records that the next session goes over.
    #[must_use]
    pub fn to_pass(&self) -> u32 {
        self.0.saturating_sub(SESSIONS - 1)
    }

    /// A session ended as damaged.
    pub fn damaged(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// A session ended in another way, and had gone over so many runs: they may come again.
    pub fn other(&mut self, passed: u32) {
        self.0 = if passed > 0 { SESSIONS - 1 + passed } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(tracker: &mut Unreadable, records: &str) -> Option<usize> {
        records.chars().position(|record| {
            match record {
                'x' => tracker.unreadable(1),
                _ => tracker.readable(),
            }
            tracker.is_damaged()
        })
    }

    #[test]
    fn so_many_in_a_row_are_damage_also_with_one_readable_among_them() {
        let mut tracker = Unreadable::new(20, 0);
        assert_eq!(feed(&mut tracker, &"x".repeat(40)), Some(19));
        let mut tracker = Unreadable::new(20, 0);
        assert_eq!(feed(&mut tracker, &"xxxxxxxxxx.".repeat(5)), Some(29));
    }

    #[test]
    fn a_wrong_record_now_and_then_is_no_damage_however_many_there_are() {
        for stream in ["x.", "xxx.", "xxxx.", ".....x"] {
            assert_eq!(feed(&mut Unreadable::new(20, 0), &stream.repeat(1_000)), None, "{stream}");
        }
        assert_eq!(feed(&mut Unreadable::new(0, 0), &"x".repeat(10_000)), None, "0 is never");
    }

    #[test]
    fn a_run_that_is_gone_over_ends_with_readable_records_and_the_next_is_damage() {
        let mut tracker = Unreadable::new(20, 1);
        assert_eq!(feed(&mut tracker, &"xx.".repeat(1_000)), None);
        assert_eq!(feed(&mut tracker, &"x".repeat(1_000)), None);
        assert_eq!(tracker.passed(), 1);
        assert_eq!(feed(&mut tracker, &".".repeat(20)), None);
        assert_eq!(feed(&mut tracker, &"x".repeat(1_000)), Some(19));
        assert_eq!(tracker.passed(), 1);
    }

    #[test]
    fn a_line_without_end_counts_by_its_length() {
        let mut tracker = Unreadable::new(20, 0);
        assert!(!tracker.is_damaged_with(19_999, 1_000) && tracker.is_damaged_with(20_000, 1_000));
        tracker.unreadable(5);
        assert!(!tracker.is_damaged_with(14_999, 1_000) && tracker.is_damaged_with(15_000, 1_000));
        assert!(!Unreadable::new(0, 0).is_damaged_with(u64::MAX, 1));
    }

    /// Sessions of a stream in which each place is `x` for a run of unreadable records, and begins anew every time.
    fn sessions_to_the_end(stream: &str) -> usize {
        let (mut damages, mut sessions) = (Damages::default(), 0);
        loop {
            sessions += 1;
            let mut tracker = Unreadable::new(20, damages.to_pass());
            let runs = stream.chars().map(|part| part.to_string().repeat(30)).collect::<String>();
            match feed(&mut tracker, &runs) {
                Some(_) => damages.damaged(),
                None => return sessions,
            }
            assert!(sessions < 100, "stuck");
        }
    }

    #[test]
    fn a_stream_is_read_to_its_end_however_much_of_it_is_unreadable() {
        assert_eq!(sessions_to_the_end("..."), 1);
        assert_eq!(sessions_to_the_end(".x."), 4);
        assert_eq!(sessions_to_the_end("xxxxx"), 4);
        assert_eq!(sessions_to_the_end(".x..x.x."), 6);
    }

    #[test]
    fn what_was_gone_over_is_gone_over_at_once_when_it_comes_again() {
        let mut damages = Damages::default();
        (0..3).for_each(|_| damages.damaged());
        assert_eq!(damages.to_pass(), 1);
        damages.other(1);
        assert_eq!(damages.to_pass(), 1);
        damages.other(0);
        assert_eq!(damages.to_pass(), 0);
    }
}
