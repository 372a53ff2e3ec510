//! What `check` of both programs finds before a start meets it: each mistake is named with the key to mend, and has the code
//! that a start would end with.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use redshift::{Failure, Fault, Grant, Kind};
use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use sandbox::service::{self, command};
use sandbox::standins::ROLE;

use crate::world::{STOP, World, ask};

async fn world() -> World {
    World::new(300, &Shape::default()).await
}

/// Code and output of a command of the producer.
fn producer(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = service::run("producer", args, &world.config).unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// A line of a check that failed has each of these, and the check ends so.
#[track_caller]
fn assert_fails((code, said): (Option<i32>, String), exit: i32, step: &str, expected: &[&str]) {
    let line = said.lines().find(|line| line.starts_with(&format!("✗ {step}: ")));
    let line = line.unwrap_or_else(|| panic!("{step} did not fail:\n{said}"));
    for expected in expected {
        assert!(line.contains(expected), "{expected} is not in\n{line}");
    }
    assert_eq!(code, Some(exit), "{said}");
}

/// Objects below every prefix: a check leaves none.
fn objects(world: &World) -> usize {
    files_below(&world.path("s3").join(BUCKET)).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_of_a_right_configuration_try_everything_and_leave_nothing_behind() {
    let world = world().await;
    let (code, said) = world.ask(&["check"]);
    assert!(
        code == Some(0) && said.contains("✓ Redshift COPY: s3://livestream/Loads/.check-copy-"),
        "{said}"
    );
    for line in ["is missing; the first start makes it", "– metrics: metrics.ingester_listen is empty"] {
        assert!(said.contains(line), "{said}");
    }
    let copies = world.staged_and_plain();
    assert_eq!((copies, world.count("count(*) FROM public.livestream").await), ((0, 0), 0));
    let (code, said) = producer(&world, &["check"]);
    assert!(code == Some(0) && said.contains("– half-written batch: there is no log yet"), "{said}");
    assert_eq!(objects(&world), 0);
    for left in ["producer", "ingester", "logs"] {
        assert!(!world.path(left).exists(), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_copy_cannot_use_is_named_by_what_it_lacks() {
    let world = world().await;
    let step = "Redshift COPY";
    world.configure(ROLE, "arn:aws:iam::123456789012:role/other");
    let expected = ["role/other: Not authorized", "redshift.iam_role", "deploy/iam-copy-role-trust.json"];
    assert_fails(world.ask(&["check"]), 78, step, &expected);
    world.configure("arn:aws:iam::123456789012:role/other", "arn:aws:iam::12345678901:role/sandbox");
    let (code, said) = world.ask(&["check"]);
    assert!(code == Some(78) && said.contains("redshift.iam_role: the account id"), "{said}");
    world.configure("arn:aws:iam::12345678901:role/sandbox", ROLE);

    let denied = "is not authorized to perform: ";
    for (what, expected) in [
        ("s3:GetObject because no identity-based policy allows it".to_owned(), "deploy/iam-copy-role.json"),
        (
            "s3:GetObject with an explicit deny in a resource-based policy".to_owned(),
            "the policy of s3.bucket denies it",
        ),
        ("kms:Decrypt on resource: arn:aws:kms:eu-central-1:1:key/k".to_owned(), "iam-kms-copy-role.json"),
    ] {
        let message =
            format!("S3ServiceException:User: x {denied}{what},Status 403,Error AccessDenied,Rid 0");
        let fault = Fault::Fails(Kind::Copy, Failure::Text { message, code: 8001 });
        world.standins.redshift.faults().push(fault);
        assert_fails(world.ask(&["check"]), 78, step, &[expected, "s3://livestream/Loads/.check-copy-"]);
    }
    assert_eq!(objects(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_or_in_another_region_is_named_with_its_key() {
    let world = world().await;
    for (from, to, expected) in [
        ("bucket = \"livestream\"", "bucket = \"livestrean\"", "check s3.bucket"),
        (
            "region = \"eu-central-1\"",
            "region = \"us-west-2\"",
            "(the bucket is in eu-central-1): set s3.region",
        ),
        (
            "region = \"eu-central-1\"",
            "region = \"us-east-1\"",
            "(the bucket is in eu-central-1): set s3.region",
        ),
    ] {
        world.configure(from, to);
        assert_fails(producer(&world, &["check"]), 78, "S3", &[expected]);
        let (code, said) = world.ask(&["check"]);
        assert_fails((code, said.clone()), 78, "S3 put", &[expected]);
        assert!(said.contains("– Redshift COPY: there is nothing to read: see S3 put"), "{said}");
        world.configure(to, from);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_and_a_missing_scope_are_named_with_what_to_do() {
    let world = world().await;
    let ways = world.standins.redshift.ways();
    for (grant, name, step) in [
        (Grant::Schema, "public", "Redshift table"),
        (Grant::Relation, "livestream", "Redshift table"),
        (Grant::Relation, "livestream_ledger", "Redshift ledger"),
        (Grant::Relation, "livestream_ledger_lock", "Redshift ledger lock"),
    ] {
        ways.deny(Some((grant, name)));
        let denied = format!("permission denied for {} {name}", format!("{grant:?}").to_lowercase());
        assert_fails(world.ask(&["check"]), 78, step, &[&denied, "redshift.user", "deploy/grants.sql"]);
    }
    ways.deny(None);
    world.configure("[adobe]\n", "[adobe]\nscopes = [\"openid\", \"ent_other\"]\n");
    let failed = producer(&world, &["check"]);
    assert!(failed.1.contains("– Livestream: there is no token"), "{}", failed.1);
    assert_fails(failed, 78, "Adobe token", &["invalid_scope", "adobe.scopes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_made_or_written_is_named_with_its_key_by_check_and_run() {
    let world = world().await;
    let text = fs::read_to_string(&world.config).unwrap();
    let locked = world.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(world.path("file"), "x").unwrap();
    let root = fs::write(locked.join("x"), "x").is_ok();
    for (program, step, key, name) in [
        ("producer", "log directory", "log.dir", "producer"),
        ("ingester", "ingester directory", "ingester.dir", "ingester"),
        ("producer", "log files", "logging.dir", "logs"),
        ("ingester", "log files", "logging.dir", "logs"),
    ] {
        for (parent, exit, expected) in [
            ("file", 78, format!("{} is a file: change {key}", world.path("file").display())),
            (
                "locked",
                77,
                format!("in {}: Permission denied (os error 13); make it as root", locked.display()),
            ),
        ] {
            // Root may write anywhere.
            if parent == "locked" && root {
                continue;
            }
            let was = format!("\"{}\"", world.path(name).display());
            let becomes = format!("\"{}/a/b\"", world.path(parent).display());
            fs::write(&world.config, text.replace(&was, &becomes)).unwrap();
            let run = |args: &[&str]| match program {
                "producer" => producer(&world, args),
                _ => ask(&world.config, args),
            };
            assert_fails(run(&["check"]), exit, step, &[&format!("{key}: cannot make"), &expected]);
            let (code, said) = run(&["run"]);
            assert!(
                code == Some(exit) && said.contains(&expected),
                "{program} {key} {parent}: {code:?} {said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metrics_port_is_free_or_held_by_the_running_service_or_taken() {
    let world = world().await;
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (of_producer, of_ingester) = (free(), free());
    world.configure("producer_listen = \"\"", &format!("producer_listen = \"{of_producer}\""));
    world.configure("ingester_listen = \"\"", &format!("ingester_listen = \"{of_ingester}\""));
    let (code, said) = world.ask(&["check"]);
    assert!(code == Some(0) && said.contains(&format!("✓ metrics: {of_ingester} is free")), "{said}");

    let (mut producing, mut ingesting) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(world.wanted(), &mut [&mut producing, &mut ingesting]).await;
    for ((code, said), service, step) in [
        (producer(&world, &["check"]), &producing, "log directory"),
        (world.ask(&["check"]), &ingesting, "ingester directory"),
    ] {
        let pid = service.pid().unwrap();
        assert!(said.contains(&format!("is held by the running service, process {pid}")), "{said}");
        let line = said.lines().find(|line| line.starts_with(&format!("✓ {step}: "))).unwrap();
        assert!(line.ends_with(&format!("process {pid} has its database open")), "{line}");
        assert_eq!(code, Some(0), "{said}");
    }
    // The producer's port, given to the ingester as well.
    let other = world.path("other.toml");
    let text = fs::read_to_string(&world.config).unwrap();
    let swapped = text
        .replace(&of_ingester, &of_producer)
        .replace(&format!("producer_listen = \"{of_producer}\""), "producer_listen = \"\"");
    fs::write(&other, swapped).unwrap();
    let expected = ["metrics.ingester_listen", "is taken by another program", "choose another port"];
    assert_fails(ask(&other, &["check"]), 69, "metrics", &expected);
    producing.stop(STOP).await.unwrap();
    ingesting.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_user_in_the_log_are_found_before_the_start() {
    let world = world().await;
    world.publish().await;
    let root = rustix::process::getuid().is_root();
    let database = world.path("producer").join("sled/db");
    let mode = |mode| fs::set_permissions(&database, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o400);
    let checked = command("producer", &["check"], &world.config).unwrap().output().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    if root {
        assert!(said.contains("✓ log directory") && said.contains("✓ half-written batch: none"), "{said}");
    } else {
        let expected = ["log.dir: cannot write", "give", "to the user that runs the service"];
        assert_fails((checked.status.code(), said), 77, "log directory", &expected);
    }
    mode(0o600);
}
