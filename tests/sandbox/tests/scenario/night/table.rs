//! The table of a night: what each view showed of each outage, and after how many seconds.

use std::time::Duration;

use state::alerts::rules;

use crate::night::views::{Outage, Times, ToldBy};
use crate::watched::IN_TIME;

const HEAD: [&str; 7] = ["outage", "page's data", "page", "watch", "dump", "alert told", "alert resolved"];

/// What was seen of an outage.
pub(super) struct Row {
    name: &'static str,
    told_by: ToldBy,
    begun: Times,
    ended: Times,
}

impl Row {
    pub(super) fn new(outage: &Outage, begun: Times, ended: Times) -> Self {
        Self { name: outage.name, told_by: outage.told_by, begun, ended }
    }

    fn cells(&self) -> [String; 7] {
        let Self { begun, ended, .. } = self;
        let both = |begun, ended| format!("{} / {}", seconds(begun), seconds(ended));
        let (told, resolved) = match self.told_by {
            ToldBy::Alerts(names) => {
                (format!("{} {}", seconds(begun.told), names.join(", ")), seconds(ended.told))
            }
            ToldBy::Heartbeat(_) => {
                let silent =
                    if begun.told.is_some() { "the heartbeat stops" } else { "the heartbeat goes on" };
                (silent.to_owned(), format!("{} it beats", seconds(ended.told)))
            }
            ToldBy::Nobody(why) => (why.to_owned(), "-".to_owned()),
        };
        [
            self.name.to_owned(),
            both(begun.data, ended.data),
            both(begun.page, ended.page),
            both(begun.watch, ended.watch),
            both(begun.dump, ended.dump),
            told,
            resolved,
        ]
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("NEVER".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}

/// Prints the table, and what it cannot show since it takes longer by design.
pub(super) fn print(rows: &[Row]) {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let width = |at: usize| {
        let all = cells.iter().map(|row| row[at].chars().count());
        all.chain([HEAD[at].chars().count()]).max().unwrap_or_default()
    };
    let line = |row: [&str; 7]| {
        let padded = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at)));
        padded.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
    };
    println!("\nseconds from the cause until it is shown / from its end until it is not\n");
    println!("{}", line(HEAD));
    println!("{}", (0..7).map(|at| "-".repeat(width(at))).collect::<Vec<_>>().join("-|-"));
    for row in &cells {
        println!("{}", line(row.each_ref().map(String::as_str)));
    }
    println!("\nlater than a minute by design, so in no row:");
    for (service, about) in rules::all() {
        let Some(level) = about.levels.first() else { continue };
        let counts_seconds = about.figures.iter().any(|figure| figure.contains("_seconds"));
        let held = if counts_seconds { Duration::from_secs_f64(level.above) } else { level.hold };
        if held > IN_TIME {
            println!("  {:24} {service} {}: after {}", about.name, about.says, shared::human::duration(held));
        }
    }
    println!();
}

/// Every view has named every outage, and has stopped to, each within a minute.
#[track_caller]
pub(super) fn assert_in_time(rows: &[Row]) {
    let is_late = |row: &&Row| !row.begun.are_within(IN_TIME) || !row.ended.are_within(IN_TIME);
    let late: Vec<_> = rows.iter().filter(is_late).map(|row| row.name).collect();
    assert!(late.is_empty(), "not shown, or not over, within {IN_TIME:?}: {late:?}; see the table");
}
