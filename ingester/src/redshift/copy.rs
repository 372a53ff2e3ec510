//! The COPY of a transaction, and why a transaction did not come to its COMMIT.

use crate::failure::LoadFailure;
use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::server::{COPY_ID, Server};

/// Why a transaction had no effect, as far as is known.
#[derive(Debug)]
pub(super) enum TransactionFailure {
    /// Redshift refused a statement, or did not answer; and what the statement was for.
    Sql(SqlFailure, &'static str),
    /// COPY counted other rows than it should.
    Count {
        copied: String,
        /// The COPY, if the server tells.
        query: Option<i64>,
    },
    /// The transaction did not begin, or must not be committed.
    Load(LoadFailure),
}

impl From<LoadFailure> for TransactionFailure {
    fn from(failure: LoadFailure) -> Self {
        Self::Load(failure)
    }
}

/// Runs a statement; `doing` is what it is for.
pub(super) async fn run(
    server: &impl Server,
    sql: &str,
    doing: &'static str,
) -> Result<Rows, TransactionFailure> {
    server.run(sql).await.map_err(|failure| TransactionFailure::Sql(failure, doing))
}

/// Runs a COPY that must find so many rows. Returns its id, if the server tells.
pub(super) async fn copy(
    server: &impl Server,
    sql: &str,
    rows: u64,
) -> Result<Option<i64>, TransactionFailure> {
    run(server, sql, "COPY").await?;
    let counted = run(server, "SELECT pg_last_copy_count()", "counting").await?;
    let copied = counted.single().unwrap_or("no count of").trim().to_owned();
    let query = if server.tells_copy_id() {
        run(server, COPY_ID, "asking for the query id").await?.single().and_then(|id| id.parse().ok())
    } else {
        None
    };
    if copied.parse() == Ok(rows) { Ok(query) } else { Err(TransactionFailure::Count { copied, query }) }
}
