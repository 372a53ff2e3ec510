//! How fast COPY is. Prints, and judges nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fmt::Write;
use std::time::Instant;

use common::{HOW, start, zstd};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_wide_rows() {
    const COLUMNS: usize = 1425;
    const ROWS: usize = 20_000;
    let world = start().await;
    let session = world.session().await;
    let kinds =
        ["varchar(255)", "varchar(1000)", "bigint", "decimal(20,0)", "timestamp", "boolean", "smallint"];
    let columns: Vec<String> = (0..COLUMNS).map(|n| format!("c{n} {}", kinds[n % kinds.len()])).collect();
    session.ok(&format!("CREATE TABLE wide ({})", columns.join(", "))).await;
    let mut bytes = 0;
    let mut manifest = Vec::new();
    for file in 0..20 {
        let mut text = String::new();
        for row in 0..ROWS / 20 {
            for column in 0..COLUMNS {
                if column > 0 {
                    text.push('~');
                }
                if column % 14 < 7 && column % 98 < 7 {
                    match column % 7 {
                        0 => write!(text, "value-{file}-{row}-{column}").unwrap(),
                        1 => write!(text, "\"a longer ~ text, {row}\"").unwrap(),
                        4 => text.push_str("2024-05-06 07:08:09"),
                        5 => text.push('1'),
                        _ => write!(text, "{}", row + column).unwrap(),
                    }
                }
            }
            text.push('\n');
        }
        bytes += text.len();
        let key = format!("in/{file}.csv.zst");
        world.put(&key, &zstd(text.as_bytes()));
        manifest.push(key);
    }
    let entries: Vec<(&str, bool)> = manifest.iter().map(|key| (key.as_str(), true)).collect();
    world.put_manifest("in/manifest.json", &entries);
    for (what, extra) in [("judged only", "NOLOAD"), ("loaded", "")] {
        let began = Instant::now();
        let before = cpu_seconds();
        session
            .ok(&format!(
                "COPY wide FROM 's3://bucket/in/manifest.json' {HOW} MANIFEST ZSTD TIMEFORMAT 'auto' {extra}"
            ))
            .await;
        let (time, ours) = (began.elapsed().as_secs_f64(), cpu_seconds() - before);
        eprintln!(
            "{what}: {ROWS} rows of {} bytes in {time:.2} s = {:.0} rows/s, {:.1} MB/s, our CPU {ours:.2} s",
            bytes / ROWS,
            ROWS as f64 / time,
            bytes as f64 / time / 1e6,
        );
    }
    assert_eq!(session.one("SELECT count(*) FROM wide").await, ROWS.to_string());
}

/// User and system time of this process, S3 included; 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
