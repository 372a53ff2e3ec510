//! How the ingester gets into Redshift: TLS that checks chain and host name, and the ways to log in.

use std::process::Output;
use std::time::Duration;

use redshift::{Ask, Entered, Fault, Kind};
use sandbox::config::Shape;
use sandbox::iam::{Iam, NAME, PASSWORD_MARK};
use sandbox::judge::files_below;
use sandbox::network::Authority;
use sandbox::s3::SECRET_KEY;
use sandbox::service;
use sandbox::standins::{PASSWORD, USER};

use crate::world::{World, assert_clean};

fn short() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() }
}

impl World {
    /// Changes the configuration: each line of `lines` takes the place of the one with its key in [redshift].
    fn redshift(&self, lines: &[&str]) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
        let mut inside = false;
        let mut out = String::new();
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line == "[redshift]";
            }
            if !inside || !lines.iter().any(|new| key(new) == key(line)) {
                out += &format!("{line}\n");
            }
            if line == "[redshift]" {
                out += &format!("{}\n", lines.join("\n"));
            }
        }
        std::fs::write(&self.config, out).unwrap();
    }

    fn trust(&self, authority: &Authority) -> String {
        let file = self.path("ca.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        format!("ca_file = \"{}\"", file.display())
    }

    fn check(&self) -> Output {
        service::run("ingester", &["check"], &self.config).unwrap()
    }

    fn passwords_sent(&self) -> usize {
        let sent = |entered: &&Entered| matches!(entered, Entered::SentPassword { .. });
        self.standins.redshift.door().seen().iter().filter(sent).count()
    }

    /// Written before any TLS was asked for.
    #[track_caller]
    fn assert_check_fails(&self, expected: &[&str]) {
        self.standins.redshift.door().forget();
        let failed = self.check();
        let said = String::from_utf8_lossy(&failed.stdout).into_owned();
        assert_eq!(failed.status.code(), Some(78), "{said}");
        for expected in expected {
            assert!(said.contains(expected), "{expected} is not in\n{said}");
        }
    }
}

const VERIFY: &str = "tls = \"verify-full\"";
const LOCALHOST: &str = "host = \"localhost\"";

#[tokio::test(flavor = "multi_thread")]
async fn with_the_right_authority_and_name_batches_are_loaded_and_cancelled_over_tls_only() {
    let world = World::new(600, &short()).await;
    let door = world.standins.redshift.door().clone();
    let authority = Authority::new("ours").unwrap();
    door.set_tls(Some(authority.server(&["localhost", "127.0.0.1"], 2100).unwrap()));
    let plain = world.check();
    let said = String::from_utf8_lossy(&plain.stdout);
    assert!(plain.status.code() == Some(78) && said.contains("set redshift.tls = \"verify-full\""), "{said}");

    world.redshift(&[&world.trust(&authority), VERIFY, LOCALHOST]);
    let said = world.check();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    assert!(String::from_utf8_lossy(&said.stdout).contains("TLS, trusting /"), "{said:?}");
    // By address, too: the certificate names it.
    world.redshift(&["host = \"127.0.0.1\""]);
    door.forget();

    // A COPY that takes longer than the stop may, so that it is cancelled.
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, format!("{text}\n[shutdown]\ntimeout = \"2s\"\n")).unwrap();
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(20)));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let copying = async || faults.pending() == 0;
    world.until("a COPY under way", &mut [&mut producer, &mut ingester], copying).await;
    ingester.stop(Duration::from_secs(10)).await.unwrap();
    let cancelled = async || door.seen().contains(&Entered::Cancelled { tls: true });
    world.until("CANCEL", &mut [&mut producer], cancelled).await;
    ingester.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
    for entered in door.seen() {
        let without = matches!(entered, Entered::Started { tls: false } | Entered::Cancelled { tls: false });
        assert!(!without, "{entered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_who_it_is_is_sent_no_password() {
    let world = World::new(10, &short()).await;
    let door = world.standins.redshift.door().clone();
    let (authority, stranger) = (Authority::new("ours").unwrap(), Authority::new("a stranger's").unwrap());
    world.redshift(&[&world.trust(&authority), VERIFY, LOCALHOST]);

    for (tls, expected) in [
        (
            Some(stranger.server(&["localhost"], 2100).unwrap()),
            ["UnknownIssuer", "name in redshift.ca_file the authority"],
        ),
        (
            Some(authority.server(&["example.com"], 2100).unwrap()),
            ["not valid for name", "write in redshift.host a name"],
        ),
        (
            Some(authority.server(&["localhost"], 2020).unwrap()),
            ["expired", "renew the certificate of the server at redshift.host"],
        ),
        (
            None,
            [
                "server does not support TLS",
                "which redshift.tls = \"verify-full\" wants; no password was sent",
            ],
        ),
    ] {
        let offered = tls.is_some();
        door.set_tls(tls);
        world.assert_check_fails(&expected);
        assert_eq!(world.passwords_sent(), 0, "{expected:?}: {:?}", door.seen());
        assert!(door.seen().contains(&Entered::AskedForTls(offered)), "{:?}", door.seen());
        let started = |entered: &Entered| matches!(entered, Entered::Started { .. });
        assert!(!door.seen().iter().any(started), "not even the user's name: {:?}", door.seen());
    }
    // The system's authorities know nothing of ours.
    world.redshift(&["ca_file = \"\""]);
    door.set_tls(Some(authority.server(&["localhost"], 2100).unwrap()));
    world.assert_check_fails(&["UnknownIssuer", "redshift.ca_file"]);
    for (content, expected) in
        [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n!\n", "redshift.ca_file: ")]
    {
        std::fs::write(world.path("broken.pem"), content).unwrap();
        world.redshift(&[&format!("ca_file = \"{}\"", world.path("broken.pem").display())]);
        let failed = world.check();
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(78) && said.contains(expected), "{said}");
    }
    assert_eq!(world.passwords_sent(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_in_the_form_redshift_asks_for_and_a_sha256_user_is_told_what_to_do() {
    let world = World::new(10, &short()).await;
    let door = world.standins.redshift.door().clone();
    for ask in [Ask::Md5, Ask::Cleartext] {
        door.set_ask(ask);
        let said = world.check();
        assert!(said.status.success(), "{ask:?}: {}", String::from_utf8_lossy(&said.stdout));
    }
    door.set_ask(Ask::Sha256);
    world.assert_check_fails(&["unknown authentication tag `13`", "redshift.user has a sha256 password"]);
    door.set_ask(Ask::Md5);
    world.redshift(&["password = \"wrong\""]);
    world.assert_check_fails(&["password authentication failed", "check redshift.user, redshift.password"]);
}

async fn iam(world: &World, auth: &str, lines: &[&str]) -> Iam {
    let iam = Iam::start(world.standins.redshift.door().clone()).await.unwrap();
    let (auth, endpoint) = (format!("auth = \"{auth}\""), format!("api_endpoint = \"{}\"", iam.endpoint()));
    world.redshift(&[&[&auth[..], &endpoint, "password = \"\""], lines].concat());
    iam
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_iam_logs_in_with_the_password_given_out_and_check_says_how() {
    let world = World::new(400, &short()).await;
    let (cluster, workgroup) = (format!("cluster = \"{NAME}\""), format!("workgroup = \"{NAME}\""));
    for (auth, lines, action, user) in [
        ("iam", [&cluster[..], "region = \"\""], "GetClusterCredentials", format!("IAM:{USER}")),
        (
            "iam-identity",
            [&cluster, "user = \"\""],
            "GetClusterCredentialsWithIAM",
            "IAMR:sandbox".to_owned(),
        ),
        ("serverless", [&workgroup, "user = \"\""], "GetCredentials", "IAMR:sandbox".to_owned()),
    ] {
        let iam = iam(&world, auth, &lines).await;
        let checked = world.check();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{auth}: {said}");
        let login = said.lines().find(|line| line.contains("Redshift login")).unwrap();
        for part in [action, NAME, "eu-central-1", &user, " until "] {
            assert!(login.contains(part), "{part} is not in {login}");
        }
        let asked = iam.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].action, action);
        let duration =
            asked[0].parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("DurationSeconds"));
        assert_eq!(duration.unwrap().1, "900");
        assert_eq!(asked[0].parameters.get("DbUser").map(String::as_str), (auth == "iam").then_some(USER));
    }
    let _iam = iam(&world, "serverless", &[&workgroup]).await;
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_renewed_before_it_ends_and_an_open_connection_goes_on() {
    let world = World::with_rate(8_000, Some(200), &Shape { max_batch_age: "500ms", ..short() }).await;
    let iam = iam(&world, "iam", &[&format!("cluster = \"{NAME}\"")]).await;
    iam.set_lifetime(Duration::from_secs(4));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(100, &mut [&mut producer, &mut ingester]).await;
    // That logs in for itself, once.
    let said = world.path("logs").join("ingester.out");
    let compared = async || std::fs::read_to_string(&said).unwrap().contains("log, S3 and ledger compared");
    world.until("the comparison at start", &mut [&mut producer, &mut ingester], compared).await;
    let before = iam.asked().len();
    // The password ends; the connection does not, and nobody is asked for another.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let loaded = world.loaded().await;
    world.until_loaded(loaded + 1, &mut [&mut producer, &mut ingester]).await;
    assert_eq!(iam.asked().len(), before);
    // The connection is lost: the next one has a new password.
    let door = world.standins.redshift.door().clone();
    door.forget();
    world.standins.redshift.faults().push(Fault::Refused(Kind::Copy));
    let loaded = world.loaded().await;
    world.until_loaded(loaded + 1, &mut [&mut producer, &mut ingester]).await;
    assert_eq!(iam.asked().len(), before + 1);
    assert!(!door.seen().contains(&Entered::SentPassword { taken: false }), "{:?}", door.seen());

    // One that Redshift does not take although AWS said it lives: a new one is fetched, at once.
    iam.set_lifetime(Duration::from_secs(900));
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.standins.redshift.faults().push(Fault::Refused(Kind::Copy));
    let renewed = async || iam.asked().len() == before + 2;
    world.until("renewed", &mut [&mut producer, &mut ingester], renewed).await;
    world.until_loaded(world.loaded().await + 1, &mut [&mut producer, &mut ingester]).await;
    door.set_key("nobody", "knows", None);
    door.forget();
    world.standins.redshift.faults().push(Fault::Refused(Kind::Copy));
    assert_clean(&world.finish(producer, ingester).await);
    assert_eq!(iam.asked().len(), before + 3);
    let sent: Vec<_> =
        door.seen().into_iter().filter(|entered| matches!(entered, Entered::SentPassword { .. })).collect();
    assert_eq!(sent, [Entered::SentPassword { taken: false }, Entered::SentPassword { taken: true }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_is_told_with_what_to_do_and_what_passes_is_tried_again() {
    let world = World::new(200, &short()).await;
    let cluster = format!("cluster = \"{NAME}\"");
    let mut iam = iam(&world, "iam", &[&cluster]).await;
    iam.refuse(403, "AccessDenied");
    world.assert_check_fails(&[
        "GetClusterCredentials gave no password: AccessDenied",
        "deploy/iam-redshift-login.json",
    ]);
    iam.refuse(403, "InvalidClientTokenId");
    world.assert_check_fails(&["InvalidClientTokenId", "check the AWS credential (s3.access_key_id"]);
    world.redshift(&["cluster = \"another\""]);
    world.assert_check_fails(&["ClusterNotFound", "check redshift.cluster and redshift.region"]);
    assert_eq!(world.passwords_sent(), 0);
    drop(iam);
    iam = self::iam(&world, "serverless", &["workgroup = \"another\"", "user = \"\""]).await;
    world.assert_check_fails(&["ResourceNotFoundException", "check redshift.workgroup"]);
    world.redshift(&[&format!("workgroup = \"{NAME}\"")]);

    // Throttled, out of order, and away: tried again until it passes.
    iam.refuse(400, "ThrottlingException");
    iam.refuse(500, "InternalServerException");
    let throttled = world.check();
    let said = String::from_utf8_lossy(&throttled.stdout);
    assert!(throttled.status.code() == Some(69) && said.contains("ThrottlingException"), "{said}");
    iam.refuse(400, "ThrottlingException");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_given_out_is_ever_logged_even_at_trace_level() {
    let world = World::new(300, &short()).await;
    let authority = Authority::new("ours").unwrap();
    world.standins.redshift.door().set_tls(Some(authority.server(&["localhost"], 2100).unwrap()));
    for (auth, name) in [("iam", "cluster"), ("serverless", "workgroup")] {
        let user = if auth == "iam" { format!("user = \"{USER}\"") } else { "user = \"\"".to_owned() };
        let lines = [&world.trust(&authority), VERIFY, LOCALHOST, &format!("{name} = \"{NAME}\""), &user];
        let iam = iam(&world, auth, &lines).await;
        iam.set_lifetime(Duration::from_secs(2));
        let text = std::fs::read_to_string(&world.config).unwrap();
        if !text.contains("level = ") {
            std::fs::write(&world.config, text.replace("[logging]", "[logging]\nlevel = \"trace\"")).unwrap();
        }
        iam.refuse(403, "AccessDenied");
        world.standins.redshift.door().forget();
        let mut ingester = world.start("ingester");
        let asked = async || world.passwords_sent() > 0 && ingester.said().contains("TRACE");
        world.until("logged in", &mut [], asked).await;
        ingester.stop(Duration::from_secs(20)).await.unwrap();
    }
    let files = files_below(&world.path("logs")).unwrap();
    let texts: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let logged = |what: &str| texts.iter().any(|text| text.contains(what));
    for expected in ["TRACE", "AWS gave out a password"] {
        assert!(logged(expected), "{expected} was not logged: nothing is proved");
    }
    // What libraries say below info may be anything.
    for capped in ["signing request", "Using ciphersuite"] {
        assert!(!logged(capped), "{capped} was logged");
    }
    for (path, text) in files.iter().zip(texts) {
        for secret in [PASSWORD_MARK, "given-out&amp;", PASSWORD, SECRET_KEY] {
            assert!(!text.contains(secret), "{} shows {secret}", path.display());
        }
    }
}
