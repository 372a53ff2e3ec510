//! The bad-row search: which rows Redshift refuses. It loads nothing.
//!
//! One NOLOAD with MAXERROR over all files names every refused line in the tables of load errors. The search finds what
//! they cannot tell by trying: a line that may be either of two rows (it is not documented whether Redshift counts rows,
//! or lines of the file), by each of the two alone; and when the tables cannot be read, or name nothing, by halving the
//! files and then the rows until single ones are refused. It ends when a try of all that is left is not refused.

use std::collections::BTreeMap;

use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::load_errors::Report;
use crate::redshift::redact;

use super::csv::value;
use super::reports::{Counting, located};
use super::row_files::{RowFiles, RowRange};
use super::set::{MAX_BYTES, Refusal};
use super::trial::{How, RefusedTrial, Trials, Warehouse, Why};

/// Tries of one search at most. With readable tables of load errors a handful is enough.
const MAX_TRIES: u32 = 3_000;

pub(crate) struct BadRowSearch<'a> {
    trials: Trials<'a>,
    files: RowFiles,
    /// The largest share that may be refused; None: all may.
    max_share: Option<f64>,
    refused: BTreeMap<(usize, usize), Why>,
    /// Once one line has shown it, it holds for all.
    counting: Option<Counting>,
}

impl<'a> BadRowSearch<'a> {
    pub(crate) fn new(warehouse: Warehouse<'a>, files: RowFiles, max_share: Option<f64>) -> Self {
        let trials = Trials::new(warehouse);
        Self { trials, files, max_share, refused: BTreeMap::new(), counting: None }
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.len() as u64
    }

    /// Tries what is left until nothing of it is refused. Fails when more is refused than may be, or it cannot be found.
    pub(crate) async fn search(&mut self, how: How) -> Result<(), LoadFailure> {
        let mut groups = vec![self.files.all()];
        while let Some(group) = groups.pop() {
            while let Some(refused) = self.attempt(&group, how).await? {
                let named = self.note_named(&refused.reports, &group, how).await?;
                if !named {
                    let halves = self.halves(&group);
                    if let [single] = halves.as_slice()
                        && let Some(row) = single.first()
                    {
                        self.refused.insert((row.file, row.rows.start), refused.why());
                    } else {
                        groups.extend(halves);
                    }
                }
                self.check_share()?;
                if !named {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes objects that hold all rows that are not refused: key of their manifest.
    pub(crate) async fn good_rows(&mut self) -> Result<String, LoadFailure> {
        let placed = self.place(&self.files.all()).await?;
        self.manifest(&placed).await
    }

    pub(crate) async fn bad_rows(&mut self) -> Result<(Vec<u8>, Vec<Refusal>), LoadFailure> {
        let (mut bytes, mut refusals) = (Vec::new(), Vec::new());
        let columns = &self.trials.warehouse.target.columns;
        for ((file, number), why) in &self.refused {
            let (line, row) = self.files.row(*file, *number).await?;
            let position = why.column.as_ref().and_then(|name| columns.iter().position(|one| one == name));
            let value = position.and_then(|position| value(&row, position));
            bytes.extend_from_slice(&row);
            if !row.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            if bytes.len() as u64 > MAX_BYTES {
                return Err(
                    self.waits_whole(&format!("the rows Redshift refuses take more than {MAX_BYTES} bytes"))
                );
            }
            let (file, row) = (self.files.name(*file).to_owned(), *number as u64 + 1);
            let Why { column, code, reason } = why.clone();
            refusals.push(Refusal { file, row, line, column, value, code, reason });
        }
        Ok((bytes, refusals))
    }

    fn check_share(&self) -> Result<(), LoadFailure> {
        let (Some(max_share), rows) = (self.max_share, self.files.count()) else { return Ok(()) };
        let refused = self.refused();
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let too_many = refused as f64 > rows as f64 * max_share;
        if refused < rows && !too_many {
            return Ok(());
        }
        let percent = max_share * 100.0;
        Err(self.waits_whole(&format!(
            "Redshift refuses {refused} or more of {rows} rows, quarantine.max_share is {percent} %"
        )))
    }

    /// The failure of a batch that waits whole, with the first row that is known to be refused.
    fn waits_whole(&self, why: &str) -> LoadFailure {
        let first = self.refused.first_key_value().map(|((file, row), why)| {
            let (file, row) = (self.files.name(*file), row + 1);
            let column = why.column.as_deref().unwrap_or("?");
            let code = why.code.map_or_else(String::new, |code| format!(" (code {code})"));
            format!(
                "; first refused: {file} row {row}, column {column}: {}{code}",
                redact::reason(&why.reason)
            )
        });
        let why = format!("{why}{}", first.unwrap_or_default());
        let advice =
            "correct the schema, or alter the table so that its rows fit; the batch is tried again by itself";
        LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Data, why) }
    }

    /// The rows of a range that are not known to be refused.
    fn left(&self, range: &RowRange) -> Vec<usize> {
        range.rows.clone().filter(|row| !self.refused.contains_key(&(range.file, *row))).collect()
    }

    /// The objects that hold what is left of a group, each with its file; they are written where a file is not whole.
    async fn place(&mut self, group: &[RowRange]) -> Result<Vec<(usize, String)>, LoadFailure> {
        let mut placed = Vec::with_capacity(group.len());
        for range in group {
            let file = range.file;
            let untouched = self.refused.range((file, 0)..(file + 1, 0)).next().is_none();
            if untouched && self.files.is_whole(range) {
                placed.push((file, self.files.key(file).to_owned()));
                continue;
            }
            let left = self.left(range);
            if !left.is_empty() {
                placed.push((file, self.files.put(file, &left).await?));
            }
        }
        Ok(placed)
    }

    async fn manifest(&mut self, placed: &[(usize, String)]) -> Result<String, LoadFailure> {
        let keys: Vec<&str> = placed.iter().map(|(_, key)| key.as_str()).collect();
        self.files.manifest(&keys).await
    }

    /// Tries a group; None if nothing of it is refused.
    async fn attempt(&mut self, group: &[RowRange], how: How) -> Result<Option<RefusedTrial>, LoadFailure> {
        let placed = self.place(group).await?;
        if placed.is_empty() {
            return Ok(None);
        }
        if self.trials.count >= MAX_TRIES {
            let found = self.refused();
            return Err(self.waits_whole(&format!(
                "{MAX_TRIES} tries found {found} refused rows and not all: let redshift.user read \
                 sys_load_error_detail or stl_load_errors"
            )));
        }
        let manifest = self.manifest(&placed).await?;
        self.trials.run(how, &manifest, self.files.compression, &placed).await
    }

    /// Notes the rows that are named, as far as they are certain; false if there are none.
    async fn note_named(
        &mut self,
        reports: &[(usize, Report)],
        group: &[RowRange],
        how: How,
    ) -> Result<bool, LoadFailure> {
        let known = self.refused.len();
        for range in group {
            let reports: Vec<_> = reports.iter().filter(|(file, _)| *file == range.file).collect();
            if reports.is_empty() {
                continue;
            }
            // As they stood in the object that was tried.
            let left = self.left(range);
            let ends = self.files.last_lines(range.file, &left).await?;
            for (_, report) in reports {
                let (line, row) = located(&ends, report.line);
                let line = line.and_then(|at| left.get(at).copied());
                let row = row.and_then(|at| left.get(at).copied());
                self.note(range.file, line, row, report, how).await?;
            }
        }
        Ok(self.refused.len() > known)
    }

    /// Notes the one of two rows that a report is about: that of the line, if lines are counted, or that of the row.
    async fn note(
        &mut self,
        file: usize,
        line: Option<usize>,
        row: Option<usize>,
        report: &Report,
        how: How,
    ) -> Result<(), LoadFailure> {
        let certain = match (line, row, self.counting) {
            (Some(line), Some(row), _) if line == row => Some(line),
            (_, row, Some(Counting::Rows)) => row,
            (line, _, Some(Counting::Lines)) => line,
            // Beyond the number of rows: lines are counted.
            (line, None, None) => {
                self.counting = line.map(|_| Counting::Lines);
                line
            }
            (Some(line), Some(row), None) => {
                let (by_line, by_row) =
                    (self.alone(file, line, how).await?, self.alone(file, row, how).await?);
                match (&by_line, &by_row) {
                    (Some(_), None) => self.counting = Some(Counting::Lines),
                    (None, Some(_)) => self.counting = Some(Counting::Rows),
                    _ => {}
                }
                self.refused.extend(by_line.map(|why| ((file, line), why)));
                self.refused.extend(by_row.map(|why| ((file, row), why)));
                None
            }
            (None, Some(_), None) => None,
        };
        if let Some(certain) = certain {
            self.refused.entry((file, certain)).or_insert_with(|| report.into());
        }
        Ok(())
    }

    async fn alone(&mut self, file: usize, row: usize, how: How) -> Result<Option<Why>, LoadFailure> {
        let refused = self.attempt(&[RowRange { file, rows: row..row + 1 }], how).await?;
        Ok(refused.map(|refused| refused.why()))
    }

    /// Two halves of a group with about the same number of files, or rows; a single row alone.
    fn halves(&self, group: &[RowRange]) -> Vec<Vec<RowRange>> {
        let [range] = group else {
            let (first, second) = group.split_at(group.len() / 2);
            return vec![first.to_vec(), second.to_vec()];
        };
        let part = |rows| vec![RowRange { file: range.file, rows }];
        match self.left(range).as_slice() {
            [] => Vec::new(),
            [row] => vec![part(*row..row + 1)],
            rows => {
                let middle = rows.get(rows.len() / 2).copied().unwrap_or(range.rows.end);
                vec![part(range.rows.start..middle), part(middle..range.rows.end)]
            }
        }
    }
}
