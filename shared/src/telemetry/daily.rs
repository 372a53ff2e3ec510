//! A log file a day, `<service>.<YYYY-MM-DD>.log`, by the date in UTC. Files of this name that are too old are deleted, and
//! no others: the directory may be shared, and other files in it are not ours.
//!
//! tracing-appender's own files are not used: it deletes whatever begins with the name and ends in `.log`, and complains to
//! standard error, which ends its thread when the reader has gone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use crate::clock::Clock;

#[derive(Debug)]
pub(super) struct Daily {
    clock: Clock,
    dir: PathBuf,
    service: String,
    keep_days: usize,
    day: NaiveDate,
    file: File,
}

impl Daily {
    pub(super) fn open(clock: Clock, dir: &Path, service: &str, keep_days: usize) -> io::Result<Self> {
        let day = clock.wall().date_naive();
        let file = append_to(&dir.join(name(service, day)))?;
        Ok(Self { clock, dir: dir.to_owned(), service: service.to_owned(), keep_days, day, file })
    }

    /// Continues in the file of `today`, and deletes what is too old. A failure is logged to the file that is open.
    fn turn_to(&mut self, today: NaiveDate) {
        // Tried once a day: each attempt that fails is a line, and each line would be an attempt.
        self.day = today;
        let path = self.dir.join(name(&self.service, today));
        match append_to(&path) {
            Ok(file) => self.file = file,
            Err(error) => {
                let path = path.display();
                tracing::warn!("cannot begin the log file {path}: {error}; continuing in the previous one");
            }
        }
        prune(&self.dir, &self.service, self.keep_days, today);
    }
}

impl Write for Daily {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let today = self.clock.wall().date_naive();
        if today != self.day {
            self.turn_to(today);
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The file that is written now.
pub(super) fn today(dir: &Path, service: &str, clock: &Clock) -> PathBuf {
    dir.join(name(service, clock.wall().date_naive()))
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn name(service: &str, day: NaiveDate) -> String {
    format!("{service}.{}.log", day.format("%Y-%m-%d"))
}

pub(super) fn prune(dir: &Path, service: &str, keep_days: usize, today: NaiveDate) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("cannot look for old log files in {}: {error}", dir.display());
            return;
        }
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| expired(name, service, keep_days, today));
        // Only files are made here, no directory and no link.
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => {}
            // Another process of this service was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("cannot delete the old log file {}: {error}", entry.path().display());
            }
        }
    }
}

/// Whether this is a log file of the service, of a day before the last `keep_days`.
fn expired(file: &str, service: &str, keep_days: usize, today: NaiveDate) -> bool {
    let date = file.strip_prefix(service).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".log"));
    let Some(Ok(day)) = date.map(|date| NaiveDate::parse_from_str(date, "%Y-%m-%d")) else { return false };
    // chrono also reads `2026-3-2`, which is not how it is written here.
    let ours = name(service, day) == file;
    ours && i64::try_from(keep_days).is_ok_and(|days| (today - day).num_days() >= days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn only_files_of_exactly_this_name_expire_by_the_date_in_it() {
        let expired = |file: &str| expired(file, "ingester", 14, day("2026-11-15"));
        for old in ["ingester.2026-11-01.log", "ingester.2025-12-31.log"] {
            assert!(expired(old), "{old}");
        }
        for kept in [
            "ingester.2026-11-02.log",
            "ingester.2026-11-15.log",
            "ingester.2027-01-01.log",
            "ingester-incident.log",
            "ingester2.2026-11-01.log",
            "ingester.2026-11-01.log.gz",
            "ingester.2026-11-01-copy.log",
            "ingester.before.2026-11-01.log",
            "ingester.2026-1-1.log",
            "ingester.2026-13-01.log",
            "ingester.log",
            "ingester..log",
            "producer.2026-11-01.log",
        ] {
            assert!(!expired(kept), "{kept}");
        }
    }

    #[test]
    fn a_new_day_has_a_new_file_and_what_is_not_ours_stays() {
        let dir = std::env::temp_dir().join(format!("daily-{}", uuid::Uuid::now_v7()));
        let clock = Clock::by_hand("2026-11-14T12:00:00Z".parse().unwrap());
        let next_day = || clock.advance(std::time::Duration::from_secs(86_400));
        fs::create_dir(&dir).unwrap();
        let mut daily = Daily::open(clock.clone(), &dir, "ingester", 2).unwrap();
        daily.write_all(b"one\n").unwrap();
        let others = ["ingester-incident.log", "ingester2.2026-11-01.log"];
        for name in others.into_iter().chain(["ingester.2026-11-13.log"]) {
            fs::write(dir.join(name), "kept").unwrap();
        }
        fs::create_dir(dir.join("ingester.2026-11-02.log")).unwrap();
        next_day();
        daily.write_all(b"two\n").unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        assert_eq!(read("ingester.2026-11-14.log").as_deref(), Some("one\n"));
        assert_eq!(read("ingester.2026-11-15.log").as_deref(), Some("two\n"));
        assert_eq!(read("ingester.2026-11-13.log"), None, "two days are kept");
        assert!(others.iter().all(|name| read(name).as_deref() == Some("kept")));
        assert!(dir.join("ingester.2026-11-02.log").is_dir());
        // Where no file can be made the previous one is continued, and nothing panics.
        fs::create_dir(dir.join("ingester.2026-11-16.log")).unwrap();
        next_day();
        daily.write_all(b"three\n").unwrap();
        assert_eq!(read("ingester.2026-11-15.log").as_deref(), Some("two\nthree\n"));
        fs::remove_dir_all(&dir).unwrap();
        next_day();
        daily.write_all(b"four\n").unwrap();
        daily.flush().unwrap();
    }
}
