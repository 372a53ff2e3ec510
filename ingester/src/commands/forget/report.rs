//! What was found and what became of it, for people and for programs. It has counts and keys, and no value.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::human::{count, counted};
use shared::ids::BatchId;
use state::inspect::columns;

use crate::commands::terminal::{FORMAT, LISTED, write_cut};
use crate::sought::Sought;

/// What no run of this command reaches.
const BEYOND: [&str; 6] = [
    "snapshots of Redshift, and the blocks on its disks until VACUUM DELETE ONLY, which it also does by itself",
    "Redshift's own tables, for some days: load errors, and the text of these statements, which has the values",
    "older versions in a bucket with versioning, and what others have copied from bucket or table",
    "rows that wait in the log of a producer, this one's or another's, and copies on another machine",
    "the same value in other columns, or under other keys of a record that became a reject",
    "what Adobe keeps, and sends from now on",
];

#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) format: u32,
    pub(super) at: DateTime<Utc>,
    /// False: nothing was changed.
    pub(super) applied: bool,
    pub(super) column: String,
    /// How many values were looked for.
    pub(super) values: u64,
    /// Batches that hold such rows and are not loaded, or not archived yet. With any, nothing is changed.
    pub(super) in_the_way: Vec<InTheWay>,
    pub(super) table: Place,
    pub(super) archive: Place,
    pub(super) quarantine: Place,
    /// A row is a reject here.
    pub(super) rejects: Place,
    pub(super) copies: Copies,
    pub(super) log: Log,
    /// What holds such rows still, or could not be read.
    pub(super) left: Vec<Left>,
    /// Why the run ended early; what was done until then is told.
    pub(super) stopped: Option<String>,
    pub(super) beyond: [&'static str; 6],
}

/// A place that is searched.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Place {
    /// Whether it was.
    pub(super) searched: bool,
    pub(super) rows_found: u64,
    pub(super) rows_removed: u64,
    /// Files, sets or objects with such rows; none in the table.
    pub(super) objects_found: u64,
    pub(super) objects_removed: u64,
    /// Objects that an interrupted run, or an interrupted search for refused rows, left behind.
    pub(super) left_overs: u64,
    pub(super) left_overs_removed: u64,
    #[serde(skip)]
    pub(super) left: Vec<Left>,
}

/// An object, or a place, that holds such rows still, or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// A key of the bucket, or a name.
    pub(super) what: String,
    pub(super) why: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct InTheWay {
    pub(super) batch: BatchId,
    pub(super) rows: u64,
    pub(super) why: String,
}

/// Copies that the producer of this machine keeps.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Copies {
    /// Loaded batches of which there are copies.
    pub(super) batches: u64,
    pub(super) removed: u64,
}

/// The log of the producer of this machine, which is not searched.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Log {
    pub(super) asked: bool,
    pub(super) rows_waiting: u64,
    pub(super) rejects_waiting: u64,
}

impl Place {
    /// An object has so many rows of the person.
    pub(super) fn found(&mut self, rows: u64) {
        self.rows_found += rows;
        self.objects_found += 1;
    }

    /// They are gone.
    pub(super) fn removed(&mut self, rows: u64) {
        self.rows_removed += rows;
        self.objects_removed += 1;
    }

    pub(super) fn left(&mut self, what: String, why: String) {
        self.left.push(Left { what, why });
    }

    /// Adds what was found elsewhere in the same place.
    pub(super) fn add(&mut self, other: Self) {
        self.rows_found += other.rows_found;
        self.rows_removed += other.rows_removed;
        self.objects_found += other.objects_found;
        self.objects_removed += other.objects_removed;
        self.left_overs += other.left_overs;
        self.left_overs_removed += other.left_overs_removed;
        self.left.extend(other.left);
    }

    fn text(&self, applied: bool, what: (&str, &str), of: Option<(&str, &str)>) -> String {
        if !self.searched {
            return "not searched".to_owned();
        }
        let mut text = counted(self.rows_found, what.0, what.1);
        if let Some((one, many)) = of.filter(|_| self.rows_found > 0) {
            let _ = write!(text, " in {}", counted(self.objects_found, one, many));
        }
        if applied && self.rows_found > 0 {
            let _ = write!(text, ", {} removed", count(self.rows_removed));
        }
        if self.left_overs > 0 {
            let _ = write!(text, "; {} left over", counted(self.left_overs, "object", "objects"));
            if applied {
                let _ = write!(text, ", {} removed", count(self.left_overs_removed));
            }
        }
        text
    }
}

impl Report {
    pub(super) fn new(at: DateTime<Utc>, sought: &Sought, apply: bool) -> Self {
        Self {
            format: FORMAT,
            at,
            applied: apply,
            column: sought.column().to_owned(),
            values: sought.values().len() as u64,
            in_the_way: Vec::new(),
            table: Place::default(),
            archive: Place::default(),
            quarantine: Place::default(),
            rejects: Place::default(),
            copies: Copies::default(),
            log: Log::default(),
            left: Vec::new(),
            stopped: None,
            beyond: BEYOND,
        }
    }

    /// Takes what is left from the places.
    pub(super) fn end(&mut self) {
        for place in [&mut self.table, &mut self.archive, &mut self.quarantine, &mut self.rejects] {
            self.left.append(&mut place.left);
        }
    }

    /// Whether nothing of the person was found anywhere.
    pub(super) fn found_nothing(&self) -> bool {
        let places = [&self.table, &self.archive, &self.quarantine, &self.rejects];
        self.in_the_way.is_empty()
            && places.iter().all(|place| place.rows_found == 0 && place.left_overs == 0)
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let values = counted(self.values, "value", "values");
        let (rows, files) = (("row", "rows"), Some(("file", "files")));
        let lines = [
            ("column", format!("{}, {values}", self.column)),
            ("table", self.table.text(self.applied, rows, None)),
            ("archive", self.archive.text(self.applied, rows, files)),
            ("quarantine", self.quarantine.text(self.applied, rows, Some(("set", "sets")))),
            ("rejects", self.rejects.text(self.applied, ("reject", "rejects"), Some(("object", "objects")))),
            ("copies", self.copies_text()),
            ("log", self.log_text()),
        ];
        for (name, said) in lines {
            let _ = writeln!(out, "{name:11} {}", columns::wrap(&said, 12).trim_start());
        }
        if !self.in_the_way.is_empty() {
            out.push_str("\nin the way:\n");
            for InTheWay { batch, rows, why } in self.in_the_way.iter().take(LISTED) {
                let said = format!("{}: {why}", counted(*rows, "row", "rows"));
                let _ = writeln!(out, "{batch}\n{}", columns::wrap(&said, 4));
            }
            write_cut(&mut out, self.in_the_way.len() as u64, "batches", LISTED);
        }
        if !self.left.is_empty() {
            out.push_str("\nleft:\n");
            for Left { what, why } in self.left.iter().take(LISTED) {
                let _ = writeln!(out, "{what}\n{}", columns::wrap(why, 4));
            }
            write_cut(&mut out, self.left.len() as u64, "left", LISTED);
        }
        if let Some(why) = &self.stopped {
            let _ = writeln!(out, "\nstopped before the end:\n{}", columns::wrap(why, 4));
        }
        out.push_str("\nnot reached by this command:\n");
        for beyond in self.beyond {
            let _ = writeln!(out, "{}", columns::wrap(beyond, 4));
        }
        let _ = writeln!(out, "\n{}", self.verdict());
        out
    }

    fn verdict(&self) -> &'static str {
        if !self.in_the_way.is_empty() {
            "Nothing was changed: run it again when these batches are loaded and archived."
        } else if self.stopped.is_some() {
            "Run it again: it goes on where it stopped."
        } else if self.found_nothing() && self.left.is_empty() {
            "Nothing was found."
        } else if !self.applied {
            "Nothing was changed: give --yes to remove what was found."
        } else if self.left.is_empty() {
            "All that was found is removed."
        } else {
            "Not everything is removed: see above, then run it again."
        }
    }

    fn copies_text(&self) -> String {
        let Copies { batches, removed } = self.copies;
        let there = counted(batches, "loaded batch", "loaded batches");
        match (self.applied, batches) {
            (_, 0) => "none of loaded batches".to_owned(),
            (false, _) => format!("of {there}: whatever rows they have, they would be dropped"),
            (true, _) => format!("of {there}, {} dropped", count(removed)),
        }
    }

    fn log_text(&self) -> String {
        let Log { asked, rows_waiting, rejects_waiting } = self.log;
        if !asked {
            return "could not be asked, and cannot be searched".to_owned();
        }
        if (rows_waiting, rejects_waiting) == (0, 0) {
            return "no row waits in it".to_owned();
        }
        let rows = counted(rows_waiting, "row", "rows");
        let rejects = counted(rejects_waiting, "reject", "rejects");
        format!(
            "{rows} and {rejects} wait in it, and cannot be searched: run this again when they are loaded, which may be as \
             long as batch.max_batch_age and a load from now"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sought::tests::sought;

    fn report(apply: bool) -> Report {
        let mut report = Report::new(DateTime::UNIX_EPOCH, &sought(&["jane-7", "joe-9"]), apply);
        for place in [&mut report.table, &mut report.archive, &mut report.quarantine, &mut report.rejects] {
            place.searched = true;
        }
        report
    }

    #[test]
    fn it_says_how_many_values_and_never_which() {
        let mut report = report(true);
        report.archive.found(3);
        report.archive.removed(3);
        report.archive.left_overs = 1;
        report.end();
        let (text, json) = (report.text(), serde_json::to_string(&report).unwrap());
        assert!(text.contains("column      mcvisid, 2 values\n"), "{text}");
        assert!(
            text.contains("archive     3 rows in 1 file, 3 removed; 1 object left over, 0 removed\n"),
            "{text}"
        );
        assert!(text.ends_with("All that was found is removed.\n"), "{text}");
        assert!(!text.contains("jane") && !json.contains("jane"), "{text}{json}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn it_ends_with_what_to_do_next() {
        let ends = |report: &Report, said: &str| assert!(report.text().ends_with(said), "{}", report.text());
        ends(&report(false), "Nothing was found.\n");
        let mut dry = report(false);
        dry.table.rows_found = 2;
        ends(&dry, "give --yes to remove what was found.\n");
        let mut waits = report(true);
        waits.in_the_way.push(InTheWay { batch: BatchId::new(), rows: 1, why: "not loaded".to_owned() });
        ends(&waits, "run it again when these batches are loaded and archived.\n");
        let mut left = report(true);
        left.rejects.left("k".to_owned(), "why".to_owned());
        left.end();
        ends(&left, "see above, then run it again.\n");
        left.stopped = Some("S3 is away".to_owned());
        ends(&left, "it goes on where it stopped.\n");
    }
}
