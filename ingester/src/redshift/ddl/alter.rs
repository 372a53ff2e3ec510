//! The statements that bring a table in Redshift up to date, in the order in which to send them.
//!
//! What Redshift changes, and when not, stands in <https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html>:
//! - ADD COLUMN, one at a time, never as part of a key: so columns come before the keys.
//! - ALTER COLUMN TYPE changes the length of a varchar, outside of a transaction, unless the column has a default, is
//!   a PRIMARY KEY, UNIQUE or FOREIGN KEY, or is stored as BYTEDICT, RUNLENGTH, TEXT255 or TEXT32K.
//! - ALTER COLUMN ENCODE, unless the column has that encoding already or the sort key is interleaved.
//! - ALTER SORTKEY, also of an interleaved one into a compound one; it stores the columns of the new key uncompressed,
//!   so their encodings come after it, and of a table that names none it may change those of the old key.
//! - ALTER DISTKEY, unless the sort key is interleaved: so it comes after the sort key.
//!
//! A comment tells what Redshift cannot change.

use shared::schema::{Encoding, Schema};

use super::alter_text::{Change, Statements, Stored};
use super::compare::{
    LiveColumn, Misfit, Wanted, What, compare_column, unknown, wanted_by_ledger, wanted_by_schema,
};
use super::create::{RENAMED_IN_LEDGER, TableOptions};
use crate::redshift::sql::{Table, ident};

/// The statements for the table of rows. Keys and encodings are compared where `options` or the schema name them and
/// `live` knows them.
pub(crate) fn alter_table(
    schema: &Schema,
    table: &Table,
    live: &[LiveColumn],
    options: &TableOptions,
) -> Vec<String> {
    alter(table, &wanted_by_schema(schema, options), live, options)
}

/// The same for the ledger, whose keys and encodings are left to Redshift. Columns that earlier versions called otherwise
/// are renamed first.
pub(crate) fn alter_ledger(ledger: &Table, live: &[LiveColumn]) -> Vec<String> {
    let (mut live, mut renamed) = (live.to_vec(), Statements::new(ledger, false));
    for (then, now) in RENAMED_IN_LEDGER {
        if live.iter().any(|column| column.name == now) {
            continue;
        }
        if let Some(column) = live.iter_mut().find(|column| column.name == then) {
            now.clone_into(&mut column.name);
            renamed.rename(then, now);
        }
    }
    let mut lines = renamed.lines;
    lines.extend(alter(ledger, &wanted_by_ledger(), &live, &TableOptions::default()));
    lines
}

fn alter(table: &Table, wanted: &[Wanted<'_>], live: &[LiveColumn], options: &TableOptions) -> Vec<String> {
    let keys = Keys::new(live, options);
    let mut out = Statements::new(table, keys.interleaved);
    // Columns whose encoding ALTER SORTKEY changes, or that cannot be altered before it.
    let mut later = Vec::new();
    for column in wanted {
        let live = column.of(live);
        let mut short = false;
        for difference in compare_column(column, live) {
            short |= matches!(difference.what, What::Type { misfit: Misfit::Short, .. });
            out.column(&difference);
        }
        let Some(live) = live else {
            let added = column.encoding.filter(|_| keys.becomes_raw(column.name));
            later.extend(added.map(|_| Change { column, live: None, short: false }));
            continue;
        };
        let change = Change { column, live: Some(live), short };
        if keys.new_sortkey.is_some() && (keys.interleaved || keys.becomes_raw(column.name)) {
            later.push(change);
        } else {
            out.change(&change, Stored::now(&change));
        }
    }
    if let Some(sortkey) = keys.new_sortkey {
        out.sortkey(sortkey);
    }
    if let Some(distkey) = keys.new_distkey {
        out.distkey(distkey);
    }
    for column in &keys.impossible {
        out.comment(&format!("{} is super in the table, and super cannot be part of a key.", ident(column)));
    }
    for change in later {
        let stored = match change.live.and_then(|live| live.layout) {
            _ if keys.becomes_raw(change.column.name) => Stored::As(Encoding::Raw),
            Some(layout) if layout.sortkey != 0 => Stored::Unknown,
            _ => Stored::now(&change),
        };
        out.change(&change, stored);
    }
    for difference in unknown(wanted, live) {
        out.column(&difference);
    }
    out.lines
}

/// The keys of the table, and those it shall have instead.
struct Keys<'a> {
    interleaved: bool,
    new_sortkey: Option<&'a [String]>,
    new_distkey: Option<&'a str>,
    /// Columns of the schema's keys that are SUPER in the table, and cannot be part of one.
    impossible: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn new(live: &[LiveColumn], options: &'a TableOptions) -> Self {
        let Some(layouts) = live.iter().map(|column| column.layout).collect::<Option<Vec<_>>>() else {
            return Self { interleaved: false, new_sortkey: None, new_distkey: None, impossible: Vec::new() };
        };
        let is_super =
            |name: &str| live.iter().any(|column| column.name == name && column.type_text == "super");
        let mut sorted: Vec<_> = live
            .iter()
            .zip(&layouts)
            .filter(|(_, layout)| layout.sortkey != 0)
            .map(|(column, layout)| (layout.sortkey.unsigned_abs(), &column.name))
            .collect();
        sorted.sort_unstable();
        let interleaved = layouts.iter().any(|layout| layout.sortkey < 0);
        let same = !interleaved && sorted.iter().map(|(_, name)| *name).eq(&options.sortkey);
        let distkey = live.iter().zip(&layouts).find(|(_, layout)| layout.distkey);
        let distkey = distkey.map(|(column, _)| column.name.as_str());
        let new_sortkey = Some(options.sortkey.as_slice()).filter(|key| !key.is_empty() && !same);
        let new_distkey = options.distkey.as_deref().filter(|wanted| distkey != Some(wanted));
        let mut impossible: Vec<&str> = new_sortkey.into_iter().flatten().map(String::as_str).collect();
        impossible.extend(new_distkey);
        impossible.retain(|name| is_super(name));
        Self {
            interleaved,
            new_sortkey: new_sortkey.filter(|key| !key.iter().any(|name| is_super(name))),
            new_distkey: new_distkey.filter(|name| !is_super(name)),
            impossible,
        }
    }

    fn becomes_raw(&self, column: &str) -> bool {
        self.new_sortkey.is_some_and(|key| key.iter().any(|name| name == column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::ddl::compare::Layout;
    use crate::redshift::ddl::compare::tests::{live, schema};
    use crate::redshift::sql::tests::table as named;
    use shared::config::Encodings;

    /// Columns as in `live`, each with its encoding, whether it is the distribution key, and its place in the sort key.
    fn stored(columns: &[(&str, &str, &str, bool, i32)]) -> Vec<LiveColumn> {
        let column = |(name, type_text, encoding, distkey, sortkey): &(&str, &str, &str, bool, i32)| {
            let mut column = live(&[(*name, *type_text)]).remove(0);
            let encoding = encoding.parse().ok();
            column.layout = Some(Layout { encoding, distkey: *distkey, sortkey: *sortkey });
            column
        };
        columns.iter().map(column).collect()
    }

    fn options(sortkey: &[&str], distkey: Option<&str>, encodings: Encodings) -> TableOptions {
        let sortkey = sortkey.iter().map(|name| (*name).to_owned()).collect();
        TableOptions { sortkey, distkey: distkey.map(str::to_owned), encodings }
    }

    /// The statements, without comments and the table's name.
    fn sent(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> Vec<String> {
        let lines = alter_table(schema, &named("hits"), live, options);
        let change = |line: &String| line.strip_prefix("ALTER TABLE \"hits\" ").map(str::to_owned);
        lines.iter().flat_map(change).collect()
    }

    fn said(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> String {
        let lines = alter_table(schema, &named("hits"), live, options);
        let comments: Vec<String> = lines.into_iter().filter(|line| line.starts_with("--")).collect();
        comments.join("\n")
    }

    #[test]
    fn columns_are_added_and_widened_and_the_rest_is_a_comment() {
        let schema = schema(&[
            ("new", "text", "varchar(9)"),
            ("page", "text", "varchar(300)"),
            ("width", "integer", "integer"),
            ("at", "timestamp", "timestamp"),
            ("loaded", "load_time", "timestamp"),
            ("held", "text", "varchar(9)"),
        ]);
        let live = live(&[
            ("page", "character varying(255)"),
            ("width", "real"),
            ("at", "integer"),
            ("held", "character varying(8)="),
            ("extra", "date"),
        ]);
        let options = TableOptions::default();
        assert_eq!(
            sent(&schema, &live, &options),
            [
                "ADD COLUMN \"new\" varchar(9);",
                "ALTER COLUMN \"page\" TYPE varchar(300);",
                "ADD COLUMN \"loaded\" timestamp DEFAULT SYSDATE;",
            ]
        );
        let said = said(&schema, &live, &options);
        for part in [
            "-- \"page\" is character varying(255). A type is altered outside of a transaction only.\n-- Nor while",
            "-- \"width\" is real, the schema has integer: some values are altered.\n-- Redshift alters no such type",
            "-- \"at\" is integer, the schema has timestamp: Redshift refuses every value.",
            "-- Redshift alters no type of a PRIMARY KEY or of a column with a default.",
            "-- ALTER TABLE \"hits\" DROP COLUMN \"extra\";",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
    }

    #[test]
    fn keys_are_altered_only_where_the_configuration_names_them_and_the_catalog_shows_them() {
        let schema = schema(&[("a", "text", "varchar(9)"), ("b", "integer", "integer")]);
        let table = [("a", "varchar(9)", "lzo", true, 1), ("b", "integer", "az64", false, 2)];
        let live_now = stored(&table);
        let auto = |sort: &[&str], dist| options(sort, dist, Encodings::Auto);
        let none: [String; 0] = [];
        assert_eq!(sent(&schema, &live_now, &auto(&[], None)), none);
        assert_eq!(sent(&schema, &live_now, &auto(&["a", "b"], Some("a"))), none);
        assert_eq!(
            sent(&schema, &live_now, &auto(&["b", "a"], Some("b"))),
            ["ALTER COMPOUND SORTKEY (\"b\", \"a\");", "ALTER DISTKEY \"b\";"]
        );
        assert_eq!(sent(&schema, &live_now, &auto(&["a"], None)), ["ALTER COMPOUND SORTKEY (\"a\");"]);
        let unseen = live(&[("a", "varchar(9)"), ("b", "integer")]);
        assert_eq!(sent(&schema, &unseen, &auto(&["b"], Some("b"))), none);
        let missing = &live_now[..1];
        assert_eq!(
            sent(&schema, missing, &auto(&["b"], None)),
            ["ADD COLUMN \"b\" integer;", "ALTER COMPOUND SORTKEY (\"b\");"]
        );
        let kept = stored(&[("a", "super", "zstd", false, 0), ("b", "integer", "az64", false, 0)]);
        assert_eq!(sent(&schema, &kept, &auto(&["a"], Some("a"))), none);
        assert!(said(&schema, &kept, &auto(&["a"], None)).contains("\"a\" is super in the table"));
    }

    #[test]
    fn encodings_are_altered_after_the_sort_key_for_its_columns_and_before_it_for_others() {
        let schema = schema(&[
            ("a", "text", "varchar(9)"),
            ("b", "integer", "integer"),
            ("c", "integer", "integer"),
            ("d", "text", "varchar(9)"),
            ("e", "text", "varchar(9)"),
        ]);
        let table = [
            ("a", "varchar(9)", "raw", false, 1),
            ("b", "integer", "az64", false, 0),
            ("c", "integer", "az64", false, 0),
            ("d", "varchar(9)", "zstd", false, 0),
        ];
        let explicit = |sort: &[&str]| options(sort, None, Encodings::Explicit);
        assert_eq!(
            sent(&schema, &stored(&table), &explicit(&["c", "b", "e"])),
            [
                "ALTER COLUMN \"a\" ENCODE zstd;",
                "ADD COLUMN \"e\" varchar(9) ENCODE zstd;",
                "ALTER COMPOUND SORTKEY (\"c\", \"b\", \"e\");",
                "ALTER COLUMN \"b\" ENCODE az64;",
                "ALTER COLUMN \"e\" ENCODE zstd;",
            ]
        );
        // Of a column whose type is another, the encoding may be impossible.
        let other = stored(&[("a", "integer", "raw", false, 0), ("b", "char(9)", "lzo", false, 0)]);
        assert!(sent(&schema, &other, &explicit(&[])).iter().all(|line| !line.contains("\"b\" ENCODE")));
    }

    #[test]
    fn an_encoding_that_forbids_another_length_is_altered_first() {
        let mut schema = schema(&[("a", "text", "varchar(9)")]);
        let table = |encoding| stored(&[("a", "varchar(8)", encoding, false, 0)]);
        let widened = "ALTER COLUMN \"a\" TYPE varchar(9);";
        let auto = TableOptions::default();
        for fixed in ["bytedict", "runlength", "text255", "text32k"] {
            assert_eq!(
                sent(&schema, &table(fixed), &auto),
                ["ALTER COLUMN \"a\" ENCODE zstd;", widened],
                "{fixed}"
            );
        }
        assert_eq!(sent(&schema, &table("lzo"), &auto), [widened]);
        let explicit = options(&[], None, Encodings::Explicit);
        assert_eq!(
            sent(&schema, &table("bytedict"), &explicit),
            ["ALTER COLUMN \"a\" ENCODE zstd;", widened]
        );
        assert_eq!(sent(&schema, &table("lzo"), &explicit), [widened, "ALTER COLUMN \"a\" ENCODE zstd;"]);
        schema.columns[0].encoding = Some(Encoding::Text255);
        assert_eq!(sent(&schema, &table("raw"), &auto), [widened, "ALTER COLUMN \"a\" ENCODE text255;"]);
        let back = ["ALTER COLUMN \"a\" ENCODE zstd;", widened, "ALTER COLUMN \"a\" ENCODE text255;"];
        assert_eq!(sent(&schema, &table("bytedict"), &auto), back);
        assert_eq!(sent(&schema, &table("text255"), &auto), back);
        // The sort key stores it uncompressed anyhow.
        assert_eq!(
            sent(&schema, &table("bytedict"), &options(&["a"], None, Encodings::Auto)),
            ["ALTER COMPOUND SORTKEY (\"a\");", widened, "ALTER COLUMN \"a\" ENCODE text255;"]
        );
    }

    #[test]
    fn of_an_interleaved_sort_key_only_the_sort_key_is_altered_at_first() {
        let schema =
            schema(&[("a", "text", "varchar(9)"), ("b", "text", "varchar(9)"), ("c", "text", "varchar(9)")]);
        let table = [
            ("a", "varchar(9)", "raw", false, -1),
            ("b", "varchar(9)", "raw", false, 2),
            ("c", "varchar(8)", "bytedict", true, 0),
        ];
        let kept = options(&[], Some("a"), Encodings::Explicit);
        let none: [String; 0] = [];
        assert_eq!(sent(&schema, &stored(&table), &kept), none);
        let said_now = said(&schema, &stored(&table), &kept);
        assert_eq!(said_now.matches("interleaved").count(), 5, "{said_now}");
        let compound = options(&["a", "c"], Some("a"), Encodings::Explicit);
        assert_eq!(
            sent(&schema, &stored(&table), &compound),
            [
                "ALTER COMPOUND SORTKEY (\"a\", \"c\");",
                "ALTER DISTKEY \"a\";",
                "ALTER COLUMN \"c\" TYPE varchar(9);",
                "ALTER COLUMN \"c\" ENCODE zstd;",
            ]
        );
        assert!(said(&schema, &stored(&table), &compound).contains("\"b\" leaves the sort key"));
    }

    #[test]
    fn a_ledger_of_an_earlier_version_gets_the_names_and_the_columns_of_now() {
        let new = ["run", "batch_number", "content", "rows_known", "uncompared", "rows_forgotten"];
        let mut ledger: Vec<_> = wanted_by_ledger()
            .iter()
            .filter(|column| !new.contains(&column.name))
            .flat_map(|column| live(&[(column.name, &column.sql_type.to_string())]))
            .collect();
        ledger.iter_mut().filter(|column| column.name == "loaded_by").for_each(|column| {
            "loader".clone_into(&mut column.name);
        });
        assert_eq!(
            alter_ledger(&named("ledger"), &ledger),
            [
                "-- Programs of versions that call it \"loader\" load nothing from here on.",
                "ALTER TABLE \"ledger\" RENAME COLUMN \"loader\" TO \"loaded_by\";",
                "ALTER TABLE \"ledger\" ADD COLUMN \"run\" varchar(36);",
                "ALTER TABLE \"ledger\" ADD COLUMN \"batch_number\" bigint;",
                "ALTER TABLE \"ledger\" ADD COLUMN \"content\" varchar(32);",
                "ALTER TABLE \"ledger\" ADD COLUMN \"rows_known\" bigint;",
                "ALTER TABLE \"ledger\" ADD COLUMN \"uncompared\" bigint;",
                "ALTER TABLE \"ledger\" ADD COLUMN \"rows_forgotten\" bigint;",
            ]
        );
        ledger.extend(live(&[("loaded_by", "varchar(255)")]));
        let both = alter_ledger(&named("ledger"), &ledger).join("\n");
        assert!(!both.contains("RENAME") && both.contains("DROP COLUMN \"loader\""), "{both}");
    }

    #[test]
    fn the_ledger_is_compared_as_the_table_is() {
        let mut ledger: Vec<_> = wanted_by_ledger()
            .iter()
            .flat_map(|column| live(&[(column.name, &column.sql_type.to_string())]))
            .collect();
        let name = named("ledger");
        let none: [String; 0] = [];
        assert_eq!(alter_ledger(&name, &ledger), none);
        ledger.retain(|column| column.name != "rejected");
        ledger[0].type_text = "varchar(20)".to_owned();
        ledger[1].type_text = "varchar(20)".to_owned();
        ledger[2].not_null = true;
        ledger[4].type_text = "integer".to_owned();
        ledger[5].not_null = true;
        let lines = alter_ledger(&name, &ledger);
        let sent: Vec<_> = lines.iter().filter(|line| !line.starts_with("--")).collect();
        assert_eq!(
            sent,
            [
                "ALTER TABLE \"ledger\" ALTER COLUMN \"instance\" TYPE varchar(127);",
                "ALTER TABLE \"ledger\" ADD COLUMN \"rejected\" bigint;"
            ]
        );
        let said = lines.join("\n");
        assert!(said.contains("no type of a PRIMARY KEY"), "{said}");
        assert!(said.contains("\"bytes\" is integer, the schema has bigint"), "{said}");
        assert!(said.contains("\"files\" is NOT NULL") && !said.contains("\"rows_loaded\" is"), "{said}");
    }
}
