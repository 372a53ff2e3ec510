//! Who uses the machine: this benchmark with all that it started, or others. It says how far a figure can be trusted.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// Processor time until a moment, in steps of 10 ms.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    /// Of the whole machine, what its host took away included.
    all: Duration,
    ours: Duration,
}

impl Usage {
    /// Until now.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), all: all(), ours: ours() }
    }

    /// How many cores others had since `before`, on average.
    #[must_use]
    pub fn cores_of_others(&self, before: &Self) -> f64 {
        let others = (self.all - before.all).saturating_sub(self.ours.saturating_sub(before.ours));
        others.as_secs_f64() / (self.at - before.at).as_secs_f64()
    }
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(10 * ticks)
}

fn all() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let fields: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, waiting for a disk, irq, softirq, steal; those behind are in the first ones.
    let busy = fields.iter().take(8).enumerate().filter(|(place, _)| ![3, 4].contains(place));
    ticks(busy.map(|(_, ticks)| ticks).sum())
}

/// Of this process and all below it; of those that ended, too, if they were waited for.
fn ours() -> Duration {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut used: HashMap<u32, u64> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // From the third field on: the name before them may hold blanks.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let number =
            |field: usize| fields.get(field - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let parent = fields.get(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        children.entry(parent).or_default().push(process);
        used.insert(process, (14..=17).map(number).sum());
    }
    let (mut todo, mut sum) = (vec![std::process::id()], 0);
    while let Some(process) = todo.pop() {
        sum += used.get(&process).copied().unwrap_or(0);
        todo.extend(children.remove(&process).unwrap_or_default());
    }
    ticks(sum)
}
