//! The rows in the table, a day at a time.

use shared::exit::Failure;
use shared::human::counted;

use crate::commands::terminal::bar;
use crate::redshift::forget::{days, forget};

use super::report::{InTheWay, Left, Place, Report};
use super::task::Task;

/// Values that a statement names at most: Redshift makes an OR of each.
const VALUES: usize = 500;

impl Task<'_> {
    pub(super) async fn table(&self, place: &mut Place) -> Result<(), Failure> {
        place.searched = true;
        // A row has one value in the column: no two parts have it.
        for part in self.sought.parts(VALUES) {
            let found = days(self.session, self.target, &part).await?;
            let (rows, before) = (found.iter().map(|day| day.rows).sum::<u64>(), place.rows_removed);
            if self.apply {
                let bar = bar(found.len() as u64, "days of rows in the table");
                for day in found {
                    loop {
                        let forget = async || forget(self.session, self.target, &part, day).await;
                        match self.locked(forget).await? {
                            0 => break,
                            rows => place.rows_removed += rows,
                        }
                    }
                    bar.inc(1);
                }
                bar.finish_and_clear();
            }
            // Between the two a load may have brought more: they are found as well.
            place.rows_found += rows.max(place.rows_removed - before);
        }
        Ok(())
    }

    /// What came while this ran, and is to be forgotten by another run: rows in the table, and batches that wait.
    pub(super) async fn arrived(&self, report: &mut Report) -> Result<(), Failure> {
        let (waiting, _) = self.waiting().await?;
        for InTheWay { batch, rows, why } in waiting {
            let rows = counted(rows, "such row", "such rows");
            let why =
                format!("it came while this ran, with {rows} ({why}): run this again when it is archived");
            report.left.push(Left { what: format!("batch {batch}"), why });
        }
        let mut rest = 0;
        for part in self.sought.parts(VALUES) {
            rest += days(self.session, self.target, &part).await?.iter().map(|day| day.rows).sum::<u64>();
        }
        if rest > 0 {
            report.table.rows_found += rest;
            let why = format!(
                "{} there, of a load while this ran: run this again, its file is archived too",
                counted(rest, "such row is", "such rows are")
            );
            report.table.left(self.target.table.to_string(), why);
        }
        Ok(())
    }
}
