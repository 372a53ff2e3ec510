//! The statements that create the table, the ledger and the table that is locked in the ledger's place.
//!
//! A column names an encoding only if the schema does, or the configuration wants them all: Redshift manages them
//! itself otherwise (ENCODE AUTO), which it stops doing for the whole table as soon as one column names its own. A
//! statement carries no semicolon, so that each can be sent alone.

mod alter;
mod fit;
mod live;
mod statements;
mod options;

pub(crate) use alter::{alter_ledger, alter_table};
pub(crate) use live::{Difference, Layout, LiveColumn, What, compare};
pub(crate) use options::TableOptions;

use shared::schema::{Column, Kind, Schema};
use shared::sql::{TableName, ident};
use std::fmt::Write;

/// The table rows are loaded into, one column a line.
pub(crate) fn create_table(schema: &Schema, table: &TableName, options: &TableOptions) -> String {
    let columns = schema.columns.iter().map(|column| (column.name.as_str(), column_text(column, options)));
    let mut text = create(table, columns);
    if let Some(column) = &options.distkey {
        // Writing to a String cannot fail.
        let _ = write!(text, "\nDISTSTYLE KEY\nDISTKEY ({})", ident(column));
    }
    if !options.sortkey.is_empty() {
        let columns: Vec<String> = options.sortkey.iter().map(|column| ident(column)).collect();
        let _ = write!(text, "\nCOMPOUND SORTKEY ({})", columns.join(", "));
    }
    text
}

/// The ledger's columns and types, in order: a row says that its batch is in the table. Those of rows add up to the rows
/// that were sealed.
pub(crate) const LEDGER_COLUMNS: [(&str, &str); 22] = [
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
    // Called `loader` in earlier versions, which lock another table and so must not enter anything beside this one: see
    // RENAMED_IN_LEDGER.
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
    // Checksum of the rows that were sealed.
    ("content", "varchar(32)"),
    // Rows that the table had already. NULL means none.
    ("rows_known", "bigint"),
    // Rows of a time for which the producer did not remember all hits: another batch of the run may have them again.
    ("uncompared", "bigint"),
];

/// Columns that earlier versions called otherwise: then and now. A program of before finds that its column is missing,
/// and enters nothing.
pub(crate) const RENAMED_IN_LEDGER: [(&str, &str); 1] = [("loader", "loaded_by")];

/// The only column of the table that is locked. Nobody reads or writes it.
const LOCK_COLUMN: (&str, &str) = ("nothing", "smallint");

/// The ledger. What keeps a batch from being entered twice is the lock that the load takes first ([`create_lock`]). It has
/// no primary key: Redshift would not enforce it, and plans as if it held, so that a row that stands twice could hide
/// from the very query that looks for it.
pub(crate) fn create_ledger(ledger: &TableName) -> String {
    create(ledger, LEDGER_COLUMNS.map(|(name, sql_type)| (name, sql_type.to_owned())))
}

/// The table that every load locks first. It has nothing that anybody would want to read, so that whoever reads the ledger
/// holds up nobody.
pub(crate) fn create_lock(ledger: &TableName) -> String {
    let (name, sql_type) = LOCK_COLUMN;
    create(&ledger.lock_table(), [(name, sql_type.to_owned())])
}

/// All statements, in the order in which to send them.
pub(crate) fn statements(
    schema: &Schema,
    table: &TableName,
    options: &TableOptions,
    ledger: &TableName,
) -> Vec<String> {
    vec![create_table(schema, table, options), create_ledger(ledger), create_lock(ledger)]
}

/// All statements as a file for `psql` and query editors.
pub(crate) fn script(
    schema: &Schema,
    table: &TableName,
    options: &TableOptions,
    ledger: &TableName,
) -> String {
    statements(schema, table, options, ledger).join(";\n\n") + ";\n"
}

/// What follows the column's name: its type, what Redshift fills it with, and its encoding.
fn column_text(column: &Column, options: &TableOptions) -> String {
    let mut text = column.sql_type.to_string();
    if column.kind == Kind::LoadTime {
        // The time the load's transaction began, in UTC.
        text.push_str(" DEFAULT SYSDATE");
    }
    if let Some(encoding) = options.encoding(column) {
        // Writing to a String cannot fail.
        let _ = write!(text, " ENCODE {encoding}");
    }
    text
}

fn create<'a>(table: &TableName, columns: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let columns: Vec<String> =
        columns.into_iter().map(|(name, sql_type)| format!("  {} {sql_type}", ident(name))).collect();
    format!("CREATE TABLE IF NOT EXISTS {table} (\n{}\n)", columns.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::Encodings;
    use shared::schema::{Encoding, SqlType};

    fn schema() -> Schema {
        let text = "[[column]]\nname = 'hitidhigh'\npath = 'hitIdHigh'\nkind = 'unsigned'\ntype = 'decimal(20,0)'\n\
                    [[column]]\nname = 'language'\npath = 'language'\nkind = 'text'\ntype = 'varchar(64)'\n\
                    [[column]]\nname = 'products'\npath = 'products'\nkind = 'json'\ntype = 'super'";
        Schema::from_toml(text, "t").unwrap()
    }

    #[test]
    fn the_table_has_one_column_a_line_and_its_keys() {
        let options = TableOptions {
            sortkey: vec!["hitidhigh".into(), "language".into()],
            distkey: Some("hitidhigh".into()),
            encodings: Encodings::Auto,
        };
        let text = create_table(&schema(), &"public.hits".parse().unwrap(), &options);
        assert_eq!(
            text,
            "CREATE TABLE IF NOT EXISTS \"public\".\"hits\" (\n  \"hitidhigh\" decimal(20,0),\n  \"language\" varchar(64),\n  \
             \"products\" super\n)\nDISTSTYLE KEY\nDISTKEY (\"hitidhigh\")\nCOMPOUND SORTKEY (\"hitidhigh\", \"language\")"
        );
        let plain = create_table(&schema(), &"hits".parse().unwrap(), &TableOptions::default());
        assert!(plain.ends_with("super\n)"), "{plain}");
    }

    #[test]
    fn encodings_and_load_times_are_part_of_a_column() {
        let mut schema = schema();
        schema.columns[1].encoding = Some(Encoding::Lzo);
        schema.columns.push(Column::new("loaded", vec![], Kind::LoadTime, SqlType::Timestamp));
        let table = "hits".parse().unwrap();
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
        let text = create_ledger(&"ledger".parse().unwrap());
        assert!(
            text.starts_with(
                "CREATE TABLE IF NOT EXISTS \"ledger\" (\n  \"batch_id\" varchar(36) NOT NULL,\n"
            )
        );
        assert!(
            !text.contains("KEY") && !text.contains("UNIQUE"),
            "Redshift plans with what it does not enforce: {text}"
        );
        assert!(text.ends_with("  \"uncompared\" bigint\n)"), "{text}");
        for (then, now) in RENAMED_IN_LEDGER {
            assert!(LEDGER_COLUMNS.iter().all(|(name, _)| *name != then), "{then}");
            assert!(LEDGER_COLUMNS.iter().any(|(name, _)| *name == now), "{now}");
        }
    }

    #[test]
    fn the_table_that_is_locked_stands_beside_the_ledger() {
        let text = create_lock(&"analytics.ledger".parse().unwrap());
        assert_eq!(
            text,
            "CREATE TABLE IF NOT EXISTS \"analytics\".\"ledger_lock\" (\n  \"nothing\" smallint\n)"
        );
    }

    #[test]
    fn a_script_ends_every_statement() {
        let text =
            script(&schema(), &"hits".parse().unwrap(), &TableOptions::default(), &"ledger".parse().unwrap());
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
        let message = |options: TableOptions| options.validate(&schema()).unwrap_err().to_string();
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
