//! A schema that is not the built-in one, and a table that is not the schema's.

use std::process::Output;

use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::service;
use sandbox::standins::{PASSWORD, USER, session};

use crate::world::World;

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 200,
    files_per_batch: 2,
    compression: "zstd",
};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn diff(world: &World) -> String {
    text(&service::run("ingester", &["ddl", "--diff"], &world.config).unwrap())
}

/// Each statement alone, as Redshift wants its ALTERs.
pub(crate) async fn send(world: &World, statements: &str) {
    let client = session(world.standins.redshift.addr(), USER, PASSWORD).await.unwrap();
    let code: Vec<_> = statements.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in code.join("\n").split_inclusive(';').filter(|text| !text.trim().is_empty()) {
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_diff_mends_a_table_on_which_the_ingester_refuses_to_start() {
    let world = World::new(10, &SHAPE).await;
    assert_eq!(
        diff(&world),
        "-- \"public\".\"livestream\" and \"public\".\"livestream_ledger\" are as the schema wants them.\n"
    );
    send(
        &world,
        "ALTER TABLE public.livestream DROP COLUMN pagename;
         ALTER TABLE public.livestream DROP COLUMN evar7;
         ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(10);
         ALTER TABLE public.livestream_ledger DROP COLUMN rejected;",
    )
    .await;
    let refused = service::run("ingester", &["run"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("pagename is not in the table; evar7 is not in the table"), "{said}");
    assert!(said.contains("ingester ddl --diff") && !said.contains("evar1 "), "{said}");
    let checked = service::run("ingester", &["check"], &world.config).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{}", String::from_utf8_lossy(&checked.stdout));

    let statements = diff(&world);
    let expected = "ALTER TABLE \"public\".\"livestream\" ADD COLUMN \"pagename\" varchar(255);\n\
        -- \"evar1\" is character varying(10). A type is altered outside of a transaction only.\n\
        ALTER TABLE \"public\".\"livestream\" ALTER COLUMN \"evar1\" TYPE varchar(255);\n\
        ALTER TABLE \"public\".\"livestream\" ADD COLUMN \"evar7\" varchar(255);\n\
        ALTER TABLE \"public\".\"livestream_ledger\" ADD COLUMN \"rejected\" bigint;\n";
    assert_eq!(statements, expected);
    send(&world, &statements).await;
    assert!(diff(&world).starts_with("-- \"public\".\"livestream\" and"));

    // The columns stand in another order now: COPY names them, so that rows are loaded all the same.
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    let verdict = world.finish(producer, ingester).await;
    assert!(verdict.is_clean(), "{verdict:#?}");

    send(&world, "DROP TABLE public.livestream;").await;
    let refused = service::run("ingester", &["run"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("there is no table"), "{said}");
    // Capture does not depend on the warehouse. Not before: it reads from the stream.
    let said = text(&service::run("producer", &["check"], &world.config).unwrap());
    assert!(said.contains("Livestream") && !said.contains("Redshift"), "{said}");
    assert!(diff(&world).starts_with("CREATE TABLE IF NOT EXISTS \"public\".\"livestream\" ("));
}

/// Six columns of every sort, keys and encodings named by the configuration.
fn name_keys_and_encodings(world: &World) {
    let file = world.path("schema.toml");
    let columns = [
        ("hitidlow", "hitIdLow", "unsigned", "decimal(20,0)", ""),
        ("page", "pageName", "text", "varchar(255)", ""),
        ("campaign", "campaign", "text", "varchar(64)", "encoding = 'text255'"),
        ("at", "receivedTimeGMT", "timestamp", "timestamp", ""),
        ("width", "browserWidth", "integer", "integer", ""),
        ("visits", "visitNum", "integer", "integer", ""),
    ];
    let columns = columns.map(|(name, path, kind, sql_type, encoding)| {
        format!(
            "[[column]]\nname = '{name}'\npath = '{path}'\nkind = '{kind}'\ntype = '{sql_type}'\n{encoding}\n"
        )
    });
    std::fs::write(&file, columns.concat()).unwrap();
    let config = std::fs::read_to_string(&world.config).unwrap();
    let keys = "[redshift]\nsortkey = ['at', 'hitidlow']\ndistkey = 'hitidlow'\nencodings = 'explicit'\n";
    let config = config.replace("[redshift]\n", keys) + &format!("\n[schema]\nfile = '{}'\n", file.display());
    std::fs::write(&world.config, config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_diff_mends_keys_encodings_and_lengths_and_what_still_loads_is_a_warning() {
    let world = World::new(10, &SHAPE).await;
    name_keys_and_encodings(&world);
    send(
        &world,
        "DROP TABLE public.livestream;
         CREATE TABLE public.livestream (hitidlow decimal(20,0) ENCODE zstd, page varchar(100) ENCODE bytedict,
             campaign varchar(9) ENCODE text255, at timestamp ENCODE az64, width integer ENCODE raw)
             DISTKEY (page) SORTKEY (width, page);
         DROP TABLE public.livestream_ledger;
         CREATE TABLE public.livestream_ledger (batch_id varchar(36) PRIMARY KEY, instance varchar(20),
             rows_loaded bigint, rows_quarantined bigint, bytes bigint, files integer, schema_fingerprint varchar(16),
             first_received timestamp, last_received timestamp, copy_query_id bigint, loaded_at timestamp,
             loader varchar(255), received bigint, duplicates bigint, filtered bigint);",
    )
    .await;
    let statements = diff(&world);
    let sent: Vec<_> = statements.lines().filter(|line| !line.starts_with("--")).collect();
    let (table, ledger) =
        ("ALTER TABLE \"public\".\"livestream\"", "ALTER TABLE \"public\".\"livestream_ledger\"");
    let expected = [
        // Before its length can be altered. It leaves the sort key, too.
        format!("{table} ALTER COLUMN \"page\" ENCODE zstd;"),
        format!("{table} ALTER COLUMN \"page\" TYPE varchar(255);"),
        format!("{table} ALTER COLUMN \"campaign\" ENCODE zstd;"),
        format!("{table} ALTER COLUMN \"campaign\" TYPE varchar(64);"),
        format!("{table} ALTER COLUMN \"campaign\" ENCODE text255;"),
        format!("{table} ALTER COLUMN \"width\" ENCODE az64;"),
        format!("{table} ADD COLUMN \"visits\" integer ENCODE az64;"),
        format!("{table} ALTER COMPOUND SORTKEY (\"at\", \"hitidlow\");"),
        format!("{table} ALTER DISTKEY \"hitidlow\";"),
        // The sort key stored it uncompressed.
        format!("{table} ALTER COLUMN \"hitidlow\" ENCODE az64;"),
        format!("{ledger} RENAME COLUMN \"loader\" TO \"loaded_by\";"),
        format!("{ledger} ALTER COLUMN \"instance\" TYPE varchar(127);"),
        format!("{ledger} ADD COLUMN \"rejected\" bigint;"),
        format!("{ledger} ADD COLUMN \"quarantine\" varchar(16);"),
        format!("{ledger} ADD COLUMN \"run\" varchar(36);"),
        format!("{ledger} ADD COLUMN \"batch_number\" bigint;"),
        format!("{ledger} ADD COLUMN \"content\" varchar(32);"),
        format!("{ledger} ADD COLUMN \"rows_known\" bigint;"),
        format!("{ledger} ADD COLUMN \"uncompared\" bigint;"),
        format!("{ledger} ADD COLUMN \"rows_forgotten\" bigint;"),
    ];
    assert_eq!(sent, expected, "{statements}");
    send(&world, &statements).await;
    let mended =
        "-- \"public\".\"livestream\" and \"public\".\"livestream_ledger\" are as the schema wants them.\n";
    assert_eq!(diff(&world), mended);

    // Types into which COPY loads what it can.
    send(
        &world,
        "ALTER TABLE public.livestream DROP COLUMN page;
         ALTER TABLE public.livestream ADD COLUMN page char(20);
         ALTER TABLE public.livestream DROP COLUMN width;
         ALTER TABLE public.livestream ADD COLUMN width real;",
    )
    .await;
    let mut ingester = world.start("ingester");
    let warned = |said: &str| said.matches("will go to quarantine").count();
    for _ in 0..100 {
        ingester.look().unwrap();
        if warned(&ingester.said()) > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let said = ingester.said();
    assert_eq!(warned(&said), 1, "{said}");
    assert!(said.contains("page is character(20) in the table"), "{said}");
    assert!(said.contains("altered by their type in the table: width is real"), "{said}");
    ingester.stop(std::time::Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_knows_its_instance_its_batch_and_when_it_was_loaded() {
    let world = World::new(3_000, &SHAPE).await;
    let file = world.path("schema.toml");
    let columns = [
        ("instance", "instance", "varchar(64)"),
        ("batch_id", "batch", "varchar(36)"),
        ("loaded_at", "load_time", "timestamp"),
    ];
    let columns = columns.map(|(name, kind, sql_type)| {
        format!("[[column]]\nname = '{name}'\nkind = '{kind}'\ntype = '{sql_type}'\n")
    });
    let drop = "drop = ['event11..event1000', 'evar51..evar250']";
    std::fs::write(&file, format!("mode = 'extend'\n{drop}\n{}", columns.concat())).unwrap();
    let mut config = std::fs::read_to_string(&world.config).unwrap();
    config += &format!("\n[schema]\nfile = '{}'\n", file.display());
    std::fs::write(&world.config, config).unwrap();
    let statements = diff(&world);
    assert!(statements.contains("ADD COLUMN \"loaded_at\" timestamp DEFAULT SYSDATE;"), "{statements}");
    send(&world, &statements).await;

    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    let verdict = world.finish(producer, ingester).await;
    assert!(verdict.is_clean(), "{verdict:#?}");
    let count = async |sql: &str| -> i64 { world.judge.query_one(sql, &[]).await.unwrap().get(0) };
    let batches = count(&format!("SELECT count(*) FROM {LEDGER}")).await;
    assert!(batches > 2, "{batches}");
    let agree = "SELECT count(*) FROM public.livestream_ledger l WHERE rows_loaded > 0 AND rows_loaded =
                 (SELECT count(*) FROM public.livestream t WHERE t.batch_id = l.batch_id
                  AND t.instance = 'sandbox-1' AND t.loaded_at BETWEEN l.loaded_at - interval '5 minutes' AND l.loaded_at)";
    assert_eq!(count(agree).await, batches);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_printed_and_explains_a_record() {
    let world = World::new(10, &SHAPE).await;
    let table = text(&service::run("producer", &["schema"], &world.config).unwrap());
    assert!(table.lines().any(|line| line.starts_with("evar250 ")), "{table}");
    let json = text(&service::run("producer", &["schema", "--json"], &world.config).unwrap());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["columns"].as_array().unwrap().len(), 1413);
    let record = world.path("record.json");
    std::fs::write(&record, r#"{"pageName": "a~b", "browserWidth": "wide", "hitIdHigh": 1, "hitIdLow": 2}"#)
        .unwrap();
    let explain = ["schema", "--explain", record.to_str().unwrap()];
    let explained = text(&service::run("producer", &explain, &world.config).unwrap());
    assert!(explained.contains("integer cannot hold it as it was sent, so NULL"), "{explained}");
    assert!(explained.ends_with("Outcome: a row; hit id 1 2, received none\n"), "{explained}");
}
