//! One turn: a stream, until the rows of every batch that was sealed meanwhile are in the table.

use std::cell::Cell;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bench::machine::Usage;
use bench::schema_of_75;
use bench::stand_ins::announced;
use bench::world::World;
use state::log::BatchStatus;

use crate::batching::Batching;
use crate::livestream::{Pace, Stream};
use crate::reader::Reader;
use crate::stand_ins::{self, Saw, millis};

/// About so many hits are followed, if there are as many.
const FOLLOWED: u64 = 2_000;
/// A batch that was sealed is in the table within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a turn showed.
pub(crate) struct Taken {
    /// Of each followed hit, milliseconds from the socket to the table.
    pub(crate) latencies: Vec<f64>,
    /// Milliseconds of each COPY.
    pub(crate) copies: Vec<f64>,
    pub(crate) batches: u64,
    /// Write requests to S3.
    pub(crate) writes: u64,
    /// By how many milliseconds the stream was late at most.
    pub(crate) late: f64,
    /// The longest time between two answers to the reader, in milliseconds.
    pub(crate) blind: f64,
    /// Cores that others had meanwhile.
    pub(crate) others: f64,
}

pub(crate) async fn turn(stream: &Stream, batching: &Batching) -> Taken {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let seconds = batching.seconds(stream.rate);
    let mut process = stand_ins::start(dir.path(), stream, seconds);
    let endpoints = announced(dir.path()).unwrap();
    let schema = schema_of_75().unwrap();
    let world = World::new(dir.path(), &endpoints, &schema, &[batching.fragment]).await.unwrap();
    let sent = stream.rate * seconds;
    let one_in = (sent / FOLLOWED).max(1);
    let mut reader = Reader::new(&world.table, &stream.generator, sent, one_in).await;
    let mut ingester = world.ingester().await.unwrap();
    let mut producer = world.producer().unwrap();
    process.hear().unwrap();

    let before = Usage::now();
    process.tell(b'g').unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        reader.step().await;
    }
    producer.look().unwrap();
    ingester.look().unwrap();
    // The producer may let its answer wait for most of a second: the reader goes on meanwhile.
    let answered = Cell::new(false);
    let ask = async {
        let sealed = sealed(&world).await;
        answered.set(true);
        sealed
    };
    let read = async {
        while !answered.get() {
            reader.step().await;
        }
    };
    let (sealed, ()) = tokio::join!(ask, read);
    assert!(sealed > 0, "no batch was sealed within {seconds} s");
    while !reader.has_seen(sealed) {
        assert!(begun.elapsed() < Duration::from_secs(seconds) + PATIENCE, "{}", ingester.said());
        reader.step().await;
    }
    let others = Usage::now().cores_of_others(&before);
    let blind = millis(reader.longest);
    let seen: Vec<_> = reader.seen(sealed).collect();
    // The mark of the ledger has no instance.
    let batches = world.number("SELECT count(instance) FROM public.livestream_ledger").await.unwrap();
    drop((producer, ingester));
    let Saw { pieces, late, copies, writes } = serde_json::from_str(&process.end().unwrap()).unwrap();
    let pace = Pace::of(stream.rate);
    let latency = |(index, at): (u64, std::time::SystemTime)| {
        let written = UNIX_EPOCH + Duration::from_nanos(pieces[pace.piece_of(index)]);
        millis(at.duration_since(written).unwrap())
    };
    Taken { latencies: seen.into_iter().map(latency).collect(), copies, batches, writes, late, blind, others }
}

/// Rows of the stream that are in batches which are sealed. They come in the order of the stream, so these are its first ones.
async fn sealed(world: &World) -> u64 {
    let snapshot = world.snapshot().await.unwrap();
    let filling = snapshot.batches.iter().filter(|batch| batch.status == BatchStatus::Filling);
    snapshot.totals.rows - filling.map(|batch| batch.rows).sum::<u64>()
}
