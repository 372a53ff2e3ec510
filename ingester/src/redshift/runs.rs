//! What the ledger has of each run, for people.

use chrono::{DateTime, Utc};
use shared::sql::literal;

use crate::redshift::ledger::moment as read_moment;
use crate::redshift::mark::MARK;
use crate::redshift::server::Server;
use crate::redshift::session::{Rows, SqlFailure};
use crate::redshift::statements::Target;

/// A run, or all batches that do not say theirs. `ingester ledger show --json` prints it as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RunRow {
    /// The run; None: batches of an earlier version, which did not tell.
    pub run: Option<String>,
    /// Its producer; of batches without a run the last one by name.
    pub instance: String,
    /// Its batches.
    pub batches: u64,
    /// Rows loaded of them.
    pub rows_loaded: u64,
    /// The highest number of a batch.
    pub last_number: Option<u64>,
    /// First time of its rows.
    pub first_received: Option<DateTime<Utc>>,
    /// Last time of its rows.
    pub last_received: Option<DateTime<Utc>>,
    /// When the last of its batches was loaded.
    pub last_loaded: Option<DateTime<Utc>>,
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
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub(crate) async fn runs(
    server: &impl Server,
    target: &Target,
    most: usize,
) -> Result<Vec<RunRow>, SqlFailure> {
    Ok(rows(&server.run(&target.count_runs(most)).await?))
}

fn rows(answer: &Rows) -> Vec<RunRow> {
    let one = |row: &Vec<Option<String>>| {
        let [run, instance, batches, rows, number, first, last, loaded] = row.as_slice() else { return None };
        let count = |cell: &Option<String>| cell.as_deref().and_then(|text| text.trim().parse::<u64>().ok());
        let time = |cell: &Option<String>| cell.as_deref().and_then(read_moment);
        Some(RunRow {
            run: run.as_deref().map(|run| run.trim().to_owned()),
            instance: instance.clone().unwrap_or_default(),
            batches: count(batches)?,
            rows_loaded: count(rows).unwrap_or_default(),
            last_number: count(number),
            first_received: time(first),
            last_received: time(last),
            last_loaded: time(loaded),
        })
    };
    answer.0.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::statements::tests::target;

    #[tokio::test]
    async fn a_run_is_told_whole_and_the_mark_is_none() {
        let time = "2026-01-02 03:04:05";
        let row: &[Option<&str>] =
            &[Some("r"), Some("web-1"), Some("3"), Some("60"), Some("9"), Some(time), Some(time), Some(time)];
        let old: &[Option<&str>] = &[None, None, Some("1"), None, None, None, None, None];
        let script = Script::default().answer("GROUP BY run", &[row, old]);
        let runs = runs(&script, &target(), 20).await.unwrap();
        assert_eq!((runs[0].batches, runs[0].rows_loaded, runs[0].last_number), (3, 60, Some(9)));
        assert_eq!((runs[1].run.as_ref(), runs[1].last_number, runs[1].last_received), (None, None, None));
        let sql = &script.sent()[0];
        assert!(sql.contains(&format!("WHERE batch_id <> '{MARK}' GROUP BY run")), "{sql}");
        assert!(sql.ends_with("LIMIT 20"), "{sql}");
    }
}
