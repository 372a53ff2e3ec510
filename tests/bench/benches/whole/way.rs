//! One way to bring the stream somewhere, its turns, and what they say together.

use std::collections::BTreeMap;
use std::time::Duration;

/// What one turn took.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) records: u64,
    /// Bytes of the records, inflated.
    pub(crate) text_bytes: u64,
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// The most memory of the process; 0 where it was not looked at.
    pub(crate) peak_memory: u64,
    /// Of the producer: processor time by kind of thread.
    pub(crate) threads: BTreeMap<String, Duration>,
    /// Beside the producer: processor time of the stand-ins.
    pub(crate) stand_ins: Duration,
    /// Objects put into S3.
    pub(crate) puts: u64,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bare inflation: the limit of one core.
    Inflation,
    /// Our threads before the log.
    Decoding,
    /// The program, with so many connections.
    Producer(u64),
    /// The Python loop.
    Python,
}

impl Kind {
    /// What the figures call it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Inflation => "bare inflation".to_owned(),
            Self::Decoding => "inflate, frame, transform".to_owned(),
            Self::Producer(1) => "stream to S3, 1 connection".to_owned(),
            Self::Producer(connections) => format!("stream to S3, {connections} connections"),
            Self::Python => "a loop in Python".to_owned(),
        }
    }

    /// Of the program.
    pub(crate) fn connections(self) -> Option<u64> {
        match self {
            Self::Producer(connections) => Some(connections),
            Self::Inflation | Self::Decoding | Self::Python => None,
        }
    }
}

/// A way, with all of its turns.
pub(crate) struct Way {
    pub(crate) kind: Kind,
    pub(crate) turns: Vec<Taken>,
    /// Of the producer: calls of fsync and fdatasync for 1,000 records, counted in a run of its own; 0 if they were not.
    pub(crate) syncs: f64,
}

impl Way {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, turns: Vec::new(), syncs: 0.0 }
    }

    /// The middle one of a figure of each turn.
    pub(crate) fn middle(&self, figure: impl Fn(&Taken) -> f64) -> f64 {
        let figures = self.sorted(figure);
        figures[figures.len() / 2]
    }

    /// Records a second.
    pub(crate) fn rate(&self) -> f64 {
        self.middle(rate)
    }

    /// By how much equal turns differ, of the middle one: how noisy the machine was.
    pub(crate) fn spread(&self) -> f64 {
        let rates = self.sorted(rate);
        (rates[rates.len() - 1] - rates[0]) / self.rate()
    }

    /// Microseconds a record of what a turn took.
    pub(crate) fn micros(&self, time: impl Fn(&Taken) -> Duration) -> f64 {
        self.middle(|turn| time(turn).as_secs_f64() * 1e6 / turn.records as f64)
    }

    fn sorted(&self, figure: impl Fn(&Taken) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.turns.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }
}

fn rate(turn: &Taken) -> f64 {
    turn.records as f64 / turn.time.as_secs_f64()
}
