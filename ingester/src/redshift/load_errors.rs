//! Reads from Redshift's tables of load errors why it refused rows: in short, the first line of a batch; in full, the lines
//! that one statement added.

use shared::ids::BatchId;

use crate::redshift::answer::Row;
use crate::redshift::redact;
use crate::redshift::server::{PID, Server, read_view};
use crate::redshift::session::Session;
use crate::redshift::sql::literal;
use crate::redshift::target::Target;

/// Bytes the tables keep of a file's name.
pub(crate) const FILE_BYTES: usize = 256;
/// Reports read at once. A later statement reports those beyond.
const AT_ONCE: usize = 20_000;

/// A table of load errors: its name and those of its columns.
struct Errors {
    table: &'static str,
    query: &'static str,
    session: &'static str,
    file: &'static str,
    time: &'static str,
    shown: &'static str,
}

/// Provisioned clusters have both, and the first may lack what ran elsewhere; serverless workgroups have the first only.
/// The first has longer reasons.
const TABLES: [Errors; 2] = [
    Errors {
        table: "sys_load_error_detail",
        query: "query_id",
        session: "session_id",
        file: "file_name",
        time: "start_time",
        shown: "TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message)",
    },
    Errors {
        table: "stl_load_errors",
        query: "query",
        session: "session",
        file: "filename",
        time: "starttime",
        shown: "TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason)",
    },
];

impl Errors {
    /// The first line below a folder, of the latest attempt. A batch's folder is its own, so a prefix of the file name
    /// finds its errors.
    fn first(&self, folder: &str) -> String {
        let Self { table, file, time, shown, .. } = self;
        format!(
            "SELECT {shown} FROM {table} WHERE {file} LIKE {} ORDER BY {time} DESC, {file}, line_number LIMIT 1",
            literal(&format!("{folder}%"))
        )
    }

    fn queries(&self, pid: &str) -> String {
        let Self { table, query, session, .. } = self;
        format!("SELECT DISTINCT {query} FROM {table} WHERE {session} = {pid}")
    }

    fn since(&self, pid: &str, before: &[String]) -> String {
        let Self { table, query, session, shown, .. } = self;
        let old = before.join(", ");
        let old = if old.is_empty() { old } else { format!(" AND {query} NOT IN ({old})") };
        format!("SELECT {shown} FROM {table} WHERE {session} = {pid}{old} LIMIT {AT_ONCE}")
    }
}

/// The first refused line of `batch`, for people; None when Redshift does not tell. Ordinary users see their own loads.
pub(super) async fn first(server: &impl Server, target: &Target, batch: BatchId) -> Option<String> {
    let folder = target.folder_url(batch);
    for errors in TABLES.iter().rev() {
        let rows = read_view(server, errors.table, &errors.first(&folder)).await;
        if let Some(reason) = rows.and_then(|rows| describe(&folder, rows.first())) {
            return Some(reason);
        }
    }
    None
}

fn describe(folder: &str, row: Row<'_>) -> Option<String> {
    let file = row.trimmed(0)?;
    let text = |column| row.trimmed(column).unwrap_or("?");
    Some(format!(
        "first refused: {} line {}, column {}: {} (code {})",
        file.strip_prefix(folder).unwrap_or(file),
        text(1),
        text(2),
        redact::reason(text(4)),
        text(3)
    ))
}

/// A refused line, as one of the tables has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// `s3://bucket/key`; cut at [`FILE_BYTES`].
    pub(crate) file: String,
    /// The line, from 1. Redshift does not document whether it counts rows or lines of the file.
    pub(crate) line: u64,
    /// None if no column is to blame.
    pub(crate) column: Option<String>,
    pub(crate) code: Option<u32>,
    pub(crate) reason: String,
}

/// What the tables had of a session before a statement, so that what they have after it is that statement's. So neither
/// clocks nor the order of query ids matter, nor another session that had the same process id last week.
#[derive(Debug)]
pub(crate) struct Before {
    pid: String,
    /// Queries of each table that were there; None if it cannot be read.
    queries: [Option<Vec<String>>; 2],
}

impl Before {
    pub(crate) async fn read(session: &Session) -> Self {
        let pid = session.run(PID).await.unwrap_or_default();
        let pid = pid.single().filter(|pid| pid.parse::<u64>().is_ok()).unwrap_or_default().to_owned();
        let mut queries = [None, None];
        if pid.is_empty() {
            return Self { pid, queries };
        }
        for (there, errors) in queries.iter_mut().zip(&TABLES) {
            let rows = read_view(session, errors.table, &errors.queries(&pid)).await;
            *there = rows.map(|rows| rows.first_column::<u64>().iter().map(u64::to_string).collect());
        }
        Self { pid, queries }
    }

    /// Whether any of the tables can be read.
    pub(crate) fn tells(&self) -> bool {
        self.queries.iter().any(Option::is_some)
    }

    /// What has come since: each refused line once.
    pub(crate) async fn since(&self, session: &Session) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        for (before, errors) in self.queries.iter().zip(&TABLES) {
            let Some(before) = before else { continue };
            let rows = read_view(session, errors.table, &errors.since(&self.pid, before)).await;
            reports.extend(rows.unwrap_or_default().read(report));
        }
        // Stable: of the two tables the first stays.
        reports.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        reports.dedup_by(|later, first| (&later.file, later.line) == (&first.file, first.line));
        reports
    }
}

fn report(row: Row<'_>) -> Option<Report> {
    let text = |column| row.trimmed(column).filter(|text| !text.is_empty());
    Some(Report {
        file: text(0)?.to_owned(),
        line: row.get(1)?,
        column: text(2).map(str::to_owned),
        code: row.get(3),
        reason: text(4).unwrap_or("Redshift gave no reason").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::answer::Rows;

    #[test]
    fn a_refused_line_is_told_with_file_line_column_and_reason() {
        let row = ["s3://b/f/0.csv.zst   ", "17", "evar1", "1204", "String length exceeds DDL length"];
        let rows = Rows(vec![row.map(|value| Some(value.to_owned())).to_vec()]);
        assert_eq!(
            rows.read(|row| describe("s3://b/f/", row)).pop().unwrap(),
            "first refused: 0.csv.zst line 17, column evar1: String length exceeds DDL length (code 1204)"
        );
        assert_eq!(describe("s3://b/f/", Rows::default().first()), None);
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
        let row = |cells: [&str; 5]| {
            Rows(vec![cells.map(|cell| Some(cell.to_owned())).to_vec()]).read(report).pop()
        };
        let found =
            row(["s3://b/0.csv   ", "17", "evar1     ", "1204", "String length exceeds DDL length  "]);
        let found = found.unwrap();
        assert_eq!((found.file.as_str(), found.line, found.code), ("s3://b/0.csv", 17, Some(1204)));
        assert_eq!((found.column.as_deref(), found.reason.len()), (Some("evar1"), 32));
        assert_eq!(row(["f", "1", "   ", "", " "]).unwrap().column, None);
        assert_eq!(row(["f", "x", "", "", ""]), None);
    }
}
