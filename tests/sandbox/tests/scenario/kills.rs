//! Both services are killed, again and again, and nothing is lost, doubled or altered.

use std::time::Duration;

use sandbox::config::Shape;

use crate::world::{World, assert_clean, options};

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 5, ..Shape::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_both_services_are_killed_again_and_again() {
    let world = World::new(30_000, &small_batches()).await;
    let wanted = world.wanted();
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    for part in 1..=4 {
        world.until_durable(wanted * part / 6, &mut [&mut producer, &mut ingester]).await;
        producer.kill().unwrap();
        tokio::time::sleep(Duration::from_millis(50 * part)).await;
        producer.start_again().unwrap();
        world.until_loaded(wanted * part / 8, &mut [&mut producer, &mut ingester]).await;
        ingester.kill().unwrap();
        ingester.start_again().unwrap();
    }
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adobe_sends_again_after_a_kill_is_recognised() {
    let world = World::new(5_000, &small_batches()).await;
    let wanted = world.wanted();
    let (mut producer, ingester) = (world.start("producer"), world.start("ingester"));
    world.until_durable(wanted, &mut [&mut producer]).await;
    producer.kill().unwrap();
    producer.start_again().unwrap();
    // The stand-in still holds everything: all of it comes a second time.
    let again = async || world.snapshot().await.is_some_and(|snapshot| snapshot.totals.duplicates >= wanted);
    world.until("every hit has come twice", &mut [&mut producer], again).await;
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_anything_was_uploaded_the_producer_goes_on_from_its_log() {
    let shape = Shape { max_file_age: "1h", max_batch_age: "1h", ..small_batches() };
    // The stand-in sends nothing twice: what the log loses is lost.
    let world = World::with(adobe::Options { hold: 0, ..options(2_345) }, &shape).await;
    let generator = world.standins.adobe.generator();
    let sent = generator.counts(0..2_345);
    let mut producer = world.start("producer");
    let accepted = async || {
        world.snapshot().await.is_some_and(|snapshot| {
            snapshot.totals.rows >= sent.hits && snapshot.totals.rejected >= sent.malformed
        })
    };
    world.until("everything accepted", &mut [&mut producer], accepted).await;
    producer.kill().unwrap();
    // From here on a quiet stream is delivered by age.
    world.configure("max_file_age = \"1h\"", "max_file_age = \"1s\"");
    world.configure("max_batch_age = \"1h\"", "max_batch_age = \"1s\"");
    producer.start_again().unwrap();
    let ingester = world.start("ingester");
    assert_clean(&world.finish(producer, ingester).await);
}
