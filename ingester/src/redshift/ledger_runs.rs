//! The runs of the ledger, for people.

use chrono::{DateTime, Utc};

use crate::redshift::answer::{Row, SqlFailure};
use crate::redshift::server::Server;
use crate::redshift::sql::literal;
use crate::redshift::target::{MARK, Target};

/// A run, or all batches that name none. `ingester ledger show --json` prints it as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RunRow {
    /// None for the batches of an earlier version, which do not name their run.
    pub(crate) run: Option<String>,
    /// Its producer; of batches without a run the last one by name.
    pub(crate) instance: String,
    pub(crate) batches: u64,
    pub(crate) rows_loaded: u64,
    /// The highest number of a batch.
    pub(crate) last_number: Option<u64>,
    /// First time of its rows.
    pub(crate) first_received: Option<DateTime<Utc>>,
    /// Last time of its rows.
    pub(crate) last_received: Option<DateTime<Utc>>,
    /// When the last of its batches was loaded.
    pub(crate) last_loaded: Option<DateTime<Utc>>,
}

impl Target {
    fn count_runs(&self, most: usize) -> String {
        format!(
            "SELECT run, max(instance), count(*), sum(rows_loaded), max(batch_number), min(first_received), \
             max(last_received), max(loaded_at) FROM {} WHERE batch_id <> {} GROUP BY run \
             ORDER BY max(loaded_at) DESC LIMIT {most}",
            self.ledger,
            literal(MARK)
        )
    }
}

/// The runs of the ledger, the latest first, up to so many.
pub(crate) async fn fetch(
    server: &impl Server,
    target: &Target,
    most: usize,
) -> Result<Vec<RunRow>, SqlFailure> {
    Ok(server.run(&target.count_runs(most)).await?.read(run))
}

fn run(row: Row<'_>) -> Option<RunRow> {
    Some(RunRow {
        run: row.trimmed(0).map(str::to_owned),
        instance: row.text(1).unwrap_or_default().to_owned(),
        batches: row.get(2)?,
        rows_loaded: row.get(3).unwrap_or_default(),
        last_number: row.get(4),
        first_received: row.time(5),
        last_received: row.time(6),
        last_loaded: row.time(7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    #[tokio::test]
    async fn a_run_is_told_whole_and_the_mark_is_none() {
        let time = "2026-01-02 03:04:05";
        let row: &[Option<&str>] =
            &[Some("r"), Some("web-1"), Some("3"), Some("60"), Some("9"), Some(time), Some(time), Some(time)];
        let old: &[Option<&str>] = &[None, None, Some("1"), None, None, None, None, None];
        let script = Script::default().answer("GROUP BY run", &[row, old]);
        let runs = fetch(&script, &target(), 20).await.unwrap();
        assert_eq!((runs[0].batches, runs[0].rows_loaded, runs[0].last_number), (3, 60, Some(9)));
        assert_eq!((runs[1].run.as_ref(), runs[1].last_number, runs[1].last_received), (None, None, None));
        let sql = &script.sent()[0];
        assert!(sql.contains(&format!("WHERE batch_id <> '{MARK}' GROUP BY run")), "{sql}");
        assert!(sql.ends_with("LIMIT 20"), "{sql}");
    }
}
