//! How fast it is: `cargo test --release -p producer speed -- --ignored --nocapture`.

use super::super::{Outcome, Transform};
use serde_json::{Value, json};
use shared::schema::Schema;
use std::time::Instant;

/// About 3 KB, as a busy site sends: 25 eVars, 12 props, some events and a product.
fn record(seed: u64) -> String {
    let mut record: Value = serde_json::from_slice(include_bytes!("example.json")).unwrap();
    record["hitIdLow"] = json!(seed);
    let text = |n: u64| format!("{}:{}:campaign value {n}", seed.wrapping_mul(n), n * 7);
    record["evars"]["evars"] = (1..=25).map(|n| (format!("eVar{}", n * 3), json!(text(n)))).collect();
    record["props"] = (1..=12).map(|n| (format!("prop{}", n * 2), json!(text(n)))).collect();
    let event = json!([{ "count": 1, "exponent": 0, "unique": "" }]);
    record["events"] = [1, 5, 12, 200, 405].iter().map(|n| (format!("event{n}"), event.clone())).collect();
    record.to_string()
}

#[test]
#[ignore = "prints a measurement"]
fn speed() {
    let records: Vec<String> = (1..=1000).map(record).collect();
    let bytes: usize = records.iter().map(String::len).sum();
    for (name, schema) in [("full", Schema::default()), ("one event", Schema::built_in(1..=1))] {
        let mut transform = Transform::new(&schema, &[]).unwrap();
        let mut row = Vec::new();
        let mut best = f64::MAX;
        for _ in 0..30 {
            let start = Instant::now();
            row.clear();
            for record in &records {
                assert!(matches!(transform.record(record.as_bytes(), &mut row), Outcome::Row { .. }));
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!(
            "{name}: {} columns, {} B records, {} B rows: {:.0} records/s, {:.0} MB/s",
            schema.columns.len(),
            bytes / records.len(),
            row.len() / records.len(),
            records.len() as f64 / best,
            bytes as f64 / best / 1e6
        );
    }
}
