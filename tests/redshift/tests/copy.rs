//! COPY from S3.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{HOW, gzip, start, zstd};

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_loads_and_counts() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id decimal(20,0) NOT NULL, name varchar(20), at timestamp, ok boolean, doc super)").await;
    world.put(
        "in/0.csv",
        b"1~plain~2024-01-02 03:04:05.678~t~\n2~\"a ~ \"\"b\"\"\nc\"~~~\"{\"\"k\"\": 1}\"\r\n",
    );
    world.put("in/1.csv", b"3~\"\"~~no~\n");
    world.put_manifest("in/manifest.json", &[("in/0.csv", true), ("in/1.csv", true), ("in/gone.csv", false)]);
    session.ok("BEGIN").await;
    session.ok(&format!("COPY t (id, name, at, ok, doc) FROM 's3://bucket/in/manifest.json' {HOW} MANIFEST TIMEFORMAT 'auto' COMPUPDATE OFF STATUPDATE OFF")).await;
    assert_eq!(session.one("SELECT pg_last_copy_count() AS loaded").await, "3");
    assert!(session.one("SELECT pg_last_copy_id()").await.parse::<i64>().unwrap() > 0);
    session.ok("COMMIT").await;
    assert_eq!(
        *session.notices.lock().unwrap(),
        ["INFO: Load into table 't' completed, 3 record(s) loaded successfully."]
    );
    let rows = session.ok("SELECT id, name, at, ok, doc FROM t ORDER BY id").await;
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(rows[0], [text("1"), text("plain"), text("2024-01-02 03:04:05.678"), text("t"), None]);
    assert_eq!(rows[1], [text("2"), text("a ~ \"b\"\nc"), None, None, text("{\"k\": 1}")]);
    assert_eq!(rows[2], [text("3"), None, None, text("f"), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_load_and_damaged_ones_do_not() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int)").await;
    let two = |one: fn(&[u8]) -> Vec<u8>| [one(b"1\n2\n"), one(b"3\n")].concat();
    world.put("gz/0", &two(gzip));
    world.put("zst/0", &two(zstd));
    session.ok(&format!("COPY t FROM 's3://bucket/gz/' {HOW} GZIP")).await;
    session.ok(&format!("COPY t FROM 's3://bucket/zst/' {HOW} ZSTD")).await;
    assert_eq!(session.one("SELECT count(*) FROM t").await, "6");

    let whole = zstd(&b"12345\n".repeat(50_000));
    world.put("cut/0", &whole[..whole.len() - 5]);
    world.put("cutgz/0", &gzip(b"1\n2\n")[..20]);
    for (prefix, option) in [("cut/", "ZSTD"), ("cutgz/", "GZIP"), ("gz/", "ZSTD"), ("zst/", "GZIP")] {
        let message = session.internal(&format!("COPY t FROM 's3://bucket/{prefix}' {HOW} {option}")).await;
        assert!(message.contains("failed to inflate"), "{message}");
    }
    assert_eq!(session.one("SELECT count(*) FROM t").await, "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_fails_the_load_and_its_record_survives_the_rollback() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id smallint, name varchar(3))").await;
    world.put("in/0.csv", b"1~abc\n2~abcd\n99999~x\n3~ok\n");
    session.ok("BEGIN").await;
    let message = session.internal(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW}")).await;
    assert_eq!(message, "Load into table 't' failed.  Check 'stl_load_errors' system table for details.");
    assert_eq!(session.error("SELECT 1").await.0, "25P02");
    session.ok("ROLLBACK").await;
    let rows = session
        .ok("SELECT trim(filename), line_number, trim(colname), trim(type), trim(col_length), err_code, trim(err_reason), trim(raw_line), trim(raw_field_value) FROM stl_load_errors")
        .await;
    let row: Vec<&str> = rows[0].iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(
        row,
        [
            "s3://bucket/in/0.csv",
            "2",
            "name",
            "varchar",
            "3",
            "1204",
            "String length exceeds DDL length",
            "2~abcd",
            "abcd"
        ]
    );
    let padded = session.one("SELECT col_length FROM stl_load_errors").await;
    assert_eq!(padded, "3         ");
    assert_eq!(session.one("SELECT trim(column_name) FROM sys_load_error_detail").await, "name");
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0");

    session.ok(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW} NOLOAD MAXERROR 10")).await;
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0");
    session.ok(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW} MAXERROR 3")).await;
    assert_eq!(session.one("SELECT count(*) FROM t").await, "2");
    assert!(
        session
            .notices
            .lock()
            .unwrap()
            .iter()
            .any(|notice| notice.contains("2 record(s) could not be loaded"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_forbidden_is_named_as_redshift_names_it() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int)").await;
    world.put("in/0.csv", b"1\n");
    world.put_manifest("m/hole.json", &[("in/0.csv", true), ("in/gone.csv", true)]);
    world.put_manifest("m/none.json", &[("in/gone.csv", false)]);
    world.put_manifest("m/twice.json", &[("in/0.csv", true), ("in/0.csv", true)]);
    world.put("m/bad.json", b"{}{}");
    let copy = |rest: &str| format!("COPY t FROM 's3://bucket/{rest}");

    let (state, message, detail) = session.error(&copy(&format!("m/hole.json' {HOW} MANIFEST"))).await;
    assert_eq!(state, "XX000");
    assert!(
        message
            .starts_with("S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey,"),
        "{message}"
    );
    assert!(message.ends_with("CanRetry 1"));
    for line in ["error:", "code:      8001", "context:", "query:", "location:", "process:"] {
        assert!(detail.contains(line), "{detail}");
    }
    let message = session.internal(&copy(&format!("m/gone.json' {HOW} MANIFEST"))).await;
    assert!(message.starts_with("Problem reading manifest file - S3ServiceException:"), "{message}");
    assert!(message.contains("Status 404"));
    for (rest, expected) in [
        ("m/none.json' HOW MANIFEST", "None of the files"),
        ("m/bad.json' HOW MANIFEST", "Problem reading manifest file"),
        ("m/' HOW MANIFEST", "requires full path of an S3 object"),
        ("void/' HOW", "The specified S3 prefix 'void/' does not exist"),
        ("in/' FORMAT CSV", "required but not specified"),
        ("in/' IAM_ROLE 'arn:aws:iam::1:role/x' FORMAT CSV", "Not authorized to get credentials of role"),
        ("in/' IAM_ROLE default REGION 'us-east-1' FORMAT CSV", "Status 301,Error PermanentRedirect"),
        ("in/' IAM_ROLE default", "without FORMAT CSV"),
        ("in/' IAM_ROLE default CSV ESCAPE", "refuses"),
        ("in/' IAM_ROLE default CSV IGNOREHEADER 1", "COPY parameter IGNOREHEADER 1"),
    ] {
        let message = session.internal(&copy(&rest.replace("HOW", HOW))).await;
        assert!(message.contains(expected), "{rest}: {message}");
    }
    let message = session.internal(&format!("COPY nothing FROM 's3://bucket/in/' {HOW}")).await;
    assert_eq!(message, "Cannot COPY into nonexistent table nothing");

    session.ok(&copy(&format!("m/twice.json' {HOW} MANIFEST"))).await;
    session.ok("COPY t FROM 's3://bucket/in/' IAM_ROLE default CSV").await;
    assert_eq!(session.one("SELECT count(*) FROM t").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_fields_are_null_or_empty_strings_as_told() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (n int, a varchar(9), b varchar(9))").await;
    world.put("in/0.csv", b",,\"\"\n\"\",x,\n");
    session.ok("COPY t FROM 's3://bucket/in/' IAM_ROLE default CSV").await;
    assert_eq!(session.one("SELECT count(*) FROM t WHERE n IS NULL AND b = '' AND a IS NOT NULL").await, "2");
    session.ok("DELETE FROM t").await;
    session.ok("COPY t FROM 's3://bucket/in/' IAM_ROLE default CSV EMPTYASNULL").await;
    assert_eq!(session.one("SELECT count(*) FROM t WHERE n IS NULL AND b IS NULL").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_lines_reach_the_table_whole() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (a varchar(20))").await;
    world.put("in/0.csv", b"\\.\nb\rc\n\\N\n\"x\r\ny\"\n \"z\" \n");
    session.ok("COPY t FROM 's3://bucket/in/' IAM_ROLE default CSV").await;
    let values: Vec<String> =
        session.ok("SELECT a FROM t").await.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(values, ["\\.", "b\rc", "\\N", "x\r\ny", "z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_alter_values_alter_them_as_documented_and_nothing_else() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int, name varchar(6), amount decimal(5,1))").await;
    world.put("in/0.csv", b"1~\"a b  \"~1.25\n2~  ~-99.95\n3~toolong~9999.94\n4~\xff~2\n");
    let loaded = async |options: &str| {
        session.ok("TRUNCATE t").await;
        session.ok(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW} {options}")).await;
        let rows = session.ok("SELECT name, amount FROM t ORDER BY id").await;
        let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".to_owned());
        rows.iter().map(|row| format!("{}|{}", cell(&row[0]), cell(&row[1]))).collect::<Vec<_>>()
    };
    let lenient = "TRUNCATECOLUMNS ACCEPTINVCHARS '^'";
    assert_eq!(loaded(lenient).await, ["a b  |1.2", "  |-99.9", "toolon|9999.9", "^|2.0"]);
    assert_eq!(
        loaded(&format!("{lenient} ROUNDEC TRIMBLANKS STATUPDATE ON COMPUPDATE PRESET")).await,
        ["a b|1.3", "|-100.0", "toolon|9999.9", "^|2.0"]
    );
    assert_eq!(
        loaded(&format!("{lenient} BLANKSASNULL COMPUPDATE ON")).await,
        ["a b  |1.2", "NULL|-99.9", "toolon|9999.9", "^|2.0"]
    );
    world.put("in/0.csv", b"1~a~9999.95\n");
    let overflow = session.internal(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW} ROUNDEC")).await;
    assert!(overflow.contains("Load into table 't' failed"), "{overflow}");
    for unknown in
        ["FILLRECORD", "ESCAPE", "IGNOREHEADER 1", "ACCEPTANYDATE", "REMOVEQUOTES", "TRUNCATECOLUMN"]
    {
        assert!(
            session.query(&format!("COPY t FROM 's3://bucket/in/0.csv' {HOW} {unknown}")).await.is_err(),
            "{unknown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_row_is_noted_and_the_detail_table_has_twenty_a_slice() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int, name varchar(3) NOT NULL)").await;
    let bad: String = (0..50).map(|n| format!("{n}~\"lo\nng\"\n{n}~ok\n")).collect();
    world.put("in/0.csv", bad.as_bytes());
    world.put("in/1.csv", b"x~ok\n1~\n");
    let no_load = format!("COPY t FROM 's3://bucket/in/' {HOW} NOLOAD MAXERROR 100000");
    session.ok(&no_load).await;
    let counts = "SELECT count(*), count(DISTINCT query), max(line_number) FROM stl_load_errors";
    let text = |values: [&str; 3]| values.map(|value| Some(value.to_owned())).to_vec();
    // A missing value is found by a load only.
    assert_eq!(session.ok(counts).await, [text(["51", "1", "148"])]);
    let details =
        "SELECT slice, count(*), max(trim(value)) FROM stl_loaderror_detail GROUP BY slice ORDER BY slice";
    assert_eq!(session.ok(details).await, [text(["0", "20", "lo\nng"]), text(["1", "1", "x"])]);
    world.redshift.ways().set_rows_as_lines(true);
    session.ok(&no_load).await;
    let latest =
        "SELECT max(line_number) FROM stl_load_errors WHERE query = (SELECT max(query) FROM stl_load_errors)";
    assert_eq!(session.one(latest).await, "99");
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0");
    let loaded = session.internal(&format!("COPY t FROM 's3://bucket/in/1.csv' {HOW} MAXERROR 2")).await;
    assert!(loaded.contains("failed"), "{loaded}");

    world.redshift.ways().set_serverless(true);
    let said = session.internal(&format!("COPY t FROM 's3://bucket/in/1.csv' {HOW}")).await;
    assert_eq!(said, "Load into table 't' failed.  Check 'sys_load_error_detail' system table for details.");
    assert_eq!(session.error("SELECT 1 FROM stl_load_errors").await.0, "42P01");
    let sys = "SELECT trim(column_name), column_length, error_code, trim(error_message) FROM sys_load_error_detail \
               ORDER BY query_id DESC LIMIT 1";
    let row = session.ok(sys).await.remove(0);
    let row: Vec<_> = row.iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(row, ["id", "0         ", "1207", "Invalid digit, Value 'x', Pos 0, Type: Integer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_of_loads_tell_the_lines_of_each_file_also_after_a_rollback() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int, name varchar(9))").await;
    world.put("in/0.csv", b"1~a\n2~b\n3~c\n");
    // Two rows on three lines.
    world.put("in/1.csv", b"4~\"d\ne\"\n5~f\n");
    session.ok(&format!("BEGIN; COPY t FROM 's3://bucket/in/' {HOW}")).await;
    let id = session.one("SELECT pg_last_copy_id()").await;
    session.ok("ROLLBACK").await;
    let stl = format!(
        "SELECT trim(filename), sum(lines_scanned), count(*) FROM stl_load_commits WHERE query = {id} GROUP BY filename ORDER BY 1"
    );
    let sys = format!(
        "SELECT trim(file_name), lines_scanned FROM sys_load_detail WHERE query_id = {id} ORDER BY 1"
    );
    let text = |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>();
    let pieces = [text(&["s3://bucket/in/0.csv", "3", "2"]), text(&["s3://bucket/in/1.csv", "3", "2"])];
    assert_eq!(session.ok(&stl).await, pieces);
    let files = [text(&["s3://bucket/in/0.csv", "3"]), text(&["s3://bucket/in/1.csv", "3"])];
    assert_eq!(session.ok(&sys).await, files);
    world.redshift.ways().set_serverless(true);
    assert!(session.error(&stl).await.1.contains("does not exist"));
    assert_eq!(session.ok(&sys).await, files);
}
