//! What the services take of the machine, sample by sample, and how it grows.

use std::fs;
use std::path::Path;

/// What one process takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    /// Bytes of memory that are its own or shared.
    pub(super) rss: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Number of the run that it is of, from 0.
    pub(super) piece: u64,
    /// Seconds since the run began.
    pub(super) at: f64,
    pub(super) producer: Process,
    pub(super) ingester: Process,
    /// Bytes on disk of the log, and of what the ingester remembers.
    pub(super) log: u64,
    pub(super) loads: u64,
    /// Hits that were sent and are not yet in the table.
    pub(super) behind: u64,
}

/// What a running process takes; nothing of one that has ended meanwhile.
pub(super) fn process(pid: u32) -> Process {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
    Process { rss: number("VmRSS:") * 1024, files, threads: number("Threads:") }
}

/// A quantity over time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Series {
    ProducerMemory,
    IngesterMemory,
    ProducerFiles,
    IngesterFiles,
    ProducerThreads,
    IngesterThreads,
    Log,
    Loads,
    Behind,
}

impl Series {
    pub(super) const ALL: [Self; 9] = [
        Self::ProducerMemory,
        Self::IngesterMemory,
        Self::ProducerFiles,
        Self::IngesterFiles,
        Self::ProducerThreads,
        Self::IngesterThreads,
        Self::Log,
        Self::Loads,
        Self::Behind,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ProducerMemory => "producer: memory, MB",
            Self::IngesterMemory => "ingester: memory, MB",
            Self::ProducerFiles => "producer: open files",
            Self::IngesterFiles => "ingester: open files",
            Self::ProducerThreads => "producer: threads",
            Self::IngesterThreads => "ingester: threads",
            Self::Log => "log on disk, MB",
            Self::Loads => "load store on disk, MB",
            Self::Behind => "hits not yet loaded, 1,000",
        }
    }

    /// What waits for the table comes and goes with the faults.
    pub(super) fn must_be_flat(self) -> bool {
        !matches!(self, Self::Behind)
    }

    pub(super) fn of(self, sample: &Sample) -> f64 {
        let Sample { producer, ingester, log, loads, behind, .. } = sample;
        match self {
            Self::ProducerMemory => producer.rss as f64 / 1e6,
            Self::IngesterMemory => ingester.rss as f64 / 1e6,
            Self::ProducerFiles => producer.files as f64,
            Self::IngesterFiles => ingester.files as f64,
            Self::ProducerThreads => producer.threads as f64,
            Self::IngesterThreads => ingester.threads as f64,
            Self::Log => *log as f64 / 1e6,
            Self::Loads => *loads as f64 / 1e6,
            Self::Behind => *behind as f64 / 1e3,
        }
    }

    /// Least, middle and most after so many seconds.
    pub(super) fn spread(self, samples: &[Sample], warm: f64) -> [f64; 3] {
        let values = self.after(samples, warm);
        [0.0, 0.5, 1.0].map(|share| at(&values, share))
    }

    /// The middle of the last quarter of the time by that of the first one, after so many seconds.
    pub(super) fn grows(self, samples: &[Sample], warm: f64) -> f64 {
        let values = warmed(samples, warm).count();
        let quarter = |from: usize| {
            let part: Vec<Sample> = warmed(samples, warm).skip(from).take(values / 4).copied().collect();
            at(&self.after(&part, warm), 0.5)
        };
        quarter(values - values / 4) / quarter(0).max(f64::MIN_POSITIVE)
    }

    /// In order of size.
    fn after(self, samples: &[Sample], warm: f64) -> Vec<f64> {
        let mut values: Vec<f64> = warmed(samples, warm).map(|sample| self.of(sample)).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The value behind so many of all.
#[allow(clippy::cast_sign_loss, reason = "a share of a length is not negative")]
fn at(values: &[f64], share: f64) -> f64 {
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share).round() as usize).copied().unwrap_or(0.0)
}

fn warmed(samples: &[Sample], warm: f64) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(move |sample| sample.at >= warm)
}

const HEAD: &str = "piece,seconds,producer_rss,producer_files,producer_threads,ingester_rss,ingester_files,\
    ingester_threads,log_bytes,load_store_bytes,hits_behind\n";

/// Adds a piece to the file, and returns everything in it.
pub(super) fn add(file: &Path, samples: &[Sample]) -> Vec<Sample> {
    let text = fs::read_to_string(file).unwrap_or_else(|_| HEAD.to_owned());
    let mut all: Vec<Sample> = text.lines().skip(1).map(read).collect();
    let piece = all.iter().map(|sample| sample.piece + 1).max().unwrap_or(0);
    all.extend(samples.iter().map(|sample| Sample { piece, ..*sample }));
    fs::write(file, text + &all.iter().filter(|sample| sample.piece == piece).map(line).collect::<String>())
        .unwrap();
    all
}

fn line(sample: &Sample) -> String {
    let Sample { piece, at, producer: p, ingester: i, log, loads, behind } = sample;
    format!(
        "{piece},{at:.0},{},{},{},{},{},{},{log},{loads},{behind}\n",
        p.rss, p.files, p.threads, i.rss, i.files, i.threads
    )
}

fn read(line: &str) -> Sample {
    let cells: Vec<u64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
    let process = |at: usize| Process { rss: cells[at], files: cells[at + 1], threads: cells[at + 2] };
    let (producer, ingester) = (process(2), process(5));
    let (log, loads, behind) = (cells[8], cells[9], cells[10]);
    Sample { piece: cells[0], at: cells[1] as f64, producer, ingester, log, loads, behind }
}
