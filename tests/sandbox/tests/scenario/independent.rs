//! The whole way on an S3 that nobody here wrote: moto, beside `s3s` under all the other scenarios.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adobe::Adobe;
use sandbox::config::{Shape, pipeline};
use sandbox::judge;
use sandbox::s3::{BUCKET, REGION};
use sandbox::service::{self, Service};
use sandbox::standins::{self, CLIENT_ID, CLIENT_SECRET, Endpoints, PASSWORD, USER, session};
use state::status::feed::{self, Answer};
use state::status::snapshot::ProducerSnapshot;

use crate::world::{STOP, ask, assert_clean, options};

const HITS: u64 = 4_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// moto, in a process of its own.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    fn start(folder: &Path) -> Self {
        let python = std::env::var_os("MOTO_PYTHON").expect("make independent sets MOTO_PYTHON");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/moto-server.py");
        let mut process = Command::new(python)
            .arg(script)
            .args([BUCKET, REGION])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut endpoint = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        Self { process, endpoint: endpoint.trim().to_owned() }
    }

    /// Ends it; its objects stand below the folder then.
    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make independent installs moto and runs it"]
async fn no_row_is_lost_or_doubled_on_the_s3_of_moto() {
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("s3");
    let moto = Moto::start(&objects);
    let redshift = standins::redshift(dir.path(), &moto.endpoint).await.unwrap();
    let (client_id, client_secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
    let adobe = Adobe::start(adobe::Options { client_id, client_secret, ..options(HITS) }).unwrap();
    let endpoints = Endpoints {
        token_url: adobe.token_url(),
        stream_url: adobe.stream_url(),
        redirect_host: adobe.redirect_host().to_owned(),
        s3: moto.endpoint.clone(),
        redshift: redshift.addr(),
        postgres: redshift.postgres_url().to_owned(),
    };
    let config = dir.path().join("pipeline.toml");
    let shape = Shape { records_per_file: 200, files_per_batch: 3, ..Shape::default() };
    fs::write(&config, pipeline(dir.path(), &endpoints, &shape)).unwrap();
    let ddl = service::run("ingester", &["ddl"], &config).unwrap();
    let person = session(redshift.addr(), USER, PASSWORD).await.unwrap();
    person.batch_execute(&String::from_utf8(ddl.stdout).unwrap()).await.unwrap();
    for command in [&["check"][..], &["audit", "--since", "1d"]] {
        let (ended, said) = ask(&config, command);
        assert_eq!(ended, Some(0), "{command:?}: {said}");
    }
    let logs = dir.path().join("logs");
    let start = |name: &'static str| Service::start(name, &config, &logs).unwrap();
    let (mut producer, mut ingester) = (start("producer"), start("ingester"));
    let judge = judge::connect(redshift.postgres_url()).await.unwrap();
    let generator = adobe.generator();
    let wanted = i64::try_from(generator.counts(0..HITS).hits).unwrap();
    let begun = Instant::now();
    let mut killed = false;
    loop {
        producer.look().unwrap();
        ingester.look().unwrap();
        let loaded = "SELECT coalesce(sum(rows_loaded), 0)::bigint FROM public.livestream_ledger";
        let loaded: i64 = judge.query_one(loaded, &[]).await.unwrap().get(0);
        if !killed && loaded > 0 {
            for service in [&mut producer, &mut ingester] {
                service.kill().unwrap();
                service.start_again().unwrap();
            }
            killed = true;
        }
        let socket = dir.path().join("producer/feed.sock");
        let waiting = feed::snapshot(&socket)
            .await
            .map_or(1, |answer: Answer<ProducerSnapshot>| answer.snapshot.rejects_waiting);
        if loaded >= wanted && killed && waiting == 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{loaded} of {wanted} rows loaded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
    let (ended, said) = ask(&config, &["audit", "--since", "1d"]);
    assert_eq!(ended, Some(0), "{said}");
    moto.end();
    assert_clean(&judge::judge(&generator, redshift.postgres_url(), &objects).await.unwrap());
    adobe.stop();
    redshift.stop().await;
}
