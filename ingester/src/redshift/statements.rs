//! Every statement that is sent, as a function of plain values. All literals and identifiers pass through
//! `shared::sql`.

use std::time::Duration;

use crate::redshift::ddl::LEDGER_COLUMNS;
use chrono::{DateTime, Utc};
use shared::config::{Config, CopyOptions};
use shared::ids::BatchId;
use shared::layout::{self, Compression};
use shared::schema::Schema;
use shared::seal::Seal;
use shared::sql::{TableName, ident, literal};

use crate::redshift::counts::Marks;
use crate::redshift::stage::Shape;
use crate::redshift::transaction::Part;

/// Where batches are loaded from and to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The table of rows.
    pub table: TableName,
    /// The table that says which batches are in it.
    pub ledger: TableName,
    /// The table that is locked by every load.
    pub lock: TableName,
    /// How long that is waited for.
    pub lock_timeout: Duration,
    /// The columns of a row, in its order.
    pub columns: Vec<String>,
    /// Those that tell rows apart.
    pub marks: Marks,
    /// How the table is made up, as far as is known.
    pub shape: Shape,
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
            lock: config.redshift.ledger.lock_table(),
            lock_timeout: config.redshift.lock_timeout.0,
            marks: Marks::of(schema),
            shape: Shape::default(),
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

    /// The same for the rows of a batch: into the columns its seal names. The table may have more of them.
    #[must_use]
    pub fn for_rows_of(&self, seal: &Seal) -> Self {
        let columns = seal.columns.as_ref().unwrap_or(&self.columns).clone();
        Self { columns, ..self.clone() }
    }

    /// Address of the folder of a batch, as Redshift writes it.
    #[must_use]
    pub fn folder_url(&self, batch: BatchId) -> String {
        format!("s3://{}/{}", self.bucket, layout::folder(&self.to_ingest, batch))
    }

    /// Which of these ids the ledger has.
    #[must_use]
    pub fn look_up(&self, batches: &[BatchId]) -> String {
        format!("SELECT batch_id FROM {} WHERE batch_id IN ({})", self.ledger, ids(batches))
    }

    /// The same, with what a bookkeeping entry needs.
    #[must_use]
    pub fn look_up_all(&self, batches: &[BatchId]) -> String {
        let columns =
            "batch_id, instance, files, rows_loaded + rows_quarantined + coalesce(rows_known, 0), bytes";
        format!("SELECT {columns} FROM {} WHERE batch_id IN ({})", self.ledger, ids(batches))
    }

    /// Loads the rows of the files that the manifest at this key names. MANIFEST makes COPY read exactly these;
    /// without MAXERROR it loads all rows or none.
    #[must_use]
    pub fn copy(&self, manifest: &str, compression: Compression) -> String {
        self.copy_into(&self.table, manifest, compression)
    }

    /// The same into another table of these columns.
    pub(super) fn copy_into(&self, table: &TableName, manifest: &str, compression: Compression) -> String {
        let role = if self.iam_role == "default" { "default".to_owned() } else { literal(&self.iam_role) };
        let compression = match compression {
            Compression::Zstd => " ZSTD",
            Compression::Gzip => " GZIP",
            Compression::None => "",
        };
        format!(
            "COPY {table} ({}) FROM {} IAM_ROLE {role} REGION {} MANIFEST FORMAT CSV DELIMITER '~' EMPTYASNULL{compression} \
             TIMEFORMAT 'auto' {}",
            self.column_list(),
            literal(&format!("s3://{}/{manifest}", self.bucket)),
            literal(&self.region),
            self.copy_options,
        )
    }

    /// The columns of a row, ready for a statement.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| ident(column)).collect::<Vec<_>>().join(", ")
    }

    /// Enters loaded batches into the ledger, a row for each.
    pub(super) fn enter(&self, entering: &[Entering<'_>], copy_query: i64, now: DateTime<Utc>) -> String {
        let rows: Vec<String> = entering.iter().map(|one| self.ledger_row(one, copy_query, now)).collect();
        format!("INSERT INTO {} ({}) VALUES {}", self.ledger, ledger_columns(), rows.join(", "))
    }

    fn ledger_row(&self, entering: &Entering<'_>, copy_query: i64, now: DateTime<Utc>) -> String {
        let Entering { part, id, known } = entering;
        let seal = &part.seal;
        let none = || "NULL".to_owned();
        let compared = seal.compared.as_ref();
        let values = [
            literal(&id.to_string()),
            literal(&seal.instance.to_string()),
            part.rows().saturating_sub(*known).to_string(),
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
            part.set.as_deref().map_or_else(none, literal),
            compared.map_or_else(none, |compared| literal(&compared.run.to_string())),
            compared.map_or_else(none, |compared| compared.number.to_string()),
            seal.content.map_or_else(none, |content| literal(&content.to_string())),
            known.to_string(),
            compared.map_or_else(none, |compared| compared.uncompared.to_string()),
        ];
        format!("({})", values.join(", "))
    }

    /// Fails, naming it, when a column of the table is missing.
    #[must_use]
    pub fn check_table(&self) -> String {
        format!("SELECT {} FROM {} WHERE false", self.column_list(), self.table)
    }

    /// Fails, naming it, when a column of the ledger is missing.
    #[must_use]
    pub fn check_ledger(&self) -> String {
        format!("SELECT {} FROM {} WHERE false", ledger_columns(), self.ledger)
    }
}

/// A batch to be entered into the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entering<'a> {
    /// The batch, and what of it is in quarantine.
    pub(super) part: &'a Part,
    /// Under which id.
    pub(super) id: BatchId,
    /// Rows that the table had already.
    pub(super) known: u64,
}

/// Ids as a list of literals.
pub(super) fn ids(batches: &[BatchId]) -> String {
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
    use shared::content::Content;
    use shared::ids::RunId;
    use shared::seal::Compared;

    use super::*;
    use crate::facts::folder::tests::seal;

    pub(crate) fn target() -> Target {
        Target {
            table: "public.hits".parse().unwrap(),
            ledger: "public.ledger".parse().unwrap(),
            lock: "public.ledger_lock".parse().unwrap(),
            lock_timeout: Duration::from_secs(60),
            columns: ["hitidhigh", "hitidlow", "received", "language"].map(str::to_owned).to_vec(),
            marks: Marks {
                batch: None,
                received: Some("received".to_owned()),
                hit: Some(("hitidhigh".to_owned(), "hitidlow".to_owned())),
            },
            shape: Shape::default(),
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
    fn a_copy_names_the_columns_of_the_seal_where_it_has_some() {
        let named = Some(vec!["received".to_owned(), "plugins".to_owned()]);
        let copy = |seal: &Seal| target().for_rows_of(seal).copy("k", Compression::None);
        assert!(copy(&Seal { columns: named, ..seal() }).contains("(\"received\", \"plugins\") FROM"));
        assert_eq!(copy(&seal()), target().copy("k", Compression::None));
    }

    #[test]
    fn a_copy_names_table_columns_manifest_role_and_form() {
        assert_eq!(
            target().copy("f/manifest.json", Compression::Zstd),
            "COPY \"public\".\"hits\" (\"hitidhigh\", \"hitidlow\", \"received\", \"language\") FROM 's3://b/f/manifest.json' \
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
        let part = Part::whole(seal());
        let entering = [Entering { part: &part, id: part.seal.batch, known: 0 }];
        assert!(target.enter(&entering, 1, Utc::now()).contains("'x''); DROP"));
    }

    #[test]
    fn a_ledger_row_has_a_value_for_every_column_and_its_rows_add_up() {
        let (run, content) = (RunId::new(), Content::of_rows(b"x"));
        let compared = Some(Compared { run, number: 7, known: Vec::new(), uncompared: 4 });
        let whole = Part::whole(Seal { compared, content: Some(content), ..seal() });
        let old = Seal { compared: None, content: None, ..seal() };
        let cut = Part { quarantined: 3, set: Some("a1".to_owned()), ..Part::whole(old) };
        let now = "2026-01-02T03:05:00Z".parse().unwrap();
        let other = BatchId::new();
        let entering = [
            Entering { part: &whole, id: whole.seal.batch, known: 0 },
            Entering { part: &cut, id: other, known: 2 },
        ];
        let insert = target().enter(&entering, 42, now);
        let (columns, values) = insert.split_once(" VALUES ").unwrap();
        assert_eq!(columns.matches(", ").count() + 1, LEDGER_COLUMNS.len());
        let row = |batch: BatchId, rows: &str, more: &str| {
            format!(
                "('{batch}', 'web-1', {rows}, 200, 2, '0123456789abcdef', NULL, '2026-01-02 03:04:05.678901', 42, \
                 '2026-01-02 03:05:00.000000', 'ingester', 23, 2, 1, 0, {more})"
            )
        };
        let first = row(whole.seal.batch, "20, 0", &format!("NULL, '{run}', 7, '{content}', 0, 4"));
        assert_eq!(values, format!("{first}, {}", row(other, "15, 3", "'a1', NULL, NULL, NULL, 2, NULL")));
    }

    #[test]
    fn one_select_asks_about_many_batches() {
        let (a, b) = (BatchId::new(), BatchId::new());
        let select = target().look_up_all(&[a, b]);
        assert!(select.ends_with(&format!("WHERE batch_id IN ('{a}', '{b}')")), "{select}");
    }
}
