//! Finds the file that made a COPY count fewer rows than were sealed, from Redshift's views of loads.
//!
//! The views are read after ROLLBACK: they are logs and no part of the transaction (a row there does not prove a commit),
//! the ledger is not kept locked for it, and on a cluster that lacks one of the views the refused statement would end
//! the transaction before the other could be read. The id of the COPY is read before: it belongs to the session, and
//! Redshift does not promise it after a rollback.

use std::collections::HashMap;
use std::time::Duration;

use shared::ids::BatchId;

use crate::redshift::answer::Rows;
use crate::redshift::loading::Part;
use crate::redshift::server::{Server, read_view};
use crate::redshift::target::Target;

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

fn lines(rows: &Rows) -> HashMap<String, u64> {
    rows.read(|row| Some((row.trimmed(0)?.to_owned(), row.get(1)?))).into_iter().collect()
}

/// A row is one line or more, since a value may hold line ends: only too few lines prove anything. A file that the views
/// do not show (yet) proves nothing either.
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
