//! How many lines a COPY read of each file: a log that outlives the transaction, so a row there proves no commit.

use tokio_postgres::Client;

use crate::errors::SqlError;

const STL: &str = "INSERT INTO standin.stl_load_commits VALUES
    (100, $1::text::int, 0, $2::text, $2::text, 0, $3::text::int, -1, now() AT TIME ZONE 'utc', 1, 'Text', 0, 0, -1)";
const SYS: &str = "INSERT INTO standin.sys_load_detail VALUES
    (100, $1::text::int, $2::text, 0, $3::text::int, now() AT TIME ZONE 'utc', 1, now() AT TIME ZONE 'utc',
     now() AT TIME ZONE 'utc', '', now() AT TIME ZONE 'utc')";

/// Writes them through a connection of its own, so that the client's ROLLBACK does not undo it. Every file is
/// read in two pieces, as a large one is by two slices.
pub(super) async fn record(
    admin: &Client,
    query: i64,
    pid: i32,
    files: &[(String, u64)],
    serverless: bool,
) -> Result<(), SqlError> {
    let query = query.to_string();
    for (file, lines) in files {
        let mut end = file.len().min(256);
        while !file.is_char_boundary(end) {
            end -= 1;
        }
        let name = &file[..end];
        for lines in [lines / 2, lines - lines / 2] {
            let lines = lines.to_string();
            if !serverless {
                let written = admin.execute(STL, &[&query, &name, &lines]).await;
                written.map_err(|error| SqlError::from_postgres(&error, pid))?;
            }
        }
        let lines = lines.to_string();
        let written = admin.execute(SYS, &[&query, &name, &lines]).await;
        written.map_err(|error| SqlError::from_postgres(&error, pid))?;
    }
    Ok(())
}
