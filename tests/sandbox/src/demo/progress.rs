//! How far the demo is: a bar on a terminal, a line every few seconds elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shared::human::{bytes, count};

/// Where the records are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) durable: u64,
    pub(crate) in_s3: u64,
    pub(crate) loaded: u64,
    /// How long the oldest row that is not loaded has been waiting.
    pub(crate) lag: Duration,
    pub(crate) rss: (u64, u64),
}

impl Counts {
    /// Whether some record has got further.
    pub(crate) fn moved_since(&self, before: &Self) -> bool {
        let places =
            |counts: &Self| [counts.sent, counts.received, counts.durable, counts.in_s3, counts.loaded];
        places(self) != places(before)
    }
}

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// Loaded rows over the last seconds, for the rate.
    recent: VecDeque<(Instant, u64)>,
}

/// Without a terminal a line this often is enough.
const LINE_EVERY: Duration = Duration::from_secs(2);
const RATE_OVER: Duration = Duration::from_secs(5);

impl Progress {
    pub(crate) fn new(rows: u64) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(rows);
            let style = ProgressStyle::with_template("{elapsed_precise} {bar:24} {percent:>3}%  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let last_line = Instant::now();
        Self { bar, last_line, recent: VecDeque::new() }
    }

    pub(crate) fn show(&mut self, counts: &Counts) {
        let rate = self.rate(counts.loaded);
        let line = format!(
            "received {}  durable {}  in S3 {}  loaded {}  {} rows/s  lag {:.1}s",
            count(counts.received),
            count(counts.durable),
            count(counts.in_s3),
            count(counts.loaded),
            count(rate),
            counts.lag.as_secs_f64(),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(counts.loaded);
                bar.set_message(line);
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let (producer, ingester) = counts.rss;
                println!("{line}  memory {} + {}", bytes(producer), bytes(ingester));
            }
            None => {}
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => println!("{text}"),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn rate(&mut self, loaded: u64) -> u64 {
        let now = Instant::now();
        self.recent.push_back((now, loaded));
        while self.recent.front().is_some_and(|(at, _)| now - *at > RATE_OVER) {
            self.recent.pop_front();
        }
        let Some((at, before)) = self.recent.front() else { return 0 };
        let millis = u64::try_from((now - *at).as_millis()).unwrap_or(u64::MAX);
        (loaded.saturating_sub(*before) * 1000).checked_div(millis).unwrap_or(0)
    }
}
