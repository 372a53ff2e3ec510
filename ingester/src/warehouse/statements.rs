//! Every statement that is sent, as a function of plain values. All literals and identifiers pass through
//! `shared::sql`.

use chrono::{DateTime, Utc};
use shared::config::{Config, CopyOptions};
use shared::ddl::LEDGER_COLUMNS;
use shared::ids::BatchId;
use shared::layout::{self, Compression};
use shared::schema::Schema;
use shared::sql::{TableName, ident, literal};

use super::load::Part;

/// Where batches are loaded from and to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The table of rows.
    pub table: TableName,
    /// The table that says which batches are in it.
    pub ledger: TableName,
    /// The columns of a row, in its order.
    pub columns: Vec<String>,
    /// Fingerprint of those columns.
    pub fingerprint: String,
    /// The role COPY reads with, or `default`.
    pub iam_role: String,
    /// More options of COPY, with what each load has.
    pub copy_options: CopyOptions,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Prefix of batches to load.
    pub to_ingest: String,
    /// Prefix of manifests that name several batches.
    pub loads: String,
    /// Who loads, as the ledger shall say.
    pub loader: String,
}

impl Target {
    /// The target of a configuration, for rows of `schema`.
    #[must_use]
    pub fn new(config: &Config, schema: &Schema, loader: String) -> Self {
        Self {
            table: config.redshift.table.clone(),
            ledger: config.redshift.ledger.clone(),
            columns: schema.in_row().map(|column| column.name.clone()).collect(),
            fingerprint: schema.fingerprint(),
            iam_role: config.redshift.iam_role.clone(),
            copy_options: config.redshift.copy_options.clone(),
            bucket: config.s3.bucket.clone(),
            region: config.s3.region.clone(),
            to_ingest: config.s3.to_ingest.clone(),
            loads: config.s3.loads.clone(),
            loader,
        }
    }

    /// Address of the folder of a batch, as Redshift writes it.
    #[must_use]
    pub fn folder_url(&self, batch: BatchId) -> String {
        format!("s3://{}/{}", self.bucket, layout::folder(&self.to_ingest, batch))
    }

    /// Locks the ledger: the first statement of every load, alone, because a snapshot is taken with the first one
    /// that reads. Who holds the lock sees every load that ended before.
    #[must_use]
    pub fn lock_ledger(&self) -> String {
        format!("LOCK {}", self.ledger)
    }

    /// Which of these batches are loaded: a row with the id of each.
    #[must_use]
    pub fn look_up(&self, batches: &[BatchId]) -> String {
        format!("SELECT batch_id FROM {} WHERE batch_id IN ({})", self.ledger, ids(batches))
    }

    /// Which of these batches are loaded, with what a bookkeeping entry needs.
    #[must_use]
    pub fn look_up_all(&self, batches: &[BatchId]) -> String {
        let columns = "batch_id, instance, files, rows_loaded + rows_quarantined, bytes";
        format!("SELECT {columns} FROM {} WHERE batch_id IN ({})", self.ledger, ids(batches))
    }

    /// Loads the rows of the files that the manifest at this key names. MANIFEST makes COPY read exactly these;
    /// without MAXERROR it loads all rows or none.
    #[must_use]
    pub fn copy(&self, manifest: &str, compression: Compression) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| ident(column)).collect();
        let role = if self.iam_role == "default" { "default".to_owned() } else { literal(&self.iam_role) };
        let compression = compression.copy_option().map_or(String::new(), |option| format!(" {option}"));
        format!(
            "COPY {} ({}) FROM {} IAM_ROLE {role} REGION {} MANIFEST FORMAT CSV DELIMITER '~' EMPTYASNULL{compression} \
             TIMEFORMAT 'auto' {}",
            self.table,
            columns.join(", "),
            literal(&format!("s3://{}/{manifest}", self.bucket)),
            literal(&self.region),
            self.copy_options,
        )
    }

    /// Enters loaded batches into the ledger, a row for each.
    #[must_use]
    pub fn enter(&self, parts: &[Part], copy_query: i64, now: DateTime<Utc>) -> String {
        let rows: Vec<String> = parts.iter().map(|part| self.ledger_row(part, copy_query, now)).collect();
        format!("INSERT INTO {} ({}) VALUES {}", self.ledger, ledger_columns(), rows.join(", "))
    }

    fn ledger_row(&self, part: &Part, copy_query: i64, now: DateTime<Utc>) -> String {
        let seal = &part.seal;
        let values = [
            literal(&seal.batch.to_string()),
            literal(&seal.instance.to_string()),
            part.rows().to_string(),
            part.quarantined.to_string(),
            seal.bytes.to_string(),
            seal.files.len().to_string(),
            literal(&seal.schema),
            moment(seal.first_received),
            moment(seal.last_received),
            copy_query.to_string(),
            moment(Some(now)),
            literal(&self.loader),
            seal.counts.received.to_string(),
            seal.counts.duplicates.to_string(),
            seal.counts.filtered.to_string(),
            seal.counts.rejected.to_string(),
            part.set.as_deref().map_or_else(|| "NULL".to_owned(), literal),
        ];
        format!("({})", values.join(", "))
    }

    /// Fails, naming it, when a column of the table is missing.
    #[must_use]
    pub fn check_table(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| ident(column)).collect();
        format!("SELECT {} FROM {} WHERE false", columns.join(", "), self.table)
    }

    /// Fails, naming it, when a column of the ledger is missing.
    #[must_use]
    pub fn check_ledger(&self) -> String {
        format!("SELECT {} FROM {} WHERE false", ledger_columns(), self.ledger)
    }
}

fn ids(batches: &[BatchId]) -> String {
    batches.iter().map(|batch| literal(&batch.to_string())).collect::<Vec<_>>().join(", ")
}

fn ledger_columns() -> String {
    LEDGER_COLUMNS.map(|(name, _)| name).join(", ")
}

/// A time as a literal, or NULL.
pub(super) fn moment(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "NULL".to_owned(), |at| literal(&at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::verify::tests::seal;

    fn part() -> Part {
        Part::whole(seal())
    }

    pub(crate) fn target() -> Target {
        Target {
            table: "public.hits".parse().unwrap(),
            ledger: "public.ledger".parse().unwrap(),
            columns: vec!["hitidhigh".to_owned(), "language".to_owned()],
            fingerprint: "0123456789abcdef".to_owned(),
            iam_role: "arn:aws:iam::123456789012:role/copy".to_owned(),
            copy_options: CopyOptions::default(),
            bucket: "b".to_owned(),
            region: "eu-central-1".to_owned(),
            to_ingest: "ToIngest/".to_owned(),
            loads: "Loads/".to_owned(),
            loader: "ingester".to_owned(),
        }
    }

    #[test]
    fn a_copy_names_table_columns_manifest_role_and_form() {
        assert_eq!(
            target().copy("f/manifest.json", Compression::Zstd),
            "COPY \"public\".\"hits\" (\"hitidhigh\", \"language\") FROM 's3://b/f/manifest.json' \
             IAM_ROLE 'arn:aws:iam::123456789012:role/copy' REGION 'eu-central-1' MANIFEST FORMAT CSV DELIMITER '~' \
             EMPTYASNULL ZSTD TIMEFORMAT 'auto' COMPUPDATE OFF STATUPDATE OFF"
        );
    }

    #[test]
    fn a_copy_follows_the_compression_of_the_seal_and_takes_the_default_role() {
        let target = Target { iam_role: "default".to_owned(), ..target() };
        let plain = target.copy("k", Compression::None);
        assert!(
            plain.contains("IAM_ROLE default REGION") && plain.contains("EMPTYASNULL TIMEFORMAT"),
            "{plain}"
        );
        let gzip = target.copy("k", Compression::Gzip);
        assert!(gzip.contains("EMPTYASNULL GZIP TIMEFORMAT"), "{gzip}");
    }

    #[test]
    fn a_copy_has_the_options_of_the_configuration() {
        let options = CopyOptions::parse(["acceptinvchars '?'", "STATUPDATE ON"]).unwrap();
        let copy = Target { copy_options: options, ..target() }.copy("m", Compression::None);
        assert!(
            copy.ends_with("TIMEFORMAT 'auto' ACCEPTINVCHARS '?' COMPUPDATE OFF STATUPDATE ON"),
            "{copy}"
        );
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        let odd = "x'); DROP TABLE t; --";
        let target = Target {
            iam_role: odd.to_owned(),
            region: odd.to_owned(),
            bucket: odd.to_owned(),
            loader: odd.to_owned(),
            columns: vec!["a\"b".to_owned()],
            ..target()
        };
        let copy = target.copy("k", Compression::Zstd);
        assert_eq!(copy.matches("x'');").count(), 3, "{copy}");
        assert!(copy.contains("\"a\"\"b\""));
        assert!(target.enter(&[part()], 1, Utc::now()).contains("'x''); DROP"));
    }

    #[test]
    fn a_ledger_row_has_a_value_for_every_column() {
        let (whole, cut) = (part(), Part { quarantined: 3, set: Some("a1".to_owned()), ..part() });
        let now = "2026-01-02T03:05:00Z".parse().unwrap();
        let insert = target().enter(&[whole.clone(), cut.clone()], 42, now);
        let (columns, values) = insert.split_once(" VALUES ").unwrap();
        assert_eq!(columns.matches(", ").count() + 1, LEDGER_COLUMNS.len());
        let row = |part: &Part, rows: &str, set: &str| {
            let batch = part.seal.batch;
            format!(
                "('{batch}', 'web-1', {rows}, 200, 2, '0123456789abcdef', NULL, '2026-01-02 03:04:05.678901', 42, \
                 '2026-01-02 03:05:00.000000', 'ingester', 23, 2, 1, 0, {set})"
            )
        };
        assert_eq!(values, format!("{}, {}", row(&whole, "20, 0", "NULL"), row(&cut, "17, 3", "'a1'")));
    }

    #[test]
    fn one_select_asks_about_many_batches() {
        let (a, b) = (BatchId::new(), BatchId::new());
        let select = target().look_up_all(&[a, b]);
        assert!(select.ends_with(&format!("WHERE batch_id IN ('{a}', '{b}')")), "{select}");
    }
}
