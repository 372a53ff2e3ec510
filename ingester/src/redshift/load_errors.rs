//! Why Redshift refused rows: its tables of load errors. In short, the first line for a batch's folder; and in full,
//! what a statement added to them.

use crate::redshift::said;
use shared::ids::BatchId;
use shared::sql::literal;

use crate::redshift::session::{Rows, Session};
use crate::redshift::statements::Target;

/// The first refused line of `batch`, for people; None when Redshift does not tell. Ordinary users see their own
/// loads. Provisioned clusters have `stl_load_errors`, serverless ones `sys_load_error_detail` only.
pub(crate) async fn first(session: &Session, target: &Target, batch: BatchId) -> Option<String> {
    let folder = target.folder_url(batch);
    for sql in [provisioned(&folder), serverless(&folder)] {
        match session.run(&sql).await {
            Ok(rows) => {
                if let Some(reason) = describe(&folder, &rows) {
                    return Some(reason);
                }
            }
            Err(error) => tracing::debug!(%error, "load errors cannot be read there"),
        }
    }
    None
}

/// A batch's folder is its own, so a prefix of the file name finds its errors, of all attempts: the latest first.
fn provisioned(folder: &str) -> String {
    format!(
        "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
         WHERE filename LIKE {} ORDER BY starttime DESC, filename, line_number LIMIT 1",
        literal(&format!("{folder}%"))
    )
}

fn serverless(folder: &str) -> String {
    format!(
        "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) \
         FROM sys_load_error_detail WHERE file_name LIKE {} ORDER BY start_time DESC, file_name, line_number LIMIT 1",
        literal(&format!("{folder}%"))
    )
}

fn describe(folder: &str, rows: &Rows) -> Option<String> {
    let [Some(file), line, column, code, reason] = rows.0.first()?.as_slice() else { return None };
    let text = |value: &Option<String>| value.as_deref().unwrap_or("?").trim().to_owned();
    let file = file.trim();
    let file = file.strip_prefix(folder).unwrap_or(file);
    Some(format!(
        "first refused: {file} line {}, column {}: {} (code {})",
        text(line),
        text(column),
        said::reason(&text(reason)),
        text(code)
    ))
}

/// A refused line, as one of the tables has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// `s3://bucket/key`; cut at [`FILE_BYTES`].
    pub file: String,
    /// The line, from 1. It is not documented whether rows are counted or lines of the file.
    pub line: u64,
    /// The column, if one is to blame.
    pub column: Option<String>,
    /// Redshift's code.
    pub code: Option<u32>,
    /// Redshift's reason.
    pub reason: String,
}

/// Bytes the tables keep of a file's name.
pub(crate) const FILE_BYTES: usize = 256;
/// Reports read at once. Those beyond come with the next look.
const AT_ONCE: usize = 20_000;

/// A table of load errors: its name and those of its columns.
struct Errors {
    table: &'static str,
    query: &'static str,
    session: &'static str,
    shown: &'static str,
}

/// Provisioned clusters have both, and the first may lack what ran elsewhere; serverless workgroups have the second
/// only. The second has longer reasons.
const TABLES: [Errors; 2] = [
    Errors {
        table: "sys_load_error_detail",
        query: "query_id",
        session: "session_id",
        shown: "TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message)",
    },
    Errors {
        table: "stl_load_errors",
        query: "query",
        session: "session",
        shown: "TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason)",
    },
];

/// What the tables had of a session before a statement, so that what they have after it is that statement's. Neither
/// clocks nor the order of query ids matter, nor that another session had the same process id last week.
#[derive(Debug)]
pub(crate) struct Before {
    pid: String,
    /// Queries of each table that were there; None if it cannot be read.
    queries: [Option<Vec<String>>; 2],
}

impl Before {
    /// Looks at what is there now.
    pub(crate) async fn look(session: &Session) -> Self {
        // Alone: it is a function of the leader, which does not go with the tables.
        let pid = session.run("SELECT pg_backend_pid()").await.unwrap_or_default();
        let pid = pid.single().filter(|pid| pid.parse::<u64>().is_ok()).unwrap_or_default().to_owned();
        let mut queries = [None, None];
        if pid.is_empty() {
            return Self { pid, queries };
        }
        for (there, errors) in queries.iter_mut().zip(&TABLES) {
            *there = match session.run(&errors.queries(&pid)).await {
                Ok(rows) => Some(rows.first_column::<u64>().iter().map(u64::to_string).collect()),
                Err(error) => {
                    tracing::debug!(%error, table = errors.table, "load errors cannot be read there");
                    None
                }
            };
        }
        Self { pid, queries }
    }

    /// Whether any of the tables can be read.
    #[must_use]
    pub(crate) fn tells(&self) -> bool {
        self.queries.iter().any(Option::is_some)
    }

    /// What has come since: each refused line once.
    pub(crate) async fn since(&self, session: &Session) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        for (before, errors) in self.queries.iter().zip(&TABLES) {
            let Some(before) = before else { continue };
            match session.run(&errors.since(&self.pid, before)).await {
                Ok(rows) => reports.extend(rows.0.into_iter().filter_map(report)),
                Err(error) => tracing::debug!(%error, table = errors.table, "load errors cannot be read"),
            }
        }
        // Stable: of the two tables the first stays.
        reports.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        reports.dedup_by(|later, first| (&later.file, later.line) == (&first.file, first.line));
        reports
    }
}

impl Errors {
    fn queries(&self, pid: &str) -> String {
        let Self { table, query, session, .. } = self;
        format!("SELECT DISTINCT {query} FROM {table} WHERE {session} = {pid}")
    }

    fn since(&self, pid: &str, before: &[String]) -> String {
        let Self { table, query, session, shown } = self;
        let old = if before.is_empty() {
            String::new()
        } else {
            format!(" AND {query} NOT IN ({})", before.join(", "))
        };
        format!("SELECT {shown} FROM {table} WHERE {session} = {pid}{old} LIMIT {AT_ONCE}")
    }
}

/// Texts are padded with blanks to the width of their column.
fn report(row: Vec<Option<String>>) -> Option<Report> {
    let [file, line, column, code, reason] = <[_; 5]>::try_from(row).ok()?;
    let text =
        |value: Option<String>| value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let code = text(code).and_then(|code| code.parse().ok());
    let reason = text(reason).unwrap_or_else(|| "Redshift gave no reason".to_owned());
    Some(Report { file: text(file)?, line: text(line)?.parse().ok()?, column: text(column), code, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_line_is_told_with_file_line_column_and_reason() {
        let row = ["s3://b/f/0.csv.zst   ", "17", "evar1", "1204", "String length exceeds DDL length"];
        let rows = Rows(vec![row.map(|value| Some(value.to_owned())).to_vec()]);
        assert_eq!(
            describe("s3://b/f/", &rows).unwrap(),
            "first refused: 0.csv.zst line 17, column evar1: String length exceeds DDL length (code 1204)"
        );
        assert_eq!(describe("s3://b/f/", &Rows::default()), None);
    }

    #[test]
    fn only_what_came_since_is_asked_for() {
        let [sys, stl] = &TABLES;
        assert!(stl.since("7", &[]).ends_with("FROM stl_load_errors WHERE session = 7 LIMIT 20000"));
        let since = sys.since("7", &["1".to_owned(), "2".to_owned()]);
        assert!(since.contains("WHERE session_id = 7 AND query_id NOT IN (1, 2) LIMIT"), "{since}");
    }

    #[test]
    fn padding_is_no_part_of_a_report() {
        let row = |cells: [&str; 5]| report(cells.map(|cell| Some(cell.to_owned())).to_vec());
        let found =
            row(["s3://b/0.csv   ", "17", "evar1     ", "1204", "String length exceeds DDL length  "]);
        let found = found.unwrap();
        assert_eq!((found.file.as_str(), found.line, found.code), ("s3://b/0.csv", 17, Some(1204)));
        assert_eq!((found.column.as_deref(), found.reason.len()), (Some("evar1"), 32));
        assert_eq!(row(["f", "1", "   ", "", " "]).unwrap().column, None);
        assert_eq!(row(["f", "x", "", "", ""]), None);
    }
}
