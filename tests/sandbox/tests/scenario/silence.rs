//! Redshift falls silent, or takes too long: it is noticed, ended and settled.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redshift::{Fault, Kind};
use sandbox::config::Shape;
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{World, assert_clean};

/// What becomes of connections that are open when it changes; later ones work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Works,
    /// The other side answers nothing, but its kernel confirms what arrives.
    Silent,
    /// The other side is gone without a word: not even its kernel confirms anything.
    Dead,
}

/// Stands between the ingester and Redshift.
struct Wire {
    at: SocketAddr,
    line: watch::Sender<Line>,
}

impl Wire {
    async fn to(redshift: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let line = watch::Sender::new(Line::Works);
        let told = line.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(redshift).await.unwrap();
                tokio::spawn(carry(client, server, told.subscribe()));
            }
        });
        Self { at, line }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut line: watch::Receiver<Line>) {
    line.mark_unchanged();
    let changed = async {
        if line.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        () = changed => {}
    }
    if *line.borrow() == Line::Dead {
        // BPF_RET | BPF_K, 0: the kernel drops every segment that comes, before TCP sees it.
        SockRef::from(&client).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
        // Redshift would notice too, by probes of its own: its session ends, the client is told nothing.
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(server);
        tokio::time::sleep(Duration::from_secs(300)).await;
    } else {
        // Redshift keeps its session, and the lock, until the client closes the connection.
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        drop(server);
    }
}

fn shape() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 5, ..Shape::default() }
}

/// A world whose ingester reaches Redshift over a wire, with these changes to its configuration.
async fn wired(changes: &[(&str, &str)]) -> (World, Wire) {
    let world = World::new(1_000, &shape()).await;
    let redshift = world.standins.redshift.addr();
    let wire = Wire::to(redshift).await;
    let port = |at: SocketAddr| format!("port = {}\n", at.port());
    let text = std::fs::read_to_string(&world.config).unwrap();
    let text = text.replace(&port(redshift), &port(wire.at));
    let text = changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
    std::fs::write(&world.config, text).unwrap();
    (world, wire)
}

/// Cuts the line during a COPY; says after which time the ingester noticed, with `words`.
async fn cut(world: &World, wire: &Wire, how: Line, words: &str) -> Duration {
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(100)));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let copying = async || faults.pending() == 0;
    world.until("a COPY under way", &mut [&mut producer, &mut ingester], copying).await;
    let begun = Instant::now();
    wire.line.send(how).unwrap();
    let said = world.path("logs").join("ingester.out");
    let noticed = async || std::fs::read_to_string(&said).unwrap().contains(words);
    world.until(words, &mut [&mut producer, &mut ingester], noticed).await;
    let after = begun.elapsed();
    assert_clean(&world.finish(producer, ingester).await);
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_without_a_word_is_noticed_within_a_minute_during_a_copy() {
    let (world, wire) = wired(&[]).await;
    let after = cut(&world, &wire, Line::Dead, "not loaded, trying again: COPY: ").await;
    assert!((20..60).contains(&after.as_secs()), "{after:?}");
    println!("a dead peer was noticed after {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_answer_is_given_up_soon_after_its_time_limit() {
    let limit = ("[redshift]", "[redshift]\nstatement_timeout = \"1s\"");
    let (world, wire) = wired(&[limit]).await;
    // The stand-in would end the statement too, but nobody hears of it.
    let after = cut_at_once(&world, &wire).await;
    assert!((28..45).contains(&after.as_secs()), "{after:?}");
}

/// As [`cut`], but the line is silent before the COPY, so that its end is not heard of either.
async fn cut_at_once(world: &World, wire: &Wire) -> Duration {
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Lock, Duration::from_millis(900)));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let locking = async || faults.pending() == 0;
    world.until("a LOCK under way", &mut [&mut producer, &mut ingester], locking).await;
    let begun = Instant::now();
    wire.line.send(Line::Silent).unwrap();
    let said = world.path("logs").join("ingester.out");
    let words = "no answer long after redshift.statement_timeout";
    let noticed = async || std::fs::read_to_string(&said).unwrap().contains(words);
    world.until(words, &mut [&mut producer, &mut ingester], noticed).await;
    let after = begun.elapsed();
    assert_clean(&world.finish(producer, ingester).await);
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_ended_by_the_limit_of_its_session() {
    let world = World::new(1_000, &shape()).await;
    world.configure("[redshift]", "[redshift]\nstatement_timeout = \"2s\"");
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(100)));
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let said = std::fs::read_to_string(world.path("logs").join("ingester.out")).unwrap();
    assert!(said.contains("cancelled on user's request"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_during_a_copy_the_ingester_cancels_it_and_loads_it_once_later() {
    let world = World::new(1_000, &shape()).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, format!("{text}\n[shutdown]\ntimeout = \"4s\"\n")).unwrap();
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(100)));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let copying = async || faults.pending() == 0;
    world.until("a COPY under way", &mut [&mut producer, &mut ingester], copying).await;
    assert_eq!(faults.cancels(), 0);
    let begun = Instant::now();
    ingester.stop(Duration::from_secs(8)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(4_500), "{:?}", begun.elapsed());
    // It is sent, and not answered.
    world.until("Redshift asked to end the statement", &mut [], async || faults.cancels() == 1).await;
    ingester.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_tell_the_id_of_a_copy_is_loaded_to_without_it() {
    let world = World::new(1_000, &shape()).await;
    world.standins.redshift.ways().set_copy_id_untold(true);
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let told = "SELECT count(*) FROM public.livestream_ledger WHERE copy_query_id <> -1";
    let told: i64 = world.judge.query_one(told, &[]).await.unwrap().get(0);
    assert_eq!(told, 0);
}
