//! `ingester forget` is killed at every step that changes something.

use std::process::{Child, Stdio};
use std::time::Duration;

use redshift::{Fault, Kind};
use sandbox::s3;
use sandbox::service;

use super::{COLUMN, Person, keep_copies, loaded, stop};
use crate::world::World;

/// Longer than any step of a test; the process is killed before.
const HELD: Duration = Duration::from_secs(3_600);

enum At {
    /// The statement with this text, before its effect.
    Statement(&'static str, Kind),
    /// A request for a key with this text, before its effect.
    Request(s3::Operation, &'static str),
}

impl World {
    fn start_forget(&self, person: &Person) -> Child {
        let ids = self.ids(person);
        let args = ["forget", "--column", COLUMN, "--file", ids.to_str().unwrap(), "--yes"];
        let mut command = service::command("ingester", &args, &self.config).unwrap();
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts it, and kills it when it has come there.
    async fn kill_forget(&self, person: &Person, at: &At) {
        let (faults, store) = (self.standins.redshift.faults().clone(), self.standins.s3.faults().clone());
        match at {
            At::Statement(text, kind) => faults.push_at(1, text, Fault::Slow(*kind, HELD)),
            At::Request(operation, key) => {
                let side = s3::Side::Slow(HELD);
                store.push(s3::Fault { operation: Some(*operation), key: (*key).to_owned(), side });
            }
        }
        let mut child = self.start_forget(person);
        let struck = async || faults.pending() + store.pending() == 0;
        self.until("the run held", &mut [], struck).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(child.try_wait().unwrap().is_none(), "it was to be held");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_anywhere_is_finished_by_the_next_and_all_counts_agree_in_between() {
    let (world, producer, ingester) = loaded(900, "zstd", true).await;
    let person = Person::of(&world);
    keep_copies(&world, &person.values);
    // So that all there is to delete is what is forgotten.
    stop(ingester).await;
    use s3::Operation::{Delete, Put};
    for (what, at) in [
        ("a set is to be written", At::Request(Put, "/rows.csv")),
        ("the ledger is to name a set", At::Statement("COMMIT", Kind::Commit)),
        ("a set is to be deleted", At::Request(Delete, "/quarantine.json")),
        ("rows are to be deleted", At::Statement("DELETE FROM \"public\".\"livestream\"", Kind::Delete)),
        ("the ledger is to count them", At::Statement("COMMIT", Kind::Commit)),
        ("a file is to be written", At::Request(Put, "Ingested/")),
        ("a seal is to name the file", At::Request(Put, "/batch.json")),
        ("a manifest is to be written", At::Request(Put, "/manifest.json")),
        ("a file is to be deleted", At::Request(Delete, "Ingested/")),
        ("a reject is to go", At::Request(Put, "Rejected/")),
    ] {
        world.kill_forget(&person, &at).await;
        world.assert_agrees(what);
    }
    let (code, _, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    world.assert_forgotten(&person).await;
    // Nothing that a run began is left beside what counts.
    let (code, report, said) = world.run_forget(&person, &[]);
    assert_eq!(code, Some(0), "{said}");
    for place in ["table", "archive", "quarantine", "rejects"] {
        let zero = |what: &str| report[place][what] == 0;
        assert!(zero("rows_found") && zero("left_overs"), "{place}: {said}");
    }
    stop(producer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_and_not_answered_is_asked_for_and_not_done_twice() {
    let (world, producer, ingester) = loaded(600, "none", false).await;
    let person = Person::of(&world);
    let faults = world.standins.redshift.faults().clone();
    let text = "DELETE FROM \"public\".\"livestream\"";
    faults.push_at(1, text, Fault::AppliedThenLost(Kind::Delete));
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(report["stopped"].as_str().unwrap().contains("deleting rows that are to be forgotten"), "{said}");
    world.assert_agrees("a DELETE was not answered");
    faults.push_at(1, "COMMIT", Fault::AppliedThenLost(Kind::Commit));
    // COMMIT has its effect, and nobody is told; below, an object is put, and nobody is told.
    let (code, _, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(69), "{said}");
    world.assert_agrees("a COMMIT was not answered");
    let store = world.standins.s3.faults().clone();
    for (operation, key) in [
        (s3::Operation::Put, ".csv"),
        (s3::Operation::Put, "/batch.json"),
        (s3::Operation::Delete, "Ingested/"),
        (s3::Operation::Put, "Rejected/"),
    ] {
        let key = key.to_owned();
        store.push(s3::Fault { operation: Some(operation), key, side: s3::Side::AppliedThenLost });
    }
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert!(code == Some(0) && store.pending() == 0, "{said}");
    assert_eq!(report["table"]["rows_found"], 0, "the COMMIT was: {said}");
    world.assert_forgotten(&person).await;
    drop((producer, ingester));
}
