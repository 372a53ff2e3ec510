//! `producer init`: what it writes is what both checks accept, and nothing is overwritten or shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::config::Shape;
use sandbox::s3::{BUCKET, REGION, SECRET_KEY};
use sandbox::service::command;
use sandbox::standins::{CLIENT_ID, CLIENT_SECRET, DATABASE, PASSWORD, ROLE, USER};

use crate::world::World;

/// Code and output.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn flags(world: &World) -> Vec<String> {
    let at = world.standins.endpoints();
    let state = world.path("of-init").display().to_string();
    let port = at.redshift.port().to_string();
    let flags = [
        ("--client-id", CLIENT_ID),
        ("--stream-url", &at.stream_url),
        ("--bucket", BUCKET),
        ("--region", REGION),
        ("--redshift-host", "127.0.0.1"),
        ("--redshift-port", &port),
        ("--database", DATABASE),
        ("--user", USER),
        ("--iam-role", ROLE),
        ("--state-dir", &state),
    ];
    flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}

fn init(world: &World, file: &Path, more: &[&str]) -> Command {
    let flags = flags(world);
    let args: Vec<&str> =
        ["init"].into_iter().chain(flags.iter().map(String::as_str)).chain(more.iter().copied()).collect();
    command("producer", &args, file).unwrap()
}

/// What the stand-ins need beyond what an account at Adobe and Amazon would.
fn with_stand_ins<'c>(world: &World, command: &'c mut Command) -> &'c mut Command {
    let at = world.standins.endpoints();
    command
        .env("LIVESTREAM__ADOBE__TOKEN_URL", at.token_url)
        .env("LIVESTREAM__ADOBE__REDIRECT_HOSTS", format!("[\"{}\"]", at.redirect_host))
        .env("LIVESTREAM__S3__ENDPOINT", at.s3)
        .env("LIVESTREAM__S3__PATH_STYLE", "true")
        .env("LIVESTREAM__S3__SECRET_ACCESS_KEY", SECRET_KEY)
        .env("LIVESTREAM__REDSHIFT__TLS", "disable")
        // Another service of this machine may have the usual ones.
        .env("LIVESTREAM__METRICS__PRODUCER_LISTEN", "")
        .env("LIVESTREAM__METRICS__INGESTER_LISTEN", "")
}

fn below(dir: &Path) -> Vec<PathBuf> {
    sandbox::judge::files_below(dir).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_from_flags_is_accepted_by_both_checks() {
    let world = World::new(300, &Shape::default()).await;
    let dir = world.path("etc");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("web-1.toml");
    let mut asked = init(&world, &file, &["--yes"]);
    let secrets =
        [("LIVESTREAM__ADOBE__CLIENT_SECRET", CLIENT_SECRET), ("LIVESTREAM__REDSHIFT__PASSWORD", PASSWORD)];
    let (code, said) = run(asked.envs(secrets));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(CLIENT_SECRET) && !said.contains(PASSWORD), "{said}");
    for expected in
        ["web-1.client_secret, mode 0600", "ingester ddl --config", "grants.sql", "producer check --config"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let names = ["web-1.toml", "web-1.schema.toml", "web-1.client_secret", "web-1.redshift_password"];
    for name in names.into_iter().chain(["web-1.setup/grants.sql", "web-1.setup/iam-ingester.json"]) {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("name = \"web-1\"") && !text.contains(CLIENT_SECRET), "{text}");

    for name in ["producer", "ingester"] {
        let (code, said) = run(with_stand_ins(&world, &mut command(name, &["check"], &file).unwrap()));
        assert!(code == Some(0) && !said.contains('✗'), "{name}: {said}");
    }
    let (code, ddl) = run(&mut command("ingester", &["ddl"], &file).unwrap());
    assert!(code == Some(0) && ddl.contains("CREATE TABLE"), "{ddl}");

    // Once more: nothing is overwritten. With --force the configuration is, and secrets and schema are not.
    let before = fs::read_to_string(&file).unwrap() + "# mine\n";
    fs::write(&file, &before).unwrap();
    fs::write(dir.join("web-1.schema.toml"), "mode = \"extend\"\n# mine\n").unwrap();
    let (code, said) = run(&mut init(&world, &file, &["--yes"]));
    assert!(
        code == Some(64) && said.contains("is there already; nothing was written: give --force"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let (code, said) = run(&mut init(&world, &file, &["--yes", "--force", "--instance", "web-9"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(fs::read_to_string(&file).unwrap().contains("name = \"web-9\""));
    assert!(fs::read_to_string(dir.join("web-1.schema.toml")).unwrap().contains("mine"));
    assert_eq!(fs::read_to_string(dir.join("web-1.client_secret")).unwrap(), CLIENT_SECRET);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_without_a_terminal_or_with_wrong_answers_writes_nothing_and_says_what_to_give() {
    let world = World::new(300, &Shape::default()).await;
    let dir = world.path("etc");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("pipeline.toml");
    for (args, expected) in [
        (
            vec!["init", "--bucket", "b"],
            "nobody can be asked here: give --client-id, --stream-url, --region, --redshift-host, --database, --iam-role, \
             and --yes to take the defaults of --instance, --table, --auth, --user, or run it on a terminal",
        ),
        (vec!["init", "--yes"], "give --client-id, --stream-url, --bucket"),
    ] {
        // A pipe is no terminal, whatever is written into it.
        let (code, said) = run(&mut command("producer", &args, &file).unwrap());
        assert!(code == Some(64) && said.contains(expected), "{said}");
    }
    let wrong = ["--yes", "--table", "a.b.c", "--instance", "two words"];
    let (code, said) = run(&mut init(&world, &file, &wrong));
    assert!(code == Some(64) && said.contains("correct this:\n  --"), "{said}");
    let (code, said) = run(&mut init(&world, &dir.join("pipeline"), &["--yes"]));
    assert!(code == Some(64) && said.contains("a configuration is named NAME.toml"), "{said}");
    assert!(below(&dir).is_empty(), "{:?}", below(&dir));

    // Secrets that come later, or from the environment of the services.
    let (code, said) = run(&mut init(&world, &file, &["--yes"]));
    assert!(code == Some(0) && said.contains("to do: put the client secret of Adobe into"), "{said}");
    let other = dir.join("web-2.toml");
    let (code, said) = run(&mut init(&world, &other, &["--yes", "--secrets-in-environment"]));
    assert!(code == Some(0) && said.contains("to do: put LIVESTREAM__ADOBE__CLIENT_SECRET=… into"), "{said}");
    let text = fs::read_to_string(&other).unwrap();
    assert!(!text.contains("_file = ") && text.contains("127.0.0.1:9466"), "{text}");
}
