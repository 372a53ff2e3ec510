//! Where batches are loaded from and to, and the statements that only name that.

use std::sync::Arc;
use std::time::Duration;

use shared::config::{Config, CopyOptions, CopyValue, OnSchemaChange};
use shared::ids::BatchId;
use shared::layout::{self, Compression};
use shared::schema::{Column, Kind, Schema};
use shared::seal::Seal;

use crate::redshift::ddl::{Addition, LEDGER_COLUMNS, LiveColumn, TableOptions, additions, lacking};
use crate::redshift::sql::{Table, idents, ids, literal};

/// Characters of a batch's id that tell the moment it was opened.
pub(super) const MOMENT: usize = 13;

/// The `batch_id` of the ledger's mark: that of a batch of 1970, which sorts before all others.
pub(super) const MARK: &str = "00000000-0000-7000-8000-000000000000";

/// The rows of a batch that were sealed, as its ledger row accounts for them.
pub(super) const SEALED_ROWS: &str =
    "rows_loaded + rows_quarantined + coalesce(rows_known, 0) + coalesce(rows_forgotten, 0)";

/// Where batches are loaded from and to.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) table: Table,
    /// The table that says which batches are in `table`.
    pub(crate) ledger: Table,
    /// The table that every load locks.
    pub(crate) lock: Table,
    pub(crate) lock_timeout: Duration,
    /// The columns of a row, in its order.
    pub(crate) columns: Vec<String>,
    /// The columns of the schema as the table gets them where it lacks them; none if it gets none.
    pub(crate) additions: Arc<[Addition]>,
    pub(crate) key_columns: KeyColumns,
    /// Columns of the table that must have a value. A temporary table like it depends on them.
    pub(crate) not_null: Vec<String>,
    pub(crate) fingerprint: String,
    pub(crate) copy_terms: CopyTerms,
    pub(crate) bucket: String,
    pub(crate) to_ingest: String,
    /// Prefix of manifests that name several batches.
    pub(crate) loads: String,
    /// Who loads, for the ledger.
    pub(crate) loader: String,
}

/// How COPY reads.
#[derive(Debug, Clone)]
pub(crate) struct CopyTerms {
    /// An ARN, or `default`.
    iam_role: String,
    region: String,
    options: CopyOptions,
}

/// The columns of the table that tell its rows apart, where the schema has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyColumns {
    pub(crate) batch: Option<String>,
    /// `receivedTimeGMT`
    pub(crate) received: Option<String>,
    /// `hitIdHigh` and `hitIdLow`
    pub(crate) hit: Option<(String, String)>,
}

impl KeyColumns {
    pub(crate) fn of(schema: &Schema) -> Self {
        let named = |suits: &dyn Fn(&Column) -> bool| {
            schema.in_row().find(|column| suits(column)).map(|column| column.name.clone())
        };
        // A column with a second path may hold something else.
        let of_path = |kind, key: &str| {
            named(&|column| {
                column.kind == kind && matches!(column.paths.as_slice(), [path] if path.keys() == [key])
            })
        };
        Self {
            batch: named(&|column| column.kind == Kind::Batch),
            received: of_path(Kind::Timestamp, "receivedTimeGMT"),
            hit: of_path(Kind::Unsigned, "hitIdHigh").zip(of_path(Kind::Unsigned, "hitIdLow")),
        }
    }
}

impl KeyColumns {
    /// Whether hits are compared by the column of this name.
    pub(crate) fn are_compared(&self, name: &str) -> bool {
        let hit = self.hit.iter().flat_map(|(high, low)| [high, low]);
        hit.chain(&self.received).any(|column| column == name)
    }
}

/// The columns by which hits are compared, as in [`KeyColumns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparable<'a> {
    pub(crate) high: &'a str,
    pub(crate) low: &'a str,
    pub(crate) received: &'a str,
}

impl Target {
    /// The target of a configuration, for rows of `schema`.
    pub fn new(config: &Config, schema: &Schema, loader: String) -> Self {
        let (redshift, s3) = (&config.redshift, &config.s3);
        let additions = match redshift.on_schema_change {
            OnSchemaChange::Refuse => Vec::new(),
            OnSchemaChange::AddColumns => additions(schema, &TableOptions::of(redshift)),
        };
        Self {
            table: Table(redshift.table.clone()),
            ledger: Table(redshift.ledger.clone()),
            lock: Table(redshift.ledger.lock_table()),
            lock_timeout: redshift.lock_timeout.0,
            key_columns: KeyColumns::of(schema),
            not_null: Vec::new(),
            additions: additions.into(),
            columns: schema.in_row().map(|column| column.name.clone()).collect(),
            fingerprint: schema.fingerprint(),
            copy_terms: CopyTerms {
                iam_role: redshift.iam_role.clone(),
                region: s3.region.clone(),
                options: redshift.copy_options.clone(),
            },
            bucket: s3.bucket.clone(),
            to_ingest: s3.to_ingest.clone(),
            loads: s3.loads.clone(),
            loader,
        }
    }

    /// The columns to add to a table that has these.
    pub(crate) fn lacking(&self, live: &[LiveColumn]) -> Vec<&Addition> {
        lacking(&self.additions, live)
    }

    /// This target for the rows of a batch: into the columns its seal names. The table may have more of them.
    pub(crate) fn for_rows_of(&self, seal: &Seal) -> Self {
        let columns = seal.columns.as_ref().unwrap_or(&self.columns).clone();
        Self { columns, ..self.clone() }
    }

    /// The columns by which hits are compared; None if the rows do not have all of them.
    pub(crate) fn comparable(&self) -> Option<Comparable<'_>> {
        let ((high, low), received) =
            self.key_columns.hit.as_ref().zip(self.key_columns.received.as_ref())?;
        [high, low, received].iter().all(|name| self.columns.contains(name)).then_some(Comparable {
            high,
            low,
            received,
        })
    }

    /// Address of the folder of a batch, as Redshift writes it.
    pub(super) fn folder_url(&self, batch: BatchId) -> String {
        format!("s3://{}/{}", self.bucket, layout::folder(&self.to_ingest, batch))
    }

    /// What the ledger has under these ids, in `columns` of it.
    pub(super) fn select(&self, columns: &str, batches: &[BatchId]) -> String {
        format!("SELECT {columns} FROM {} WHERE batch_id IN ({})", self.ledger, ids(batches))
    }

    pub(crate) fn select_known(&self, batches: &[BatchId]) -> String {
        self.select("batch_id", batches)
    }

    /// What an entry of the load store needs.
    pub(crate) fn select_entries(&self, batches: &[BatchId]) -> String {
        self.select(&format!("batch_id, instance, files, {SEALED_ROWS}, bytes"), batches)
    }

    /// MANIFEST makes COPY read exactly the files that the manifest names; without MAXERROR it loads all rows or none.
    pub(crate) fn copy(&self, manifest: &str, compression: Compression) -> String {
        self.copy_into(&self.table, manifest, compression)
    }

    /// The COPY into another table of these columns.
    pub(super) fn copy_into(&self, table: &Table, manifest: &str, compression: Compression) -> String {
        let CopyTerms { iam_role, region, options } = &self.copy_terms;
        let role = if iam_role == "default" { "default".to_owned() } else { literal(iam_role) };
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
            literal(region),
            option_list(options),
        )
    }

    pub(super) fn column_list(&self) -> String {
        idents(&self.columns)
    }

    /// Fails, naming it, when a column of the table is missing.
    pub(crate) fn check_table(&self) -> String {
        format!("SELECT {} FROM {} WHERE false", self.column_list(), self.table)
    }

    /// Fails, naming it, when a column of the ledger is missing.
    pub(crate) fn check_ledger(&self) -> String {
        format!("SELECT {} FROM {} WHERE false", ledger_columns(), self.ledger)
    }
}

pub(super) fn ledger_columns() -> String {
    LEDGER_COLUMNS.map(|(name, _)| name).join(", ")
}

fn option_list(options: &CopyOptions) -> String {
    let option = |(name, value): (&str, &CopyValue)| match value {
        CopyValue::None => name.to_owned(),
        CopyValue::Word(word) => format!("{name} {word}"),
        CopyValue::Character(c) => format!("{name} {}", literal(&c.to_string())),
    };
    options.iter().map(option).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::DateTime;
    use shared::content::Content;
    use shared::ids::RunId;
    use shared::seal::Compared;

    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::ledger::{Entering, insert};
    use crate::redshift::loading::Part;
    use crate::redshift::sql::tests::table;

    fn terms() -> CopyTerms {
        CopyTerms {
            iam_role: "arn:aws:iam::123456789012:role/copy".to_owned(),
            region: "eu-central-1".to_owned(),
            options: CopyOptions::default(),
        }
    }

    pub(crate) fn target() -> Target {
        Target {
            table: table("public.hits"),
            ledger: table("public.ledger"),
            lock: table("public.ledger_lock"),
            lock_timeout: Duration::from_secs(60),
            columns: ["hitidhigh", "hitidlow", "received", "language"].map(str::to_owned).to_vec(),
            key_columns: KeyColumns {
                batch: None,
                received: Some("received".to_owned()),
                hit: Some(("hitidhigh".to_owned(), "hitidlow".to_owned())),
            },
            not_null: Vec::new(),
            additions: Arc::default(),
            fingerprint: "0123456789abcdef".to_owned(),
            copy_terms: terms(),
            bucket: "b".to_owned(),
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
        let target =
            Target { copy_terms: CopyTerms { iam_role: "default".to_owned(), ..terms() }, ..target() };
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
        let copy =
            Target { copy_terms: CopyTerms { options, ..terms() }, ..target() }.copy("m", Compression::None);
        assert!(
            copy.ends_with("TIMEFORMAT 'auto' ACCEPTINVCHARS '?' COMPUPDATE OFF STATUPDATE ON"),
            "{copy}"
        );
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        let odd = "x'); DROP TABLE t; --";
        let target = Target {
            copy_terms: CopyTerms { iam_role: odd.to_owned(), region: odd.to_owned(), ..terms() },
            bucket: odd.to_owned(),
            loader: odd.to_owned(),
            columns: vec!["a\"b".to_owned()],
            ..target()
        };
        let copy = target.copy("k", Compression::Zstd);
        assert_eq!(copy.matches("x'');").count(), 3, "{copy}");
        assert!(copy.contains("\"a\"\"b\""));
        let (part, now) = (Part::whole(seal()), DateTime::UNIX_EPOCH);
        let entering = [Entering { part: &part, id: part.seal.batch, known: 0 }];
        assert!(insert(&target, &entering, 1, now).contains("'x''); DROP"));
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
        let insert = insert(&target(), &entering, 42, now);
        let (columns, values) = insert.split_once(" VALUES ").unwrap();
        assert_eq!(columns.matches(", ").count() + 1, LEDGER_COLUMNS.len());
        let row = |batch: BatchId, rows: &str, more: &str| {
            format!(
                "('{batch}', 'web-1', {rows}, 200, 2, '0123456789abcdef', NULL, '2026-01-02 03:04:05.678901', 42, \
                 '2026-01-02 03:05:00.000000', 'ingester', 23, 2, 1, 0, {more})"
            )
        };
        let first = row(whole.seal.batch, "20, 0", &format!("NULL, '{run}', 7, '{content}', 0, 4, 0"));
        assert_eq!(values, format!("{first}, {}", row(other, "15, 3", "'a1', NULL, NULL, NULL, 2, NULL, 0")));
    }

    #[test]
    fn hits_are_compared_by_their_ids_and_their_time() {
        let keys = target().key_columns;
        assert!(["hitidhigh", "hitidlow", "received"].iter().all(|name| keys.are_compared(name)));
        assert!(!keys.are_compared("language") && !KeyColumns::default().are_compared("received"));
    }

    #[test]
    fn one_select_asks_about_many_batches() {
        let (a, b) = (BatchId::new(), BatchId::new());
        let select = target().select_entries(&[a, b]);
        assert!(select.ends_with(&format!("WHERE batch_id IN ('{a}', '{b}')")), "{select}");
    }
}
