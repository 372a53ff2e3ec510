//! The statements that create the table, the ledger and the table that is locked in the ledger's place; keys and encodings.
//!
//! A column names an encoding only if the schema does, or the configuration wants them all: otherwise Redshift manages
//! them (ENCODE AUTO), which it stops doing for the whole table as soon as one column names its own. A statement ends
//! without a semicolon, so that each can be sent alone.

use shared::config::{Encodings, Redshift};
use shared::exit::{Exit, Failure};
use shared::schema::{Column, Encoding, Kind, Schema, SqlType};

use crate::redshift::sql::{Table, ident, idents};

/// The table rows are loaded into, one column a line.
pub(crate) fn create_table(schema: &Schema, table: &Table, options: &TableOptions) -> String {
    let columns = schema.columns.iter().map(|column| (column.name.as_str(), column_text(column, options)));
    let mut text = create(table, columns);
    if let Some(column) = &options.distkey {
        text += &format!("\nDISTSTYLE KEY\nDISTKEY ({})", ident(column));
    }
    if !options.sortkey.is_empty() {
        text += &format!("\nCOMPOUND SORTKEY ({})", idents(&options.sortkey));
    }
    text
}

/// The ledger's columns and types, in order. A row says that its batch is in the table; its rows_loaded, rows_quarantined,
/// rows_known and rows_forgotten add up to the rows that were sealed.
pub(crate) const LEDGER_COLUMNS: [(&str, &str); 23] = [
    // No key: see `create_ledger`.
    ("batch_id", "varchar(36) NOT NULL"),
    ("instance", "varchar(127)"),
    ("rows_loaded", "bigint NOT NULL"),
    ("rows_quarantined", "bigint NOT NULL"),
    ("bytes", "bigint"),
    ("files", "integer"),
    ("schema_fingerprint", "varchar(16)"),
    ("first_received", "timestamp"),
    ("last_received", "timestamp"),
    ("copy_query_id", "bigint"),
    ("loaded_at", "timestamp"),
    // Called `loader` in earlier versions, which lock another table and so must not enter anything: see RENAMED_IN_LEDGER.
    ("loaded_by", "varchar(255)"),
    ("received", "bigint"),
    ("duplicates", "bigint"),
    ("filtered", "bigint"),
    ("rejected", "bigint"),
    // Which set of objects below `s3.quarantine` holds the rows_quarantined.
    ("quarantine", "varchar(16)"),
    // The start of the producer that sealed the batch, and the batch's number in its log.
    ("run", "varchar(36)"),
    ("batch_number", "bigint"),
    ("content", "varchar(32)"),
    // Rows that the table had already. NULL means none.
    ("rows_known", "bigint"),
    // Rows of a time for which the producer did not remember all hits: another batch of the run may have them again.
    ("uncompared", "bigint"),
    // Rows that `ingester forget` took out of the table or the quarantine. NULL means none.
    ("rows_forgotten", "bigint"),
];

/// What earlier versions called it, and its name. A program of an earlier version misses its column, and enters nothing.
pub(super) const RENAMED_IN_LEDGER: [(&str, &str); 1] = [("loader", "loaded_by")];

/// The ledger. The lock that each load takes first keeps a batch from being entered twice ([`create_lock`]). The ledger
/// has no primary key: Redshift would not enforce it, but would plan as if it held, so that a row that stands twice
/// could hide from the very query that looks for it.
pub(crate) fn create_ledger(ledger: &Table) -> String {
    create(ledger, LEDGER_COLUMNS.map(|(name, sql_type)| (name, sql_type.to_owned())))
}

/// The table that every load locks first. Nobody has a reason to read it, so readers of the ledger hold up no load.
pub(crate) fn create_lock(ledger: &Table) -> String {
    create(&Table(ledger.lock_table()), [("nothing", "smallint".to_owned())])
}

/// All statements in the order in which to send them, for `psql` and query editors.
pub(crate) fn script(schema: &Schema, table: &Table, options: &TableOptions, ledger: &Table) -> String {
    let statements = [create_table(schema, table, options), create_ledger(ledger), create_lock(ledger)];
    statements.join(";\n\n") + ";\n"
}

/// What follows the column's name: its type, what Redshift fills it with, and its encoding.
pub(super) fn column_text(column: &Column, options: &TableOptions) -> String {
    // SYSDATE is the time at which the load's transaction began, in UTC.
    let default = if column.kind == Kind::LoadTime { " DEFAULT SYSDATE" } else { "" };
    let encoding =
        options.encoding(column).map_or_else(String::new, |encoding| format!(" ENCODE {encoding}"));
    format!("{}{default}{encoding}", column.sql_type)
}

fn create<'a>(table: &Table, columns: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let columns: Vec<String> =
        columns.into_iter().map(|(name, sql_type)| format!("  {} {sql_type}", ident(name))).collect();
    format!("CREATE TABLE IF NOT EXISTS {table} (\n{}\n)", columns.join(",\n"))
}

/// How Redshift is to lay the table out; empty leaves both to it (DISTSTYLE AUTO, SORTKEY AUTO).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableOptions {
    /// Most significant first.
    pub(crate) sortkey: Vec<String>,
    pub(crate) distkey: Option<String>,
    /// Which columns name their encoding.
    pub(crate) encodings: Encodings,
}

impl TableOptions {
    /// As the configuration says.
    pub(crate) fn of(redshift: &Redshift) -> Self {
        let distkey = Some(redshift.distkey.clone()).filter(|column| !column.is_empty());
        Self { sortkey: redshift.sortkey.clone(), distkey, encodings: redshift.encodings }
    }

    /// As the configuration says, if a table of this schema can have them. The failure names the key and the column.
    pub(crate) fn checked(redshift: &Redshift, schema: &Schema) -> Result<Self, Failure> {
        let options = Self::of(redshift);
        options
            .validate(schema)
            .map_err(|error| Failure::new(Exit::Config, anyhow::anyhow!("redshift.{error}")))?;
        Ok(options)
    }

    fn validate(&self, schema: &Schema) -> Result<(), String> {
        let sort = self.sortkey.iter().map(|column| ("sortkey", column));
        for (key, name) in sort.chain(self.distkey.iter().map(|column| ("distkey", column))) {
            let refuse = |rule: &str| format!("{key} `{}`: {rule}", name.escape_debug());
            if key == "sortkey" && self.sortkey.iter().filter(|other| *other == name).count() > 1 {
                return Err(refuse("a sort key has a column once"));
            }
            let column = schema.columns.iter().find(|column| column.name == *name);
            match column.ok_or_else(|| refuse("the schema has no such column"))?.sql_type {
                SqlType::Super => return Err(refuse("a super column cannot be a key")),
                _ if self.sortkey.len() > 400 => return Err(refuse("a sort key has at most 400 columns")),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn encoding(&self, column: &Column) -> Option<Encoding> {
        let default = || match self.encodings {
            Encodings::Auto => None,
            Encodings::Explicit if self.sortkey.first() == Some(&column.name) => Some(Encoding::Raw),
            Encodings::Explicit => Some(default_encoding(column.sql_type)),
        };
        column.encoding.or_else(default)
    }
}

/// What Redshift itself would choose for a column of this type, and what suits wide tables of mostly empty text.
fn default_encoding(sql_type: SqlType) -> Encoding {
    match sql_type {
        SqlType::Varchar(_) | SqlType::Super | SqlType::Boolean => Encoding::Zstd,
        _ => Encoding::Az64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::sql::tests::table;

    fn schema() -> Schema {
        let text = "[[column]]\nname = 'hitidhigh'\npath = 'hitIdHigh'\nkind = 'unsigned'\ntype = 'decimal(20,0)'\n\
                    [[column]]\nname = 'language'\npath = 'language'\nkind = 'text'\ntype = 'varchar(64)'\n\
                    [[column]]\nname = 'products'\npath = 'products'\nkind = 'json'\ntype = 'super'";
        Schema::from_toml_on(&Schema::default(), text, "t").unwrap()
    }

    #[test]
    fn the_table_has_one_column_a_line_and_its_keys() {
        let options = TableOptions {
            sortkey: vec!["hitidhigh".into(), "language".into()],
            distkey: Some("hitidhigh".into()),
            encodings: Encodings::Auto,
        };
        let text = create_table(&schema(), &table("public.hits"), &options);
        assert_eq!(
            text,
            "CREATE TABLE IF NOT EXISTS \"public\".\"hits\" (\n  \"hitidhigh\" decimal(20,0),\n  \"language\" varchar(64),\n  \
             \"products\" super\n)\nDISTSTYLE KEY\nDISTKEY (\"hitidhigh\")\nCOMPOUND SORTKEY (\"hitidhigh\", \"language\")"
        );
        let plain = create_table(&schema(), &table("hits"), &TableOptions::default());
        assert!(plain.ends_with("super\n)"), "{plain}");
    }

    #[test]
    fn encodings_and_load_times_are_part_of_a_column() {
        let mut schema = schema();
        schema.columns[1].encoding = Some(Encoding::Lzo);
        schema.columns.push(Column::new("loaded", vec![], Kind::LoadTime, SqlType::Timestamp));
        let table = table("hits");
        let text = |encodings| {
            let sortkey = vec!["hitidhigh".to_owned()];
            create_table(&schema, &table, &TableOptions { sortkey, distkey: None, encodings })
        };
        let auto = text(Encodings::Auto);
        assert!(
            auto.contains("\"hitidhigh\" decimal(20,0),\n  \"language\" varchar(64) ENCODE lzo,"),
            "{auto}"
        );
        assert!(auto.contains("\"loaded\" timestamp DEFAULT SYSDATE\n)"), "{auto}");
        let explicit = text(Encodings::Explicit);
        assert!(
            explicit.contains("decimal(20,0) ENCODE raw,\n  \"language\" varchar(64) ENCODE lzo,"),
            "{explicit}"
        );
        assert!(
            explicit.contains("super ENCODE zstd,\n  \"loaded\" timestamp DEFAULT SYSDATE ENCODE az64"),
            "{explicit}"
        );
    }

    #[test]
    fn the_ledger_has_the_columns_a_load_writes() {
        let text = create_ledger(&table("ledger"));
        assert!(
            text.starts_with(
                "CREATE TABLE IF NOT EXISTS \"ledger\" (\n  \"batch_id\" varchar(36) NOT NULL,\n"
            )
        );
        assert!(
            !text.contains("KEY") && !text.contains("UNIQUE"),
            "Redshift plans with what it does not enforce: {text}"
        );
        assert!(text.ends_with("  \"rows_forgotten\" bigint\n)"), "{text}");
        for (then, now) in RENAMED_IN_LEDGER {
            assert!(LEDGER_COLUMNS.iter().all(|(name, _)| *name != then), "{then}");
            assert!(LEDGER_COLUMNS.iter().any(|(name, _)| *name == now), "{now}");
        }
    }

    #[test]
    fn the_table_that_is_locked_stands_beside_the_ledger() {
        let text = create_lock(&table("analytics.ledger"));
        assert_eq!(
            text,
            "CREATE TABLE IF NOT EXISTS \"analytics\".\"ledger_lock\" (\n  \"nothing\" smallint\n)"
        );
    }

    #[test]
    fn a_script_ends_every_statement() {
        let text = script(&schema(), &table("hits"), &TableOptions::default(), &table("ledger"));
        assert_eq!(text.matches(';').count(), 3);
        assert!(text.ends_with(")\n;\n") || text.ends_with(");\n"), "{text}");
    }

    #[test]
    fn a_key_that_the_table_cannot_have_is_refused() {
        let options = |sort: &str, dist: Option<&str>| TableOptions {
            sortkey: vec![sort.to_owned()],
            distkey: dist.map(str::to_owned),
            encodings: Encodings::Auto,
        };
        assert_eq!(options("hitidhigh", Some("language")).validate(&schema()), Ok(()));
        let message = |options: TableOptions| options.validate(&schema()).unwrap_err();
        let twice = TableOptions {
            sortkey: ["language", "hitidhigh", "language"].map(str::to_owned).to_vec(),
            ..TableOptions::default()
        };
        assert_eq!(message(twice), "sortkey `language`: a sort key has a column once");
        assert_eq!(message(options("nosuch", None)), "sortkey `nosuch`: the schema has no such column");
        assert_eq!(
            message(options("language", Some("products"))),
            "distkey `products`: a super column cannot be a key"
        );
    }
}
