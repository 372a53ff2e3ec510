//! The network between the services and each of their neighbours goes wrong in every way that a network can. The services must
//! say which neighbour it is, wait no longer than their limits, go on when it ends, and lose and double no row.
//!
//! `NETWORK_SECONDS` makes the second test longer, `NETWORK_SEED` says what happens (`make network`).

mod wired;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, UNIX_EPOCH};

use chrono::Utc;
use fastrand::Rng;
use sandbox::config::Shape;
use sandbox::network::Fault;
use tokio::runtime::Builder;

use crate::world::assert_clean;

use wired::{Limits, Neighbour, RATE, Wired};

/// What the services wait for, in this test.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(2),
    idle: Duration::from_secs(2),
    s3: Duration::from_millis(1_500),
};
/// Longest time until a service names a neighbour: the limits, the tries that one request takes, the back-off before, and a busy
/// machine.
const NAMED_WITHIN: Duration = Duration::from_secs(30);
/// Longest time until enough rows have come through a fault that lets some through, or its neighbour is named: each row that
/// comes through ends what has been failing, so it may be that neither happens soon.
const PASSES_ON_WITHIN: Duration = Duration::from_secs(90);
/// So long a fault that lets something through may strike nobody before a neighbour is called again.
const CALLED_AGAIN: Duration = Duration::from_secs(5);
/// Longest time from the end of a fault until rows pass again: the longest back-off is 20 s.
const PASSES_WITHIN: Duration = Duration::from_secs(40);
/// `shutdown.timeout`, and a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(12);
/// A statement whose answer was swallowed is waited for 2 s (`statement_timeout`) and 30 s; a peer that vanished, a minute.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// So many seconds of a storm meet everything that it draws.
const LONG: u64 = 1_200;

struct Case {
    name: &'static str,
    fault: Fault,
    /// Whether nothing passes while it lasts, so that it must be named.
    stops_all: bool,
}

/// A call of a webhook that is not answered waits for 20 s, which no configuration shortens: one kind of silence is enough.
const SLOW_AT_WEBHOOKS: [Fault; 4] =
    [Fault::Cable, Fault::Vanished, Fault::AnswersSwallowed, Fault::ByteWise(Duration::from_millis(20))];

fn cases(neighbour: Neighbour) -> Vec<Case> {
    let case = |name, fault, stops_all| Case { name, fault, stops_all };
    let mut cases = vec![
        case("reset", Fault::Reset, true),
        case("closed", Fault::Closed, true),
        case("cut in the server's part of the TLS handshake", Fault::CutAfter(1..600), true),
        case("cut in the client's hello", Fault::CutAsked(1..150), true),
        case("cut in heads and bodies of answers", Fault::CutAfter(1_000..4_000), false),
        case("cut in heads and bodies of requests", Fault::CutAsked(600..3_000), false),
        case("cable", Fault::Cable, true),
        case("vanished", Fault::Vanished, true),
        case("swallowed", Fault::Swallowed, true),
        case("answers swallowed", Fault::AnswersSwallowed, true),
        case("byte-wise", Fault::ByteWise(Duration::from_millis(20)), true),
        case("late, in another order", Fault::Late(Duration::from_millis(150)), false),
    ];
    let whole = neighbour != Neighbour::Webhook || std::env::var_os("NETWORK_SECONDS").is_some();
    cases.retain(|case| whole || !SLOW_AT_WEBHOOKS.contains(&case.fault));
    cases
}

#[test]
#[ignore = "make network runs it: minutes"]
fn every_fault_of_the_network_is_named_and_passes_and_costs_no_row() {
    // They wait more than they compute: a world for each neighbour, side by side, each with a runtime of its own, since calls of
    // `state dump` block.
    std::thread::scope(|scope| {
        let world = |neighbour| move || in_a_runtime(async move || strike(neighbour).await);
        let worlds = Neighbour::ALL.map(|neighbour| scope.spawn(world(neighbour)));
        worlds.into_iter().for_each(|world| world.join().unwrap());
    });
}

fn in_a_runtime(test: impl AsyncFnOnce()) {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test());
}

async fn strike(neighbour: Neighbour) {
    let shape = Shape {
        records_per_file: 100,
        files_per_batch: 2,
        max_file_age: "500ms",
        max_batch_age: "1s",
        ..Shape::default()
    };
    let mut wired = Wired::new(7, &shape, &LIMITS).await;
    wired.start("producer");
    if neighbour != Neighbour::Webhook {
        wired.start("ingester");
    }
    let begun = async |wired: &Wired| wired.progress(neighbour).await > 0;
    wired.until("it begins", PASSES_WITHIN, begun).await;
    for case in cases(neighbour) {
        strike_with(&mut wired, neighbour, &case).await;
    }
    // A stop waits for nobody who does not answer.
    wired.set(neighbour, &[Fault::Swallowed]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    wired.restart(STOPS_WITHIN).await;
    wired.set(neighbour, &[]);
    if neighbour == Neighbour::Webhook {
        // Who is asked to stop before it listens for signals is killed by them.
        let before = wired.progress(neighbour).await;
        let beats = async |wired: &Wired| wired.progress(neighbour).await > before;
        wired.until("it begins again", PASSES_WITHIN, beats).await;
        wired.stop().await;
    } else {
        assert_clean(&wired.finish(PASSES_WITHIN).await);
    }
}

async fn strike_with(wired: &mut Wired, neighbour: Neighbour, case: &Case) {
    let kind = case.fault.name();
    let struck = |wired: &Wired| wired.way(neighbour).struck().get(kind).copied().unwrap_or(0);
    let (since, struck_before, before) = (Utc::now(), struck(wired), wired.progress(neighbour).await);
    wired.set(neighbour, std::slice::from_ref(&case.fault));
    // A statement that is not answered may wait for half a minute; `silence.rs` has that.
    if case.stops_all || neighbour != Neighbour::Redshift {
        call(wired, neighbour);
    }
    let mut called = Instant::now();
    let what = format!("{neighbour:?}, {}", case.name);
    let many = if neighbour == Neighbour::Webhook { 2 } else { RATE };
    let mut passed = false;
    let within = if case.stops_all { NAMED_WITHIN } else { PASSES_ON_WITHIN };
    let named = wired
        .until(&format!("named: {what}"), within, async |wired| {
            if !case.stops_all && called.elapsed() > CALLED_AGAIN {
                called = Instant::now();
                call(wired, neighbour);
            }
            passed = !case.stops_all
                && struck(wired) > struck_before
                && wired.progress(neighbour).await > before + many;
            passed || wired.names(neighbour, since, case.stops_all)
        })
        .await;
    // What is named with its place has struck, even if nobody came in.
    assert!(case.stops_all || struck(wired) > struck_before, "{what} struck nobody");
    wired.set(neighbour, &[]);
    let goal = match neighbour {
        Neighbour::Ims | Neighbour::Front | Neighbour::Stream => wired.durable().await + 1,
        Neighbour::S3 | Neighbour::Redshift => wired.durable().await,
        Neighbour::Webhook => wired.progress(neighbour).await + 1,
    };
    let passes = async |wired: &Wired| wired.progress(neighbour).await >= goal;
    let again = wired.until(&format!("passes again: {what}"), PASSES_WITHIN, passes).await;
    let how = if passed { "passed on" } else { "named" };
    println!("{what}: {how} after {named:.1?}, as before {again:.1?} after its end");
}

/// Makes the producer or the ingester call a neighbour that is called seldom.
fn call(wired: &Wired, neighbour: Neighbour) {
    match neighbour {
        // Only who needs a token asks for one.
        Neighbour::Ims => {
            wired.world.standins.adobe.revoke_tokens();
            wired.break_off(Neighbour::Stream);
        }
        // And only who connects is redirected, on a connection that may stand from the last time.
        Neighbour::Front => {
            wired.break_off(Neighbour::Front);
            wired.break_off(Neighbour::Stream);
        }
        Neighbour::Stream | Neighbour::Redshift => wired.break_off(neighbour),
        Neighbour::S3 | Neighbour::Webhook => {}
    }
}

/// Random faults on all ways at once, of which each connection draws its own, with pauses in which what is left of them meets
/// connections that work.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_all_ways_costs_no_row() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("NETWORK_SEED").unwrap_or_else(|| UNIX_EPOCH.elapsed().unwrap().as_secs() % 1_000_000);
    let seconds = number("NETWORK_SECONDS").unwrap_or(20);
    println!("again: make network NETWORK_SEED={seed} NETWORK_SECONDS={seconds}");
    let mut random = Rng::with_seed(seed);
    let shape = Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let mut wired = Wired::new(seed, &shape, &LIMITS).await;
    wired.start("producer");
    wired.start("ingester");
    let (begun, mut told) = (Instant::now(), BTreeSet::new());
    while begun.elapsed() < Duration::from_secs(seconds) {
        for neighbour in Neighbour::ALL {
            let faults: Vec<_> = (0..random.usize(0..3)).map(|_| drawn(&mut random)).collect();
            told.extend(faults.iter().map(|fault| (format!("{neighbour:?}"), fault.name())));
            wired.set(neighbour, &faults);
        }
        if random.u32(0..4) == 0 {
            call(&wired, Neighbour::Ims);
        }
        let lasting = Duration::from_millis(random.u64(500..6_000));
        tokio::time::sleep(lasting).await;
        wired.look();
        if random.bool() {
            Neighbour::ALL.iter().for_each(|neighbour| wired.set(*neighbour, &[]));
            tokio::time::sleep(lasting / 2).await;
        }
    }
    Neighbour::ALL.iter().for_each(|neighbour| wired.set(*neighbour, &[]));
    let ended = Instant::now();
    let mut never = told;
    for neighbour in Neighbour::ALL {
        let (name, struck) = (format!("{neighbour:?}"), wired.way(neighbour).struck());
        never.retain(|(to, kind)| *to != name || !struck.contains_key(kind));
        println!("{name} {struck:?}");
    }
    println!("never struck: {never:?}");
    assert!(seconds < LONG || never.is_empty());
    assert_clean(&wired.finish(SETTLES_WITHIN).await);
    println!("settled {:.1?} after the last fault", ended.elapsed());
}

fn drawn(random: &mut Rng) -> Fault {
    let start = random.u64(1..3_000);
    match random.u32(0..10) {
        0 => Fault::Reset,
        1 => Fault::Closed,
        2 => Fault::CutAfter(start..start + random.u64(1..20_000)),
        9 => Fault::CutAsked(start..start + random.u64(1..20_000)),
        3 => Fault::Cable,
        4 => Fault::Vanished,
        5 => Fault::Swallowed,
        6 => Fault::AnswersSwallowed,
        7 => Fault::ByteWise(Duration::from_millis(random.u64(1..50))),
        _ => Fault::Late(Duration::from_millis(random.u64(10..2_500))),
    }
}
