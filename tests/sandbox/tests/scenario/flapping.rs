//! Six hours of hits wait at Adobe, three connections read them, and one of them breaks once a minute, while to read all
//! that Adobe holds takes longer than a minute: in seconds, so that a run ends soon.
//!
//! ```text
//!                      held              read again by 3, by 2    breaks after    lives
//! in hours             6 h of hits       2 min, 3 min             1 min           for days
//! here                 20,000 hits       2.7 s, 4.3 s             1.5 s           36 s
//! ```

use std::time::{Duration, Instant};

use adobe::Plan;
use sandbox::config::Shape;

use crate::world::{World, assert_clean, options};

/// What Adobe holds, and what waits when the producer starts.
const HELD: u64 = 20_000;
/// Hits per second that happen meanwhile.
const RATE: u64 = 300;
/// For so many seconds.
const SECONDS: u64 = 36;
/// Hits per second that a connection is sent at most: how long it takes to read them again must not depend on the
/// machine.
const PER_CONNECTION: u64 = 2_500;
const BREAKS_AFTER: Duration = Duration::from_millis(1_500);

/// Hits that are at the live edge: on their way, staged, or in the next commit.
const LIVE: u64 = 2 * RATE;
/// Two connections read all that is held in 4.3 seconds; the rest is for a busy machine.
const LAG: Duration = Duration::from_secs(12);
/// The connection that breaks stays away for 3, 6 and 12 seconds.
const FIRST: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_again_and_again_keeps_nobody_from_the_live_edge_and_costs_no_hit() {
    let hits = HELD + SECONDS * RATE;
    let plan = Plan { excluded_per_mille: 0, ..options(hits).plan };
    let adobe = adobe::Options {
        plan,
        rate: Some(RATE),
        backlog: HELD,
        hold: HELD,
        connection_rate: Some(PER_CONNECTION),
        flapping: Some(BREAKS_AFTER),
        ..options(hits)
    };
    let connections = "[adobe]\nmax_connections = 3\nconnections = 3\nretry_max = \"1s\"\n";
    let configure = |text: &str| text.replace("[adobe]\n", connections);
    let world = World::altered(adobe, &Shape::default(), configure, None).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));

    let begun = Instant::now();
    let (mut live, mut longest, mut first) = (begun, Duration::ZERO, None);
    loop {
        let head = world.standins.adobe.sent();
        if head >= hits {
            break;
        }
        let rows = world.snapshot().await.map_or(0, |snapshot| snapshot.totals.rows);
        if rows + LIVE >= head {
            if first.is_some() {
                longest = longest.max(live.elapsed());
            }
            first.get_or_insert(begun.elapsed());
            live = Instant::now();
        }
        let bound = if first.is_some() { LAG } else { FIRST };
        assert!(
            live.elapsed() < bound,
            "{} hits behind after {:?}: {rows} of {head}",
            head.saturating_sub(rows),
            begun.elapsed()
        );
        producer.look().unwrap();
        ingester.look().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("at the live edge after {:?}, away from it for {longest:?} at most", first.unwrap());
    let sessions = world.snapshot().await.unwrap().sessions;
    let ends = |word: &str| {
        let why = |session: &&state::log::Session| session.why.as_ref().is_some_and(|why| why.contains(word));
        sessions.iter().filter(why).count()
    };
    assert!(ends("another connection broke") >= 6, "it broke too seldom to prove anything: {sessions:?}");
    assert_clean(&world.finish(producer, ingester).await);
}
