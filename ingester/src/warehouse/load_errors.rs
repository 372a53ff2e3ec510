//! Why Redshift refused the rows of a batch: the first line of its table of load errors for the batch's folder.

use shared::ids::BatchId;
use shared::sql::literal;

use super::session::{Rows, Session};
use super::statements::Target;

/// The first refused line of `batch`, for people; None when Redshift does not tell. Ordinary users see their own
/// loads. Provisioned clusters have `stl_load_errors`, serverless ones `sys_load_error_detail` only.
pub async fn first(session: &Session, target: &Target, batch: BatchId) -> Option<String> {
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
        text(reason),
        text(code)
    ))
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
}
