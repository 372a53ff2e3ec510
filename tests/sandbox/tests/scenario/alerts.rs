//! Alerts as a target receives them: within a minute of the cause, once, and resolved within a minute of its end; over a
//! restart, and when the target itself is away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redshift::{Failure, Fault as WarehouseFault, Kind};
use sandbox::s3::{Fault, Operation, Refusal, Side};
use sandbox::service;
use sandbox::webhook::Answer;
use serde_json::Value;

use crate::watched::{Watched, metrics};
use crate::world::{STOP, assert_clean};

/// More refusals than a scenario can use up.
const ALL: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_refuses_is_told_once_over_a_restart_and_resolved() {
    let watched = Watched::new(1_000_000, Some(100)).await;
    let world = &watched.world;
    let mut producer = world.start("producer");
    watched.until_beating("producer", &mut [&mut producer]).await;
    let refuse = || {
        for _ in 0..ALL {
            world.standins.s3.faults().push(Fault::of(Operation::Put, Side::Refused(Refusal::AccessDenied)));
        }
    };
    refuse();
    let cause = Instant::now();
    let alert = watched.until_told("upload_failing", "begun", cause, &mut [&mut producer]).await;
    assert_eq!((&alert["service"], &alert["instance"]), (&"producer".into(), &"sandbox-1".into()), "{alert}");
    assert_eq!(
        (&alert["severity"], &alert["docs"]),
        (&"warning".into(), &"docs/OPERATIONS.md#s3-refuses".into())
    );
    assert!(
        alert["detail"].as_str().unwrap().contains("AccessDenied") && alert["batch"].is_string(),
        "{alert}"
    );
    assert!(alert["todo"].as_str().unwrap().contains("`producer check`"), "{alert}");
    let (dump, metrics) = (world.dump(), metrics(watched.listen[0]));
    assert!(dump.contains("alert     warning for ") && dump.contains("S3 takes no uploads"), "{dump}");
    assert!(metrics.contains("livestream_producer_alerts{alert=\"upload_failing\"} 1"), "{metrics}");
    let json: Value = serde_json::from_str(&world.dump_as(&["--json"])).unwrap();
    assert_eq!(json["producer"]["snapshot"]["alerts"][0]["since"], alert["since"]);
    assert!(watched.webhook.taken("/slack").is_empty(), "that target is for what is critical");
    watched.until_beating("producer", &mut [&mut producer]).await;

    producer.kill().unwrap();
    producer.start_again().unwrap();
    // Longer than it takes until an alert of the process before could end, or begin anew.
    let (restarted, settled) = (Instant::now(), Duration::from_secs(62));
    world.until("it has settled", &mut [&mut producer], async || restarted.elapsed() > settled).await;
    let json: Value = serde_json::from_str(&world.dump_as(&["--json"])).unwrap();
    assert_eq!(json["producer"]["snapshot"]["alerts"][0]["since"], alert["since"], "it is the same one");
    assert_eq!(watched.events("upload_failing"), ["begun"]);

    world.standins.s3.faults().clear();
    let end = Instant::now();
    let over = watched.until_told("upload_failing", "resolved", end, &mut [&mut producer]).await;
    assert!(over["ended"].is_string() && over["since"] == alert["since"], "{over}");
    assert_eq!(watched.events("upload_failing"), ["begun", "resolved"]);
    assert!(!world.dump().contains("S3 takes no uploads"), "{}", world.dump());
    producer.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_is_shown_holds_nothing_up_and_hears_everything_later() {
    let watched = Watched::new(20_000, Some(150)).await;
    let world = &watched.world;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    watched.until_beating("ingester", &mut [&mut producer, &mut ingester]).await;
    watched.webhook.answer(Answer::Silence);
    for _ in 0..ALL {
        let denied = WarehouseFault::Fails(Kind::Copy, Failure::S3AccessDenied);
        world.standins.redshift.faults().push(denied);
    }
    let failed = async || ingester.said().matches("an alert cannot be delivered").count() == 2;
    world.until("both targets fail", &mut [&mut producer], failed).await;
    let (dump, said) = (world.dump(), ingester.said());
    assert!(dump.contains("alerts    not told for ") && dump.contains(": cannot be reached"), "{dump}");
    assert!(!said.contains(&watched.webhook.url("")), "an address is a secret: {said}");
    let seconds = "livestream_ingester_failing_seconds{component=\"alerts\"} ";
    let shown = metrics(watched.listen[1]);
    let failing = shown.lines().find_map(|line| line.strip_prefix(seconds)).unwrap();
    assert!(failing.parse::<f64>().unwrap() > 0.0, "{shown}");
    let before = world.snapshot().await.unwrap().totals.rows;
    world.until_durable(before + 300, &mut [&mut producer, &mut ingester]).await;
    assert!(watched.told("needs_operator").is_empty());
    let times = ingester.said().matches("an alert cannot be delivered").count();
    assert_eq!(times, 2, "once for each target");

    watched.webhook.answer(Answer::Status(204));
    let back = Instant::now();
    let services = &mut [&mut producer, &mut ingester];
    let alert = watched.until_told("needs_operator", "begun", back, services).await;
    assert_eq!((&alert["service"], &alert["severity"]), (&"ingester".into(), &"critical".into()), "{alert}");
    let slack = async || !watched.webhook.taken("/slack").is_empty();
    world.until("the other target is told", services, slack).await;
    let text = watched.webhook.taken("/slack")[0].body["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[critical] ingester sandbox-1: ") && text.contains("What to do: "), "{text}");
    // A critical alert: the dead man's switch of the ingester is not called, that of the producer is.
    let silent = watched.beats("ingester").len();
    watched.until_beating("producer", services).await;
    watched.until_beating("producer", services).await;
    assert!(watched.beats("ingester").len() <= silent, "a critical alert stands");
    let dump = world.dump();
    assert!(!dump.contains("json: cannot") && !dump.contains("chat: cannot"), "both are told again: {dump}");

    world.standins.redshift.faults().clear();
    let end = Instant::now();
    watched.until_told("needs_operator", "resolved", end, services).await;
    assert_eq!(watched.events("needs_operator"), ["begun", "resolved"]);
    watched.until_beating("ingester", services).await;
    let well = async || !world.dump().contains("not told for");
    world.until("the heartbeat is called again", services, well).await;
    for (kind, at) in ["producer", "ingester"].into_iter().zip(watched.listen) {
        assert_named(kind, &metrics(at));
    }
    assert_clean(&world.finish(producer, ingester).await);
}

/// Every figure of a service that the rules and the board name is on its page.
fn assert_named(service: &str, page: &str) {
    let prefix = format!("livestream_{service}_");
    let shown: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    assert!(shown.len() > 15, "{page}");
    for file in ["deploy/prometheus/rules.yml", "deploy/grafana/livestream.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = text.split(|c: char| !is_of_name(c)).filter(|word| word.starts_with(&prefix));
        let names: BTreeSet<_> = names.collect();
        assert!(names.len() > 10, "{file}: {names:?}");
        // A column has this figure once one of its values became NULL.
        let later = |name: &str| name == "livestream_producer_nulled_values_total";
        let missing: Vec<_> = names.iter().filter(|name| !shown.contains(**name) && !later(name)).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}, which the {service} does not show\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_says_of_each_target_what_it_answered_and_ends_with_a_code() {
    let watched = Watched::new(10, None).await;
    let (world, webhook) = (&watched.world, &watched.webhook);
    let ask = |args: &[&str]| {
        let output = service::run("state", &[&["alerts", "test"], args].concat(), &world.config).unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = ask(&[]);
    let lines = ["✓ json (json): answered 200 OK said by the stand-in", "✓ chat (slack): answered 200 OK"];
    assert!(code == Some(0) && lines.iter().all(|line| said.contains(line)), "{said}");
    assert_eq!(webhook.taken("/json")[0].body["event"], "test");
    let text = webhook.taken("/slack")[0].body["text"].as_str().unwrap().to_owned();
    assert!(text.contains("[test]") && text.contains("nothing is wrong"), "{text}");
    for (status, expected, words) in [
        (404, 78, "answered 404 Not Found said by the stand-in; correct the address"),
        (301, 78, "redirects are not followed"),
        (429, 69, "it is busy"),
        (503, 69, "it fails"),
    ] {
        webhook.answer(Answer::Status(status));
        let (code, said) = ask(&["--target", "chat"]);
        assert!(
            code == Some(expected) && said.contains("✗ chat (slack): ") && said.contains(words),
            "{said}"
        );
        assert!(!said.contains("✗ json") && !said.contains("/slack"), "{said}");
    }
    let (code, said) = ask(&["--target", "nobody"]);
    assert!(code == Some(66) && said.contains("no [[alert_target]] has the name \"nobody\""), "{said}");
}
