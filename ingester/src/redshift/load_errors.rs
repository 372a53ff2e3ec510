//! Reads what Redshift says of loads that failed. From its tables of load errors, why it refused rows: in short, the
//! first line of a batch; in full, the lines that one statement added. From its views of loads, which file made a COPY
//! count fewer rows than were sealed.
//!
//! The views are read after ROLLBACK: they are logs and no part of the transaction (a row there does not prove a commit),
//! the ledger is not kept locked for it, and on a cluster that lacks one of the views the refused statement would end
//! the transaction before the other could be read. The id of the COPY is read before: it belongs to the session, and
//! Redshift does not promise it after a rollback.

use std::collections::HashMap;
use std::time::Duration;

use shared::ids::BatchId;

use crate::redshift::answer::{Row, Rows};
use crate::redshift::loading::Part;
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

/// Provisioned clusters have both: the first has longer reasons, but may lack what ran elsewhere. Serverless workgroups
/// have the first only.
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
    /// The first line of the latest attempt. A batch's folder is its own, so a prefix of the file name finds its errors.
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

pub(crate) fn describe(folder: &str, row: Row<'_>) -> Option<String> {
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

/// What the tables had of a session before a statement: what comes later is that statement's. So neither clocks nor the
/// order of query ids matter, nor another session that had the same process id last week.
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

pub(crate) fn report(row: Row<'_>) -> Option<Report> {
    let text = |column| row.trimmed(column).filter(|text| !text.is_empty());
    Some(Report {
        file: text(0)?.to_owned(),
        line: row.get(1)?,
        column: text(2).map(str::to_owned),
        code: row.get(3),
        reason: text(4).unwrap_or("Redshift gave no reason").to_owned(),
    })
}

/// The view of provisioned clusters and that of serverless workgroups, with their columns of the file and the COPY.
const VIEWS: [(&str, &str, &str); 2] =
    [("stl_load_commits", "filename", "query"), ("sys_load_detail", "file_name", "query_id")];
/// The views may lag behind.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// The batches of `parts` whose files COPY `query` read with fewer lines than they have rows, each with the file and
/// both numbers. Empty when the views do not tell.
pub(super) async fn short(
    server: &impl Server,
    target: &Target,
    parts: &[Part],
    query: Option<i64>,
) -> Vec<(BatchId, String)> {
    let Some(query) = query else { return Vec::new() };
    let files: usize = parts.iter().map(|part| part.seal.files.len()).sum();
    let mut read = HashMap::new();
    for wait in LATE {
        server.clock().sleep(wait).await;
        for (view, file, id) in VIEWS {
            // A large file may be read in several pieces.
            let sql = format!(
                "SELECT TRIM({file}), SUM(lines_scanned) FROM {view} WHERE {id} = {query} GROUP BY {file}"
            );
            if let Some(rows) = read_view(server, view, &sql).await.filter(|rows| !rows.0.is_empty()) {
                read = lines(&rows);
            }
        }
        if read.len() >= files {
            break;
        }
    }
    blame(target, parts, &read)
}

pub(crate) fn lines(rows: &Rows) -> HashMap<String, u64> {
    rows.read(|row| Some((row.trimmed(0)?.to_owned(), row.get(1)?))).into_iter().collect()
}

/// A row is one line or more, since a value may hold line ends: only too few lines prove anything.
fn blame(target: &Target, parts: &[Part], lines: &HashMap<String, u64>) -> Vec<(BatchId, String)> {
    let short = |part: &Part| {
        let folder = target.folder_url(part.seal.batch);
        // Rows in quarantine were taken out of the files: these are others than those of the seal.
        let files = part.seal.files.iter().filter(|_| part.quarantined == 0);
        let wrong = files.filter_map(|file| {
            let read = *lines.get(&format!("{folder}{}", file.name))?;
            (read < file.rows)
                .then(|| format!("{}: COPY read {read} lines, the seal says {} rows", file.name, file.rows))
        });
        let wrong: Vec<String> = wrong.collect();
        (!wrong.is_empty()).then(|| (part.seal.batch, wrong.join("; ")))
    };
    parts.iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use shared::layout;

    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::target::tests::target;

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

    #[test]
    fn the_file_that_is_too_short_names_its_batch_and_more_lines_than_rows_prove_nothing() {
        let parts = [seal(), seal()].map(Part::whole);
        let folder = |n: usize| format!("s3://b/{}", layout::folder("ToIngest/", parts[n].seal.batch));
        let row = |file: String, lines: &str| vec![Some(format!("{file}   ")), Some(lines.to_owned())];
        let rows = Rows(vec![
            row(format!("{}0.csv.zst", folder(0)), "10"),
            row(format!("{}1.csv.zst", folder(0)), "12"),
            row(format!("{}0.csv.zst", folder(1)), "9"),
        ]);
        let blamed = blame(&target(), &parts, &lines(&rows));
        assert_eq!(blamed.len(), 1);
        assert_eq!(blamed[0].0, parts[1].seal.batch);
        assert_eq!(blamed[0].1, "0.csv.zst: COPY read 9 lines, the seal says 10 rows");
    }

    #[test]
    fn names_that_the_views_cut_off_or_do_not_show_blame_nobody() {
        let target = Target { to_ingest: "p".repeat(250) + "/", ..target() };
        let part = Part::whole(seal());
        assert!(blame(&target, &[part], &HashMap::from([("x".to_owned(), 1)])).is_empty());
    }
}
