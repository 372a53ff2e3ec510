//! `ingester forget` while the archive of a running ingester is stuck in the middle of a folder.

use adobe::Plan;
use sandbox::s3::{Fault, Operation, Refusal, Side};

use super::{Person, shape, stop};
use crate::world::{World, options};

/// More refusals than an archive can use up while a step of the test lasts.
const ALL: usize = 500;

/// What the archive does with a folder, in its order: the request, and what its key contains.
const STEPS: [(Operation, &str); 4] = [
    (Operation::Copy, ".csv"),
    (Operation::Copy, "/batch.json"),
    (Operation::Delete, "/batch.json"),
    (Operation::Delete, ".csv"),
];

impl World {
    /// Refuses this from now on, and nothing else.
    fn refuse(&self, (operation, key): (Operation, &str)) {
        let faults = self.standins.s3.faults();
        faults.clear();
        for _ in 0..ALL {
            let side = Side::Refused(Refusal::AccessDenied);
            faults.push(Fault { operation: Some(operation), key: key.to_owned(), side });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_archive_is_stuck_at_any_step_nothing_is_changed_and_afterwards_all_goes() {
    let adobe = options(600);
    let plan = Plan { malformed_per_mille: 0, ..adobe.plan };
    let world = World::with(adobe::Options { plan, ..adobe }, &shape("zstd")).await;
    world.publish().await;
    let person = Person::of(&world);
    world.refuse(STEPS[0]);
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    let rows = async || world.count("count(*) FROM public.livestream").await;
    let before = rows().await;
    for step in STEPS {
        world.refuse(step);
        let stuck = async || world.standins.s3.faults().pending() < ALL;
        world.until(&format!("the archive is stuck at {step:?}"), &mut [&mut ingester], stuck).await;
        for args in [&[][..], &["--yes"]] {
            let (code, report, said) = world.run_forget(&person, args);
            assert_eq!((code, &report["applied"]), (Some(75), &false.into()), "{step:?}: {said}");
            assert!(said.contains("it is loaded, and its folder is not archived yet"), "{step:?}: {said}");
        }
        assert_eq!(rows().await, before, "{step:?}");
    }
    world.standins.s3.faults().clear();
    world.until_put_away(&mut [&mut ingester]).await;
    let mut producer = world.start("producer");
    let up = async || world.snapshot().await.is_some();
    world.until("the producer answers", &mut [&mut producer], up).await;
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!((code, &report["archive"]["rows_removed"]), (Some(0), &person.hits.len().into()), "{said}");
    world.assert_forgotten(&person).await;
    stop(producer).await;
    stop(ingester).await;
}
