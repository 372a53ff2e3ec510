//! The Python loop (`daemon.py` beside this file), as a process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shared::schema::Schema;

use crate::way::Taken;

const SCRIPT: &str = include_str!("daemon.py");

/// Lets it read so many records of a gzip file into rows of the schema.
pub(crate) fn turn(gzip: &Path, schema: &Schema, records: u64) -> Taken {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let columns = dir.path().join("columns.json");
    fs::write(&columns, columns_of(schema)).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).args([gzip, &columns]).arg(records.to_string()).arg(dir.path());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["records"], records);
    let time = |name: &str| Duration::from_secs_f64(said[name].as_f64().unwrap());
    Taken {
        records,
        text_bytes: said["bytes"].as_u64().unwrap(),
        time: time("seconds"),
        cpu: time("cpu"),
        peak_memory: said["peak_kib"].as_u64().unwrap() << 10,
        ..Taken::default()
    }
}

fn columns_of(schema: &Schema) -> String {
    let of_record = schema.columns.iter().filter(|column| column.kind.is_from_record());
    let columns = of_record.map(|column| {
        let paths: Vec<_> = column.paths.iter().map(|path| json!(path.keys())).collect();
        json!([column.kind.name(), paths])
    });
    json!(columns.collect::<Vec<_>>()).to_string()
}
