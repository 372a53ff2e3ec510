//! What the programs say: help in one hand, and errors that name the service, the key of the configuration and the cure.

use std::fs;
use std::path::Path;
use std::process::Command;

use sandbox::config::Shape;
use sandbox::s3::SECRET_KEY;
use sandbox::service::binary;

use crate::world::{World, options};

/// Runs a program as on a machine without any credential of AWS; its code, and what it said.
fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary(program).unwrap());
    command
        .args(args)
        .env("COLUMNS", "80")
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "LIVESTREAM_CONFIG"] {
        command.env_remove(name);
    }
    let ended = command.output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8(said).unwrap())
}

/// A configuration whose services are not there.
fn away(dir: &Path) -> String {
    format!(
        "[instance]\nname = \"web-1\"\n[adobe]\ntoken_url = \"http://127.0.0.1:1/\"\nstream_url = \"http://127.0.0.1:1/\"\n\
         client_id = \"c\"\nclient_secret = \"s\"\n[log]\ndir = \"{0}/log\"\n[ingester]\ndir = \"{0}/loads\"\n\
         [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:1\"\n\
         [redshift]\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"d\"\nuser = \"u\"\npassword = \"p\"\ntls = \"disable\"\n\
         iam_role = \"default\"\n",
        dir.display()
    )
}

/// The names of the commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

#[test]
fn the_help_of_every_command_is_an_order_with_examples_codes_and_the_configuration_and_fits_80_columns() {
    let mut seen = 0;
    for program in ["producer", "ingester", "state"] {
        let mut paths = vec![vec![]];
        while let Some(path) = paths.pop() {
            let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
            let (code, help) = run(program, &args);
            let what = format!("{program} {}", args.join(" "));
            assert_eq!(code, Some(0), "{what}: {help}");
            let first = help.split_whitespace().next().unwrap();
            assert!(!first.ends_with('s'), "{what} describes and does not order: {first}");
            for part in ["--config <FILE>", "Example", "Exit codes:", "  130  ended at once"] {
                assert!(help.contains(part), "{what} lacks {part}:\n{help}");
            }
            let wide = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{what}: wider than 80 columns");
            paths.extend(commands(&help).into_iter().map(|name| [&path[..], &[name]].concat()));
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_check_without_a_credential_or_a_server_names_ways_keys_and_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pipeline.toml");
    fs::write(&config, away(dir.path())).unwrap();
    let (code, said) = run("ingester", &["check", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    for part in [
        "no AWS credential found; give one: s3.access_key_id",
        "AWS_PROFILE",
        "cannot connect to Redshift at 127.0.0.1:1 (redshift.host, redshift.port): ",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let keyed = away(dir.path())
        .replace("endpoint =", "access_key_id = \"i\"\nsecret_access_key = \"k\"\nendpoint =");
    fs::write(&config, keyed).unwrap();
    let (code, said) = run("ingester", &["--config", config.to_str().unwrap(), "check"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("cannot reach http://127.0.0.1:1 (s3.endpoint, s3.region): "), "{said}");
}

#[test]
fn a_fatal_error_is_said_once_and_with_its_pattern_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pipeline.toml");
    let filter = "[[filter]]\nname = \"bots\"\nfield = \"pageName\"\nmatches = [\"(oops\"]\n";
    fs::write(&config, away(dir.path()) + filter).unwrap();
    let (code, said) = run("producer", &["run", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    assert_eq!(said.matches("unclosed group").count(), 1, "{said}");
    assert_eq!(said.matches("(oops").count(), 1, "{said}");
}

#[test]
fn a_secret_file_is_named_with_its_key_and_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pipeline.toml");
    let text = away(dir.path()).replace("password = \"p\"", "password_file = \"/nonexistent/secret\"");
    fs::write(&config, text).unwrap();
    let (code, said) = run("ingester", &["check", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    let named = format!(
        "{}: redshift.password_file: the secret file /nonexistent/secret does not exist",
        config.display()
    );
    assert!(said.contains(&named), "{said}");
}

#[test]
fn what_is_piped_has_no_colour_and_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("a-folder-with-a-long-name/".repeat(2));
    let config = dir.path().join("pipeline.toml");
    fs::write(&config, away(&long)).unwrap();
    let (code, said) = run("state", &["dump", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{}/loads", long.display())) && !said.contains(['…', '\u{1b}']), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_is_named_by_its_key() {
    let world = World::with(options(10), &Shape::default()).await;
    world.configure(SECRET_KEY, "not-the-secret-of-this-key");
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("check s3.secret_access_key "), "{said}");
}
