//! The page of a service, which asks the other service and opens no database.

use bytes::Bytes;
use serde_json::Value;
use shared::admin::Site;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::metrics::Page;
use state::inspect::board::{Board, Own};
use state::log::LogReader;
use state::status::feed::Owner;
use state::status::history::History;

use crate::{Place, append, now, socket};

fn board(place: &Place, log: LogReader) -> Board {
    let clock = Clock::system();
    let history = History::new(clock.clone());
    history.add(Owner::snapshot(&log).unwrap().reading());
    let (figures, missing) = (Box::new(|| Ok(Page::new("test"))), Box::new(Vec::new));
    let own = Own { config: place.config(), clock, history, figures, missing };
    Board::of_producer(own, move || Owner::snapshot(&log))
}

async fn ask(board: &Board, path: &str) -> Result<Value, Failure> {
    let answer: Result<Bytes, Failure> = board.data(path).await.unwrap();
    answer.map(|json| serde_json::from_slice(&json).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_the_page_is_what_state_dump_prints() {
    let place = Place::new();
    let (mut log, _loads) = socket::serve(&place).await;
    append(&mut log, 0..60, now());
    let board = board(&place, log.reader());
    let status = ask(&board, "/api/status").await.unwrap();
    let dump = state::inspect::dump::Dump::read(&place.config(), &Clock::system()).await.unwrap();
    let mut dump = serde_json::to_value(dump).unwrap();
    dump["at"] = status["at"].clone();
    assert_eq!(status, dump);

    let batch = status["producer"]["snapshot"]["batches"][0]["batch"].as_str().unwrap();
    let one = ask(&board, &format!("/api/batch/{}", &batch[..18])).await.unwrap();
    assert_eq!((one["batch"].as_str(), one["timeline"][0]["event"].as_str()), (Some(batch), Some("opened")));
    for (id, exit) in [("nothing", Exit::Usage), ("019caeda-ca6f", Exit::NoInput)] {
        assert_eq!(ask(&board, &format!("/api/batch/{id}")).await.unwrap_err().exit(), exit, "{id}");
    }
    assert!(board.data("/api/else").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_silent_and_its_database_stays_closed() {
    let place = Place::new();
    // In the hands of nobody who answers: a question that opened it would wait.
    let _loads = state::loads::LoadDatabase::open(&place.ingester()).unwrap();
    let (log, _) = state::log::Log::open(crate::settings(&place.producer()), now()).unwrap();
    let board = board(&place, log.reader());
    let status = ask(&board, "/api/status").await.unwrap();
    let ingester = &status["ingester"];
    assert!(ingester["pid"].is_null() && ingester["snapshot"].is_null(), "{ingester}");
    assert!(ingester["silent"]["why"].as_str().unwrap().contains("nobody listens on"), "{ingester}");
    assert_eq!(status["producer"]["pid"], std::process::id());

    let past = ask(&board, "/api/history").await.unwrap();
    assert_eq!((past["service"].as_str(), past["ingester"].is_null()), (Some("producer"), true));
    assert_eq!(past["producer"]["samples"].as_array().unwrap().len(), 1);
}
