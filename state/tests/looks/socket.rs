//! What a running service answers, and how it refuses.

use std::path::Path;
use std::sync::Arc;

use shared::clock::Clock;
use shared::exit::Exit;
use shared::shutdown::Shutdown;
use state::inspect::dump::{BatchDump, Dump};
use state::inspect::verify::verify;
use state::loads::LoadDatabase;
use state::log::Log;
use state::status::feed::{self, Owner};
use state::store::{Change, Kind, Store, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{Place, append, now, settings, upload};

async fn serve_one(socket: &Path, owner: impl Owner) {
    let (path, shutdown) = (socket.to_owned(), Shutdown::new());
    tokio::spawn(async move { feed::serve(&path, Arc::new(owner), Clock::system(), shutdown).await });
    while UnixStream::connect(socket).await.is_err() {
        Clock::system().sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Owners of both databases that answer on their sockets until the runtime ends.
pub(crate) async fn serve(place: &Place) -> (Log, LoadDatabase) {
    let config = place.config();
    let (log, _) = Log::open(settings(&place.producer()), now()).unwrap();
    let loads = LoadDatabase::open(&place.ingester()).unwrap();
    serve_one(&config.producer_socket(), log.reader()).await;
    serve_one(&config.ingester_socket(), loads.clone()).await;
    (log, loads)
}

async fn ask(socket: &Path, question: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_running_service_answers_for_one_batch_and_verifies_itself() {
    let place = Place::new();
    let (mut log, _loads) = serve(&place).await;
    append(&mut log, 0..60, now());
    log.uploaded(0, upload(0)).unwrap();
    let config = place.config();
    let batch = log.reader().batch(0).unwrap().id;
    let dump = BatchDump::read(&config, &Clock::system(), &batch.to_string().parse().unwrap()).await.unwrap();
    assert_eq!((dump.producer.pid, dump.ingester.pid), (Some(std::process::id()), Some(std::process::id())));
    let detail = dump.producer.snapshot.clone().unwrap().unwrap();
    assert_eq!((detail.summary.files_uploaded, detail.file_list.unwrap().len()), (1, 2));
    assert!(dump.ingester.snapshot.unwrap().is_none(), "the ingester does not know it");

    // Both batches were opened at nearly the same time.
    let many = BatchDump::read(&config, &Clock::system(), &batch.to_string()[..8].parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(many.exit(), Exit::Usage);
    assert!(many.to_string().starts_with("2 batches begin with"), "{many}");
    assert!(many.to_string().contains(&batch.to_string()), "{many}");
    let none = BatchDump::read(&config, &Clock::system(), &"00000000".parse().unwrap()).await.unwrap_err();
    assert_eq!(none.exit(), Exit::NoInput);

    let verification = verify(&config, &Clock::system()).await.unwrap();
    assert_eq!((verification.producer.pid, verification.faults), (Some(std::process::id()), 0));
    let lines: Vec<_> =
        verification.producer.snapshot.unwrap().into_iter().map(|checked| checked.table).collect();
    let tables = ["meta", "chunks", "files", "batches", "hits", "rejects", "sessions"];
    assert_eq!(lines, tables);
}

#[tokio::test]
async fn an_unknown_question_is_refused_and_the_old_ones_are_answered_as_ever() {
    let place = Place::new();
    let _owners = serve(&place).await;
    let socket = place.config().producer_socket();
    for question in ["\"everything\"\n", "{\"batch\":\"x\"}\n", "{\"files\":\"019caeda\"}\n", "no json\n"] {
        let refused: serde_json::Value = serde_json::from_str(&ask(&socket, question).await).unwrap();
        assert!(refused["error"].as_str().unwrap().contains("unknown question"), "{refused}");
        assert_eq!((&refused["exit"], &refused["pid"]), (&"unavailable".into(), &std::process::id().into()));
    }
    let answer: serde_json::Value = serde_json::from_str(&ask(&socket, "\"snapshot\"\n").await).unwrap();
    assert_eq!(answer["snapshot"]["instance"], "test");
    assert_eq!(ask(&place.config().ingester_socket(), "\"follow\"\n").await, "");
}

#[tokio::test]
async fn damage_a_running_service_meets_has_the_code_it_has_when_it_is_stopped() {
    let place = Place::new();
    let break_it = || {
        let store = Store::open(&place.ingester(), Kind::Ingester, "ingester", 1 << 20, |_| Ok(())).unwrap();
        let mut change = Change::new();
        change.put_bytes(Table::Loads, &[0; 16], b"{");
        store.commit(change).unwrap();
    };
    break_it();
    let ingester = async || Dump::read(&place.config(), &Clock::system()).await.unwrap().ingester;
    let stopped = ingester().await.answered().unwrap_err();
    let (log, _) = Log::open(settings(&place.producer()), now()).unwrap();
    serve_one(&place.config().producer_socket(), log.reader()).await;
    // Opened as for a look: an ingester reads every load when it starts.
    serve_one(&place.config().ingester_socket(), LoadDatabase::open_to_read(&place.ingester()).unwrap())
        .await;
    let running = ingester().await.answered().unwrap_err();
    assert_eq!((stopped.exit(), running.exit()), (Exit::Data, Exit::Data), "{stopped}\n{running}");
    assert!(running.to_string().contains(&stopped.to_string()), "{running}");
    let verification = verify(&place.config(), &Clock::system()).await.unwrap();
    assert_eq!(verification.faults, 1);
    let mut report = Vec::new();
    let failed = verification.print(&mut report).unwrap_err();
    assert_eq!(failed.exit(), Exit::Data);
    let report = String::from_utf8(report).unwrap();
    assert!(
        report.contains("✗ ingester, loads: 1 fault\n    loads 00000000000000000000000000000000: EOF"),
        "{report}"
    );
    assert!(report.contains("✓ producer, chunks: empty"), "{report}");
}

#[tokio::test]
async fn a_service_of_an_older_version_that_hangs_up_on_a_question_is_named() {
    let place = Place::new();
    let config = place.config();
    let _log = Log::open(settings(&place.producer()), now()).unwrap();
    let listener = tokio::net::UnixListener::bind(config.producer_socket()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
        }
    });
    let failure = BatchDump::read(&config, &Clock::system(), &"019caeda".parse().unwrap()).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Unavailable);
    let said = failure.to_string();
    let pid = std::process::id();
    assert!(
        said.contains(&format!("in use by process {pid}")) && said.contains("may be of another version"),
        "{said}"
    );
}

#[tokio::test]
async fn no_more_clients_are_served_at_once_than_there_is_room_for_and_the_next_wait() {
    let place = Place::new();
    let (_log, _loads) = serve(&place).await;
    let socket = place.config().producer_socket();
    let mut silent = Vec::new();
    for _ in 0..feed::CLIENTS {
        silent.push(UnixStream::connect(&socket).await.unwrap());
    }
    let waits = tokio::time::timeout(std::time::Duration::from_millis(500), ask(&socket, "\"snapshot\"\n"));
    assert!(waits.await.is_err(), "one more was served");
    drop(silent);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), ask(&socket, "\"snapshot\"\n"));
    assert!(answer.await.unwrap().contains("\"pid\":"));
}
