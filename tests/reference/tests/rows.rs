//! Records of any shape become the rows the schema promises: read back by COPY's rules, and by PostgreSQL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reference::{Checker, every_kind};
use serde_json::{Map, Value, json};
use shared::schema::{Kind, Schema};

/// Texts rich in what matters to JSON, CSV, UTF-8 and numbers.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[~\"\r\n \t\\\\\u{0}.Naé😀]{0,12}",
        "[-+]?[0-9]{0,21}(\\.[0-9]{0,12})?([eE][-+]?[0-9]{1,3})?",
        "( ?(true|FALSE|Yes|n|1|0|NaN|null|Infinity) ?)",
        "[a-zé]{7,12}",
    ]
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-100_000_i64..100_000).prop_map(Value::from),
        (0_i64..260_000_000_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-100_000_i32..100_000, 0_i32..5)
            .prop_map(|(n, scale)| Value::from(f64::from(n) / 10_f64.powi(scale))),
    ]
}

/// Any JSON value, of a size that tests bear.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any_number(),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof!["[a-z~\u{0}\"é]{0,3}", Just("values".to_owned()), Just("delim".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn any_list() -> impl Strategy<Value = Value> {
    let values = prop_oneof![prop::collection::vec(any_json(), 0..4).prop_map(Value::from), any_json()];
    let delimiter = prop_oneof![
        (0_u32..70_000).prop_map(Value::from),
        any_text().prop_map(Value::from),
        "[~|:0-9]{0,9}".prop_map(Value::from),
        any_json(),
    ];
    (values, delimiter, any::<bool>()).prop_map(|(values, delimiter, bare)| {
        if bare { values } else { json!({ "values": values, "delim": delimiter }) }
    })
}

fn any_event() -> impl Strategy<Value = Value> {
    let count = prop_oneof![
        (-1_000_000_i64..1_000_000).prop_map(Value::from),
        (-1_000_000_i64..1_000_000).prop_map(|n| Value::from(n.to_string())),
        (-100_000_i32..100_000).prop_map(|n| Value::from(f64::from(n) / 100.0)),
        any_json(),
    ];
    let exponent =
        prop_oneof![(-6_i64..5).prop_map(Value::from), Just(json!("-2")), Just(json!(0)), any_json()];
    let term = prop_oneof![
        4 => (count, exponent).prop_map(|(count, exponent)| json!({ "count": count, "exponent": exponent, "unique": "" })),
        1 => any_json(),
    ];
    prop::collection::vec(term, 0..3).prop_map(Value::from)
}

/// A record with some of the fields of [`every_kind`], each with values that suit it and values that do not.
fn any_record() -> impl Strategy<Value = Map<String, Value>> {
    let field = |name: &'static str, value: BoxedStrategy<Value>| prop_oneof![2 => Just(None), 5 => value.prop_map(move |value| Some((name, value)))];
    let number =
        || prop_oneof![3 => any_number(), 2 => any_text().prop_map(Value::from), 1 => any_json()].boxed();
    let fields = (
        field("text", prop_oneof![any_text().prop_map(Value::from), any_json()].boxed()),
        field("list", any_list().boxed()),
        field("integer", number()),
        field("unsigned", number()),
        field("decimal", number()),
        field("boolean", prop_oneof![any_text().prop_map(Value::from), any_json()].boxed()),
        field("timestamp", number()),
        field("event_value", prop_oneof![any_event(), any_json()].boxed()),
        field("json", any_json().boxed()),
        field("strict", prop_oneof![9 => "[a~]{0,3}".prop_map(Value::from), 1 => any_json()].boxed()),
        field("other", any_json().boxed()),
    );
    (fields, any::<bool>()).prop_map(|(fields, inside)| {
        let (a, b, c, d, e, f, g, h, i, j, k) = fields;
        let all = [a, b, c, d, e, f, g, h, i, j, k].into_iter().flatten();
        let record: Map<String, Value> = all.map(|(name, value)| (name.to_owned(), value)).collect();
        // The second spelling of every path.
        if inside { Map::from_iter([("o".to_owned(), Value::Object(record))]) } else { record }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn any_record_becomes_the_row_the_schema_promises(record in any_record()) {
        let mut checker = Checker::new(&every_kind().unwrap()).unwrap();
        if let Err(fault) = checker.record(&record) {
            prop_assert!(false, "{:#}", fault);
        }
    }

    #[test]
    fn any_line_is_a_row_or_a_reject(line in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        prop::collection::vec(prop::sample::select(br#"{}[]",:\u0d8an1e-. ~tru"#.to_vec()), 0..40),
        r#"\{("(text|list|o|json|decimal|values|[\\]u006cist)" ?: ?("[a~\\]{0,3}(\\u0000|\\ud800|\\n|é)?"|[0-9.eE+-]{1,4}|\{"text": 7\}|\[1?,?"\\ud83d"\]|null|true),?){0,3}\}"#
            .prop_map(String::into_bytes),
    ]) {
        let mut checker = Checker::new(&every_kind().unwrap()).unwrap();
        if let Err(fault) = checker.line(&line) {
            prop_assert!(false, "{:#} of {}", fault, line.escape_ascii());
        }
    }
}

/// Lines that broke a reader of JSON or a writer of CSV somewhere; and each cut short, and each with a byte altered.
#[test]
fn the_corpus_and_its_mutations_become_rows_or_rejects() {
    let mut checker = Checker::new(&every_kind().unwrap()).unwrap();
    let corpus = include_str!("../corpus/lines.ndjson");
    let mut lines = 0;
    for line in corpus.lines().map(str::as_bytes) {
        let mut check = |line: &[u8]| {
            lines += 1;
            checker.line(line).unwrap_or_else(|fault| panic!("{fault:#} of {}", line.escape_ascii()));
        };
        check(line);
        for at in 0..line.len() {
            check(&line[..at]);
            for byte in *b"\"\\{}[],:0e-~ \n\0\x7f\xff" {
                let mut altered = line.to_vec();
                altered[at] = byte;
                check(&altered);
            }
        }
    }
    assert!(lines > 20_000, "{lines}");
}

/// The built-in schema, with the records of the stand-in for Adobe.
#[test]
fn generated_hits_become_rows_that_copy_takes() {
    let schema = Schema::default();
    let mut checker = Checker::new(&schema).unwrap();
    let generator = adobe::Generator::new(adobe::Plan { hits: u64::MAX, ..adobe::Plan::default() });
    let mut line = Vec::new();
    for index in 0..300 {
        line.clear();
        generator.write_hit(index, &mut line);
        checker.line(line.trim_ascii_end()).unwrap();
    }
}

/// What PostgreSQL's COPY stores is what stands in the cells, as text and in the columns' own types.
#[tokio::test]
async fn postgresql_reads_the_same_values() {
    let schema = every_kind().unwrap();
    let mut checker = Checker::new(&schema).unwrap();
    let mut judge = redshift::Judge::new(
        schema.in_row().map(|column| (column.name.as_str(), column.sql_type.to_string())),
    )
    .unwrap();
    let mut runner = TestRunner::default();
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    while expected.len() < 3_000 {
        let record = any_record().new_tree(&mut runner).unwrap().current();
        if let Some(row) = checker.record(&record).unwrap() {
            expected.extend(judge.read(&row).unwrap());
            rows.extend(row);
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let redshift = redshift::Redshift::start(redshift::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: dir.path().join("pg"),
        s3_endpoint: "http://127.0.0.1:9".to_owned(),
        s3_region: "eu-central-1".to_owned(),
        s3_access_key: "key".to_owned(),
        s3_secret_key: "secret".to_owned(),
        user: "u".to_owned(),
        password: "p".to_owned(),
        database: "d".to_owned(),
    })
    .await
    .unwrap();
    let (client, connection) = redshift.postgres_config().connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let columns: Vec<_> = schema.in_row().collect();
    let of = |types: &dyn Fn(&shared::schema::Column) -> String| {
        columns
            .iter()
            .map(|column| format!("{} {}", column.name, types(column)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    // PostgreSQL counts characters where Redshift counts bytes; `super` is checked by jsonb, but for what only
    // PostgreSQL refuses.
    let typed = of(&|column| match column.kind {
        Kind::Text | Kind::List | Kind::Json | Kind::Record | Kind::Instance => "text".to_owned(),
        _ => column.sql_type.to_string(),
    });
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    for (table, columns) in [("as_text", of(&|_| "text".to_owned())), ("typed", typed)] {
        let make = format!("CREATE TABLE {table} (n serial, {columns})");
        client.batch_execute(&make).await.unwrap();
        let copy = format!("COPY {table} ({names}) FROM STDIN (FORMAT csv, DELIMITER '~')");
        let sink = client.copy_in::<_, bytes::Bytes>(&copy).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        futures_util::SinkExt::send(&mut sink, rows.clone().into()).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), expected.len() as u64);
    }
    let stored = client.query(&format!("SELECT {names} FROM as_text ORDER BY n"), &[]).await.unwrap();
    for (row, expected) in stored.iter().zip(&expected) {
        let read: Vec<Option<String>> = (0..columns.len()).map(|column| row.get(column)).collect();
        assert_eq!(read, *expected);
    }
    assert_eq!(stored.len(), expected.len());
    for column in &columns {
        let cast = match column.kind {
            Kind::Text | Kind::List | Kind::Json | Kind::Record | Kind::Instance => "text".to_owned(),
            _ => column.sql_type.to_string(),
        };
        let name = &column.name;
        let differs = format!(
            "SELECT count(*), count(a.{name}) FROM as_text a JOIN typed t USING (n)
             WHERE a.{name}::{cast} IS DISTINCT FROM t.{name}"
        );
        let differs: i64 = client.query_one(&differs, &[]).await.unwrap().get(0);
        assert_eq!(differs, 0, "{name}");
        let filled: i64 =
            client.query_one(&format!("SELECT count({name}) FROM typed"), &[]).await.unwrap().get(0);
        assert!(filled > 30, "{name} was hardly ever filled: {filled}");
    }
    redshift.stop().await;
}
