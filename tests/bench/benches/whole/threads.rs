//! What the threads of another process take of the processor.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Processor time by thread, in nanoseconds and not in steps of 10 ms as `stat` has it: a thread may take less.
#[derive(Default)]
pub(crate) struct Threads(BTreeMap<String, (String, Duration)>);

impl Threads {
    /// Those that the process has now.
    pub(crate) fn of(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
        let read = |thread: std::path::PathBuf| {
            // It may have ended meanwhile.
            let name = fs::read_to_string(thread.join("comm")).ok()?;
            let ran = fs::read_to_string(thread.join("schedstat")).ok()?;
            let ran = ran.split_whitespace().next()?.parse().ok()?;
            Some((thread.display().to_string(), (kind(&name), Duration::from_nanos(ran))))
        };
        Self(threads.filter_map(read).collect())
    }

    /// What they took since `before`, by kind.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<String, Duration> {
        let mut kinds = BTreeMap::new();
        for (thread, (kind, ran)) in &self.0 {
            let before = before.0.get(thread).map_or(Duration::ZERO, |(_, ran)| *ran);
            *kinds.entry(kind.clone()).or_default() += ran.saturating_sub(before);
        }
        kinds
    }
}

/// The name without its number.
fn kind(name: &str) -> String {
    name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned()
}
