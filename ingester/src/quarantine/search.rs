//! Which rows Redshift refuses. Nothing is loaded: rows are tried with `COPY … NOLOAD`, or with a COPY in a transaction
//! that is rolled back.
//!
//! One NOLOAD with MAXERROR over all files names every refused line in the tables of load errors. What they cannot
//! tell is found by trying: a line that may be either of two rows (it is not documented whether Redshift counts rows,
//! or lines of the file), by each of the two alone; and when the tables cannot be read, or name nothing, by halving the
//! files and then the rows until single ones are refused. It ends when a try of all that is left is not refused.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::redshift::said;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::quarantine::set::Refusal;
use crate::quarantine::split::{located, value};
use crate::quarantine::{pieces, pieces::Pieces};
use crate::redshift::load_errors::{Before, FILE_BYTES, Report};
use crate::redshift::{Session, SqlFailure, Target, errors};

/// Tries of one search at most. With readable tables of load errors a handful is enough.
const MAX_TRIES: u32 = 3_000;
/// Waits for tables that lag behind.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1)];

/// How rows are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// With NOLOAD: cheap, and looks at the form of values only.
    NoLoad,
    /// With a COPY that is rolled back: refuses what a load refuses.
    RolledBack,
}

/// Some rows of a file, by their numbers from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Number of the file.
    pub file: usize,
    /// The rows, of which those that were refused are left out.
    pub rows: Range<usize>,
}

/// Why a row is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    column: Option<String>,
    code: Option<u32>,
    reason: String,
}

/// A try that was refused.
struct Found {
    /// With the number of the file each is about.
    reports: Vec<(usize, Report)>,
    said: String,
}

impl Found {
    fn why(&self) -> Why {
        match self.reports.first() {
            Some((_, report)) => Why::of(report),
            None => Why { column: None, code: None, reason: self.said.clone() },
        }
    }
}

impl Why {
    fn of(report: &Report) -> Self {
        Self { column: report.column.clone(), code: report.code, reason: report.reason.clone() }
    }
}

/// What `line_number` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    Lines,
    Rows,
}

/// A search.
pub(crate) struct Sift<'a> {
    session: &'a Session,
    target: &'a Target,
    pieces: Pieces,
    /// The largest share that may be refused; None: all may.
    max_share: Option<f64>,
    refused: BTreeMap<(usize, usize), Why>,
    /// Once one line has shown it, it holds for all.
    counting: Option<Counting>,
    tries: u32,
    /// Waits for the tables that brought nothing.
    in_vain: u32,
}

impl<'a> Sift<'a> {
    /// A search that has found nothing yet.
    #[must_use]
    pub(crate) fn new(
        session: &'a Session,
        target: &'a Target,
        pieces: Pieces,
        max_share: Option<f64>,
    ) -> Self {
        let refused = BTreeMap::new();
        Self { session, target, pieces, max_share, refused, counting: None, tries: 0, in_vain: 0 }
    }

    /// Rows that were found to be refused.
    #[must_use]
    pub(crate) fn refused(&self) -> u64 {
        self.refused.len() as u64
    }

    /// Tries all that is left, and finds what is refused of it, until nothing is.
    ///
    /// # Errors
    /// When more is refused than may be, it cannot be found, or Redshift or S3 fail.
    pub(crate) async fn search(&mut self, how: How) -> Result<(), LoadFailure> {
        let mut groups = vec![self.pieces.all()];
        while let Some(group) = groups.pop() {
            while let Some(found) = self.attempt(&group, how).await? {
                let named = self.take(&found.reports, &group, how).await?;
                if named == 0 {
                    let halves = self.halves(&group);
                    if let [single] = halves.as_slice()
                        && let Some(piece) = single.first()
                    {
                        self.refused.insert((piece.file, piece.rows.start), found.why());
                    } else {
                        groups.extend(halves);
                    }
                }
                self.check()?;
                if named == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The objects that hold all rows that are not refused: key of their manifest.
    ///
    /// # Errors
    /// When S3 fails.
    pub(crate) async fn rest(&mut self) -> Result<String, LoadFailure> {
        let group = self.pieces.all();
        let keys = self.place(&group).await?.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
        self.pieces.manifest(&keys).await
    }

    /// The refused rows, and why each was.
    ///
    /// # Errors
    /// When S3 fails, or they are too many to be kept.
    pub(crate) async fn outcome(&mut self) -> Result<(Vec<u8>, Vec<Refusal>), LoadFailure> {
        let (mut bytes, mut refusals) = (Vec::new(), Vec::new());
        let refused: Vec<_> = self.refused.iter().map(|(at, why)| (*at, why.clone())).collect();
        for ((file, number), why) in refused {
            let (name, line, row) = self.pieces.row(file, number).await?;
            let position =
                why.column.as_ref().and_then(|name| self.target.columns.iter().position(|one| one == name));
            let value = position.and_then(|position| value(&row, position));
            bytes.extend_from_slice(&row);
            if !row.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            if bytes.len() as u64 > crate::quarantine::MAX_BYTES {
                let why = format!(
                    "the rows Redshift refuses take more than {} bytes",
                    crate::quarantine::MAX_BYTES
                );
                return Err(self.whole(&why));
            }
            let Why { column, code, reason } = why;
            refusals.push(Refusal { file: name, row: number as u64 + 1, line, column, value, code, reason });
        }
        Ok((bytes, refusals))
    }

    /// Whether more is refused than may be.
    fn check(&self) -> Result<(), LoadFailure> {
        let (Some(max_share), rows) = (self.max_share, self.pieces.rows()) else { return Ok(()) };
        let refused = self.refused();
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let too_many = refused as f64 > rows as f64 * max_share;
        if refused < rows && !too_many {
            return Ok(());
        }
        let percent = max_share * 100.0;
        Err(self.whole(&format!(
            "Redshift refuses {refused} or more of {rows} rows, quarantine.max_share is {percent} %"
        )))
    }

    /// The trouble of a batch that waits whole, with the first row that is known to be refused.
    fn whole(&self, why: &str) -> LoadFailure {
        let first = self.refused.first_key_value().map(|((file, row), why)| {
            let (file, row) = (self.pieces.name(*file), row + 1);
            let column = why.column.as_deref().unwrap_or("?");
            let code = why.code.map_or_else(String::new, |code| format!(" (code {code})"));
            format!("; first refused: {file} row {row}, column {column}: {}{code}", said::reason(&why.reason))
        });
        let why = format!("{why}{}", first.unwrap_or_default());
        let advice = "mend the table or the schema; it is tried again by itself";
        LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Data, why) }
    }

    fn kept(&self, piece: &Piece) -> Vec<usize> {
        piece.rows.clone().filter(|row| !self.refused.contains_key(&(piece.file, *row))).collect()
    }

    /// Brings the rows of a group to objects of their own, where they are not whole files: those with rows, and keys.
    async fn place(&mut self, group: &[Piece]) -> Result<Vec<(Piece, String)>, LoadFailure> {
        let mut placed = Vec::with_capacity(group.len());
        for piece in group {
            let none = self.refused.range((piece.file, 0)..(piece.file + 1, 0)).next().is_none();
            if none && self.pieces.is_whole(piece) {
                placed.push((piece.clone(), self.pieces.key(piece.file)));
                continue;
            }
            let kept = self.kept(piece);
            if !kept.is_empty() {
                placed.push((piece.clone(), self.pieces.put(piece.file, &kept).await?));
            }
        }
        Ok(placed)
    }

    /// Tries a group; None if nothing of it is refused.
    async fn attempt(&mut self, group: &[Piece], how: How) -> Result<Option<Found>, LoadFailure> {
        let placed = self.place(group).await?;
        if placed.is_empty() {
            return Ok(None);
        }
        self.tries += 1;
        if self.tries > MAX_TRIES {
            let found = self.refused();
            return Err(self.whole(&format!(
                "{MAX_TRIES} tries found {found} refused rows and not all: let redshift.user read \
                 sys_load_error_detail or stl_load_errors"
            )));
        }
        let keys: Vec<_> = placed.iter().map(|(_, key)| key.clone()).collect();
        let manifest = self.pieces.manifest(&keys).await?;
        let (session, compression) = (self.session, self.pieces.compression());
        let before = Before::look(session).await;
        let refused = match how {
            How::NoLoad if before.tells() => {
                let all = session.run(&self.target.find_refused(&manifest, compression)).await;
                refusal(all, "COPY … NOLOAD")?;
                // What an earlier try met may come to the tables as late as this, and names other objects.
                let reports = self.attributed(before.since(session).await, &placed);
                if !reports.is_empty() {
                    return Ok(Some(Found { reports, said: String::new() }));
                }
                refusal(session.run(&self.target.has_refused(&manifest, compression)).await, "COPY … NOLOAD")?
            }
            How::NoLoad => {
                refusal(session.run(&self.target.has_refused(&manifest, compression)).await, "COPY … NOLOAD")?
            }
            How::RolledBack => {
                refusal(session.run("BEGIN").await, "BEGIN")?;
                let copied = session.run(&self.target.copy(&manifest, compression)).await;
                session.roll_back().await;
                refusal(copied, "COPY, to be rolled back")?
            }
        };
        let Some(said) = refused else { return Ok(None) };
        let reports = self.late(&before).await;
        Ok(Some(Found { reports: self.attributed(reports, &placed), said }))
    }

    /// What the tables tell, which may lag behind.
    async fn late(&mut self, before: &Before) -> Vec<Report> {
        for wait in LATE {
            tokio::time::sleep(wait).await;
            let reports = before.since(self.session).await;
            if !reports.is_empty() || !before.tells() || self.in_vain >= 2 {
                return reports;
            }
        }
        self.in_vain += 1;
        Vec::new()
    }

    fn attributed(&self, reports: Vec<Report>, placed: &[(Piece, String)]) -> Vec<(usize, Report)> {
        let urls: Vec<_> =
            placed.iter().map(|(piece, key)| (piece.file, pieces::url(&self.target.bucket, key))).collect();
        attribute(reports, &urls)
    }

    /// Notes the rows that are named, as far as they are certain; how many they are.
    async fn take(
        &mut self,
        reports: &[(usize, Report)],
        group: &[Piece],
        how: How,
    ) -> Result<usize, LoadFailure> {
        let known = self.refused.len();
        for piece in group {
            let reports: Vec<_> = reports.iter().filter(|(file, _)| *file == piece.file).collect();
            if reports.is_empty() {
                continue;
            }
            // As they stood in the object that was tried.
            let kept = self.kept(piece);
            let ends = self.pieces.last_lines(piece.file, &kept).await?;
            for (_, report) in reports {
                let (line, row) = located(&ends, report.line);
                let line = line.and_then(|at| kept.get(at).copied());
                let row = row.and_then(|at| kept.get(at).copied());
                self.decide(piece.file, (line, row), report, how).await?;
            }
        }
        Ok(self.refused.len() - known)
    }

    /// Notes the one of two rows that a report is about.
    async fn decide(
        &mut self,
        file: usize,
        (line, row): (Option<usize>, Option<usize>),
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
            self.refused.entry((file, certain)).or_insert_with(|| Why::of(report));
        }
        Ok(())
    }

    /// Tries one row; why it is refused, if it is.
    async fn alone(&mut self, file: usize, row: usize, how: How) -> Result<Option<Why>, LoadFailure> {
        let found = self.attempt(&[Piece { file, rows: row..row + 1 }], how).await?;
        Ok(found.map(|found| found.why()))
    }

    /// Two halves of a group with the same number of files, or rows, about; a single row alone.
    fn halves(&self, group: &[Piece]) -> Vec<Vec<Piece>> {
        if let [piece] = group {
            let kept = self.kept(piece);
            let file = piece.file;
            return match kept.as_slice() {
                [] => Vec::new(),
                [row] => vec![vec![Piece { file, rows: *row..row + 1 }]],
                rows => {
                    let middle = rows.get(rows.len() / 2).copied().unwrap_or(piece.rows.end);
                    let half = |rows| vec![Piece { file, rows }];
                    vec![half(piece.rows.start..middle), half(middle..piece.rows.end)]
                }
            };
        }
        let (first, second) = group.split_at(group.len() / 2);
        vec![first.to_vec(), second.to_vec()]
    }
}

/// The message, if rows were refused; any other failure is trouble.
fn refusal<T>(answer: Result<T, SqlFailure>, doing: &str) -> Result<Option<String>, LoadFailure> {
    let Err(failure) = answer else { return Ok(None) };
    let trouble = errors::trouble(&failure, doing);
    if trouble.class == ErrorClass::Data { Ok(Some(trouble.why)) } else { Err(trouble) }
}

/// As the tables of load errors keep the name of a file.
fn cut(url: &str) -> &str {
    let mut end = url.len().min(FILE_BYTES);
    while !url.is_char_boundary(end) {
        end -= 1;
    }
    url.get(..end).unwrap_or(url).trim_end()
}

/// The reports about these files, each with the number of its file.
fn attribute(reports: Vec<Report>, urls: &[(usize, String)]) -> Vec<(usize, Report)> {
    let mut names = BTreeMap::<&str, Vec<usize>>::new();
    for (file, url) in urls {
        names.entry(cut(url)).or_default().push(*file);
    }
    let of = |report: Report| match names.get(cut(&report.file)).map(Vec::as_slice) {
        Some([file]) => Some((*file, report)),
        // Two names that are cut to the same one do not tell which file it is.
        _ => None,
    };
    reports.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(file: &str) -> Report {
        Report { file: file.to_owned(), line: 1, column: None, code: None, reason: String::new() }
    }

    #[test]
    fn a_report_is_attributed_to_a_file_even_by_a_name_that_is_cut() {
        let long = format!("s3://b/{}", "x".repeat(FILE_BYTES));
        let urls = [(3, format!("{long}/3.csv")), (5, "s3://b/5.csv".to_owned())];
        let reports =
            vec![report(&long[..FILE_BYTES]), report("s3://b/5.csv"), report("s3://b/elsewhere.csv")];
        let files = |urls: &[_]| {
            attribute(reports.clone(), urls).into_iter().map(|(file, _)| file).collect::<Vec<_>>()
        };
        assert_eq!(files(&urls), [3, 5]);
        let alike = [urls.to_vec(), vec![(4, format!("{long}/4.csv"))]].concat();
        assert_eq!(files(&alike), [5], "it may be either of two files");
    }
}
