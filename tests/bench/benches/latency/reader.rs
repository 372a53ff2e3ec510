//! A reader of the table, who asks again and again which of the followed hits he sees.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use adobe::Generator;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Between two questions: no time that is measured is known better.
const EVERY: Duration = Duration::from_millis(5);

/// The followed hits: those whose lower id this number divides. An index of the table has them and no others, so that asking
/// costs little however long the table is.
pub(crate) struct Reader<'a> {
    table: &'a Client,
    /// Of the stream, oldest first: index and lower id.
    followed: Vec<(u64, u64)>,
    condition: String,
    seen: HashMap<u64, SystemTime>,
    /// The oldest that was not seen.
    next: usize,
    /// The longest time between two answers.
    pub(crate) longest: Duration,
    answered: Instant,
}

impl<'a> Reader<'a> {
    /// Follows one in so many of the first `hits`.
    pub(crate) async fn new(table: &'a Client, generator: &Generator, hits: u64, one_in: u64) -> Self {
        let condition = format!("hitidlow % {one_in} = 0");
        let index = format!("CREATE INDEX ON public.livestream (hitidlow) WHERE {condition}");
        table.batch_execute(&index).await.unwrap();
        // Nothing here is analyzed; the plan is to be the same for a short and a long table.
        table.batch_execute("SET enable_seqscan = off").await.unwrap();
        let low = |index| (index, generator.hit_id(index).1);
        let followed: Vec<_> = (0..hits).map(low).filter(|(_, low)| low % one_in == 0).collect();
        let (seen, next) = (HashMap::new(), 0);
        Self { table, followed, condition, seen, next, longest: Duration::ZERO, answered: Instant::now() }
    }

    /// Asks once, on time. Batches are loaded in order, so the other hits are asked for when the oldest that is missing comes.
    pub(crate) async fn step(&mut self) {
        tokio::time::sleep(EVERY.saturating_sub(self.answered.elapsed())).await;
        if let Some((_, oldest)) = self.followed.get(self.next)
            && !self.ask(&format!(" AND hitidlow = {oldest}")).await.is_empty()
        {
            let visible = self.ask("").await;
            let now = SystemTime::now();
            for low in visible {
                self.seen.entry(low).or_insert(now);
            }
            while self.followed.get(self.next).is_some_and(|(_, low)| self.seen.contains_key(low)) {
                self.next += 1;
            }
        }
        self.longest = self.longest.max(self.answered.elapsed());
        self.answered = Instant::now();
    }

    async fn ask(&self, also: &str) -> Vec<u64> {
        let sql = format!("SELECT hitidlow FROM public.livestream WHERE {}{also}", self.condition);
        let answer = self.table.simple_query(&sql).await.unwrap();
        let low = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().parse().unwrap()),
            _ => None,
        };
        answer.into_iter().filter_map(low).collect()
    }

    /// Whether every followed hit of the first so many was seen.
    pub(crate) fn has_seen(&self, hits: u64) -> bool {
        self.followed.get(self.next).is_none_or(|(index, _)| *index >= hits)
    }

    /// The followed hits of the first so many, each with the moment at which it was seen.
    pub(crate) fn seen(&self, hits: u64) -> impl Iterator<Item = (u64, SystemTime)> {
        let first = self.followed.iter().take_while(move |(index, _)| *index < hits);
        first.map(|(index, low)| (*index, self.seen[low]))
    }
}
