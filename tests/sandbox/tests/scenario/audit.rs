//! `ingester audit` after a clean run, and after hands were laid on the table, the ledger and the archive.

use std::collections::BTreeMap;

use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::service;
use sandbox::standins::{PASSWORD, USER, session};
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;

use crate::world::{World, assert_clean, squeezed};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 100,
    files_per_batch: 2,
    compression: "gzip",
};

fn audit(world: &World, args: &[&str]) -> (Option<i32>, String, String) {
    let args: Vec<&str> = ["audit", "--since", "1d"].iter().chain(args).copied().collect();
    let output = service::run("ingester", &args, &world.config).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A table whose rows tell their batch.
pub(crate) async fn with_batch_column(world: &World) {
    let file = world.path("schema.toml");
    let column = "[[column]]\nname = 'batch_id'\nkind = 'batch'\ntype = 'varchar(36)'\n";
    let drop = "drop = ['event11..event1000', 'evar51..evar250']";
    std::fs::write(&file, format!("mode = 'extend'\n{drop}\n{column}")).unwrap();
    let mut config = std::fs::read_to_string(&world.config).unwrap();
    config += &format!("\n[schema]\nfile = '{}'\n", file.display());
    std::fs::write(&world.config, config).unwrap();
    let client = session(world.standins.redshift.addr(), USER, PASSWORD).await.unwrap();
    client.simple_query("ALTER TABLE public.livestream ADD COLUMN batch_id varchar(36)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_batch_on_which_hands_were_laid_is_named_and_no_other() {
    let world = World::new(1_500, &SHAPE).await;
    with_batch_column(&world).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let wanted = world.wanted();
    world.until_loaded(wanted, &mut [&mut producer, &mut ingester]).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    assert_clean(&world.end(producer, ingester).await);
    let (code, said, error) = audit(&world, &["--deep", "--hits"]);
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.contains("0  that do not add up") && said.contains("every file was read"), "{said}");
    assert!(said.contains("the rows of each batch were counted"), "{said}");
    assert!(said.contains("no hit stands more than once"), "{said}");

    let ids = format!("SELECT batch_id FROM {LEDGER} ORDER BY batch_id");
    let ids = world.judge.query(&ids, &[]).await.unwrap();
    let ids: Vec<String> = ids.iter().map(|row| row.get(0)).collect();
    assert!(ids.len() > 5, "{ids:?}");
    let alter = async |sql: String| world.judge.batch_execute(&sql).await.unwrap();
    let of = |batch: &str| format!("public.livestream WHERE batch_id = '{batch}'");
    let some = format!("SELECT ctid FROM {} LIMIT 3", of(&ids[0]));
    alter(format!("DELETE FROM public.livestream WHERE ctid IN ({some})")).await;
    alter(format!(
        "UPDATE public.livestream_ledger SET duplicates = duplicates + 1 WHERE batch_id = '{}'",
        ids[1]
    ))
    .await;
    alter(format!("INSERT INTO public.livestream SELECT * FROM {}", of(&ids[2]))).await;
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let archive = store.list("Ingested/", None).await.unwrap();
    let file = |batch: &str, name: &str| {
        archive.iter().find(|o| o.key.contains(batch) && o.key.ends_with(name)).unwrap().key.clone()
    };
    let gone = file(&ids[3], "/0.csv.gz");
    store.delete(&gone).await.unwrap();
    // A file of the same name and seal, with a row less: only who reads it can tell, so its seal is made to fit.
    let short = file(&ids[4], "/0.csv.gz");
    shorten(&store, &short, &file(&ids[4], "/batch.json")).await;

    let (code, said, error) = audit(&world, &["--json", "--hits"]);
    assert_eq!(code, Some(65), "{said}{error}");
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    let named = |json: &serde_json::Value| -> BTreeMap<String, Vec<String>> {
        let batches = json["batches"].as_array().unwrap().iter();
        let faults = |batch: &serde_json::Value| {
            let faults = batch["faults"].as_array().unwrap().iter();
            faults.map(|fault| fault["fault"].as_str().unwrap().to_owned()).collect()
        };
        batches.map(|batch| (batch["batch"].as_str().unwrap().to_owned(), faults(batch))).collect()
    };
    let expected = |faults: &[(usize, &str)]| -> BTreeMap<String, Vec<String>> {
        faults.iter().map(|(n, fault)| (ids[*n].clone(), vec![(*fault).to_owned()])).collect()
    };
    let hands = [(0, "table_rows"), (1, "ledger_counts"), (2, "table_rows"), (3, "object")];
    assert_eq!(named(&json), expected(&hands), "{said}");
    assert!(said.contains(&format!("{gone} is missing")), "{said}");
    let doubles = json["hits"]["doubles"].as_array().unwrap();
    assert!(doubles.len() == 100 && json["hits"]["more"] == true, "{}", doubles.len());
    assert!(doubles.iter().all(|double| double["batches"][0] == ids[2] && double["batches"][1] == ids[2]));
    let (code, said, _) = audit(&world, &["--json", "--deep"]);
    assert_eq!(code, Some(65));
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    let hands = [hands.as_slice(), &[(4, "file_rows")]].concat();
    assert_eq!(named(&json), expected(&hands), "{said}");
}

/// Takes the last row out of a file, and has the seal say what is in S3 now, but for the rows.
async fn shorten(store: &ObjectStore, file: &str, seal: &str) {
    use std::io::{Read, Write};
    let content = store.get(file).await.unwrap();
    let mut rows = Vec::new();
    flate2::read::GzDecoder::new(&content[..]).read_to_end(&mut rows).unwrap();
    rows.pop();
    let end = rows.iter().rposition(|byte| *byte == b'\n').unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&rows[..=end]).unwrap();
    let shorter = encoder.finish().unwrap();
    let bytes = shorter.len() as u64;
    let stored = store.put(file, shorter.into()).await.unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&store.get(seal).await.unwrap()).unwrap();
    let before = json["files"][0]["bytes"].as_u64().unwrap();
    json["bytes"] = (json["bytes"].as_u64().unwrap() - before + bytes).into();
    json["files"][0]["bytes"] = bytes.into();
    json["files"][0]["crc32"] = stored.crc32.into();
    json["files"][0]["etag"] = stored.etag.into();
    store.put(seal, serde_json::to_vec(&json).unwrap().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_column_for_the_batch_the_rows_of_a_day_are_counted_together_and_the_report_says_so() {
    let world = World::new(800, &SHAPE).await;
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let (code, said, error) = audit(&world, &[]);
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.contains("the schema has no column of kind `batch`"), "{said}");
    assert!(said.contains("0  that do not add up") && said.contains("not read"), "{said}");
    let delete = "DELETE FROM public.livestream WHERE ctid IN (SELECT ctid FROM public.livestream LIMIT 3)";
    world.judge.batch_execute(delete).await.unwrap();
    let (code, said, _) = audit(&world, &[]);
    assert!(code == Some(65) && squeezed(&said).contains("3 rows are missing"), "{code:?} {said}");
    world
        .judge
        .batch_execute("INSERT INTO public.livestream SELECT * FROM public.livestream LIMIT 8")
        .await
        .unwrap();
    let (code, said, _) = audit(&world, &["--hits"]);
    assert!(code == Some(65) && squeezed(&said).contains("5 rows are too many"), "{code:?} {said}");
    assert!(squeezed(&said).contains("8 stand more than once"), "{said}");
}
