//! Which file made a COPY count other rows than were sealed, as Redshift's views of loads tell.
//!
//! They are asked after ROLLBACK: they are logs and no part of the transaction (a row there does not prove a commit),
//! the ledger is not kept locked for it, and on a cluster that lacks one of the views the refused statement would end
//! the transaction before the other could be asked. The id of the COPY is asked for before: it belongs to the
//! session, and Redshift does not promise it after a rollback.

use std::collections::HashMap;
use std::time::Duration;

use shared::ids::BatchId;
use shared::layout;

use crate::redshift::session::{Rows, Session};
use crate::redshift::statements::Target;
use crate::redshift::transaction::Part;

/// The views may lag behind.
const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// The batches of `parts` whose files COPY `query` read with fewer lines than they have rows, each with the file and
/// both numbers. Empty when the views do not tell.
pub(crate) async fn short(
    session: &Session,
    target: &Target,
    parts: &[Part],
    query: Option<i64>,
) -> Vec<(BatchId, String)> {
    let Some(query) = query else { return Vec::new() };
    let files: usize = parts.iter().map(|part| part.seal.files.len()).sum();
    let mut read = HashMap::new();
    for wait in LATE {
        tokio::time::sleep(wait).await;
        for sql in [provisioned(query), serverless(query)] {
            match session.run(&sql).await {
                Ok(rows) if rows.0.is_empty() => {}
                Ok(rows) => read = lines(&rows),
                Err(error) => tracing::debug!(%error, "counts of files cannot be read there"),
            }
        }
        if read.len() >= files {
            break;
        }
    }
    blame(target, parts, &read)
}

/// A large file may be read in several pieces.
fn provisioned(query: i64) -> String {
    format!(
        "SELECT TRIM(filename), SUM(lines_scanned) FROM stl_load_commits WHERE query = {query} GROUP BY filename"
    )
}

fn serverless(query: i64) -> String {
    format!(
        "SELECT TRIM(file_name), SUM(lines_scanned) FROM sys_load_detail WHERE query_id = {query} GROUP BY file_name"
    )
}

fn lines(rows: &Rows) -> HashMap<String, u64> {
    let pair = |row: &Vec<Option<String>>| {
        let [Some(file), Some(lines)] = row.as_slice() else { return None };
        Some((file.trim().to_owned(), lines.trim().parse().ok()?))
    };
    rows.0.iter().filter_map(pair).collect()
}

/// A row is one line or more, since a value may hold line ends: only too few lines prove anything. A file that the views
/// do not show (yet) proves nothing either.
fn blame(target: &Target, parts: &[Part], lines: &HashMap<String, u64>) -> Vec<(BatchId, String)> {
    let bucket = &target.bucket;
    let short = |part: &Part| {
        let batch = part.seal.batch;
        // What was taken out of a batch makes its files others than those of the seal.
        let files = part.seal.files.iter().filter(|_| part.quarantined == 0);
        let wrong: Vec<String> = files
            .filter_map(|file| {
                let url = format!("s3://{bucket}/{}{}", layout::folder(&target.to_ingest, batch), file.name);
                let read = *lines.get(&url)?;
                (read < file.rows).then(|| {
                    format!("{}: COPY read {read} lines, the seal says {} rows", file.name, file.rows)
                })
            })
            .collect();
        (!wrong.is_empty()).then(|| (batch, wrong.join("; ")))
    };
    parts.iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::statements::tests::target;

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
