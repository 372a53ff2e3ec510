//! The command line: exit codes, and nothing wider than 100 columns.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use state::loads::LoadDatabase;
use state::log::Log;
use state::store::{Change, Kind, Store, Table};

use crate::{Place, append, now, settings, upload};

const STATE: &str = env!("CARGO_BIN_EXE_state");

fn run(place: &Place, arguments: &[&str]) -> Output {
    Command::new(STATE).args(arguments).arg("--config").arg(place.toml()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn assert_ends(output: &Output, code: i32, said: &str) {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(said), "{said} is missing in {}", stderr(output));
}

#[test]
fn what_is_asked_for_wrongly_is_a_wrong_command_line_and_what_is_not_there_is_not() {
    let place = Place::new();
    for wrong in ["019caed", "019caeda-xxxx", "019caeda-ca6f-43aa-8f0b-91c6d2e85f03", ""] {
        assert_ends(&run(&place, &["dump", "--batch", wrong]), 64, "does not begin a batch id");
    }
    let both = run(&place, &["dump", "--pending", "--batch", "019caeda"]);
    assert_ends(&both, 64, "cannot be used with");
    assert_ends(&run(&place, &["dump", "--batch", "019caeda"]), 66, "no batch 019caeda is known here");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_code_that_says_why() {
    let place = Place::new();
    std::fs::write(place.producer(), "a file").unwrap();
    for command in [&["dump"][..], &["dump", "--pending"], &["dump", "--batch", "019caeda"]] {
        assert_ends(&run(&place, command), 78, "Not a directory");
    }
    let verified = run(&place, &["verify"]);
    assert_ends(&verified, 78, "see the lines marked ✗");
    assert!(stdout(&verified).contains("Not a directory"), "{}", stdout(&verified));
    std::fs::remove_file(place.producer()).unwrap();
    std::fs::create_dir_all(place.producer().join("of another program")).unwrap();
    assert_ends(&run(&place, &["verify"]), 0, "");
    drop(Log::open(settings(&place.producer()), now()).unwrap());
    for (format, kind, said) in
        [(3, "producer", "format 3"), (0, "producer", "format 0"), (1, "ingester", "belongs to the ingester")]
    {
        relabel(&place.producer(), &json!({"format": format, "kind": kind, "instance": "test"}));
        assert_ends(&run(&place, &["dump"]), 65, said);
        let verified = run(&place, &["verify"]);
        assert_ends(&verified, 65, "see the lines marked ✗");
        assert!(stdout(&verified).contains(said), "{}", stdout(&verified));
        relabel_back(&place.producer());
    }
}

fn relabel(dir: &Path, label: &Value) {
    let store = Store::open(dir, Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
    let mut change = Change::new();
    change.put(Table::Meta, b"label", label);
    store.commit(change).unwrap();
}

/// Made anew: a database with such a label cannot be opened to mend it.
fn relabel_back(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    drop(Log::open(settings(dir), now()).unwrap());
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let place = Place::new();
    {
        let store = Store::open(&place.ingester(), Kind::Ingester, "ingester", 1 << 20, |_| Ok(())).unwrap();
        let mut change = Change::new();
        change.remove(Table::Meta, b"label");
        change.put_bytes(Table::Loads, b"something", b"else");
        store.commit(change).unwrap();
    }
    assert_ends(&run(&place, &["dump"]), 65, "some other program");
}

#[test]
fn a_file_that_is_no_database_is_not_taken_for_one_of_a_service_that_never_ran() {
    let place = Place::new();
    std::fs::create_dir_all(place.ingester().join("sled")).unwrap();
    std::fs::write(place.ingester().join("sled").join("db"), "no database at all").unwrap();
    assert_ends(&run(&place, &["dump"]), 65, "it is empty");
    let verified = run(&place, &["verify"]);
    assert_ends(&verified, 65, "see the lines marked ✗");
    assert!(stdout(&verified).contains("✗ ingester, database: 1 fault"), "{}", stdout(&verified));
}

#[test]
fn another_user_may_not_look() {
    let place = Place::new();
    drop(LoadDatabase::open(&place.ingester()).unwrap());
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.ingester(), std::fs::Permissions::from_mode(0o700)).unwrap();
    // Root may look anywhere: then another user is played.
    let program = place.root.path().join("state");
    std::fs::copy(STATE, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["dump", "--config"]).arg(place.toml());
    if rustix::process::getuid().is_root() {
        command.uid(65_534).gid(65_534);
    } else {
        std::fs::set_permissions(place.ingester(), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = command.output().unwrap();
    std::fs::set_permissions(place.ingester(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_ends(&output, 77, "run as the user that owns it");
}

#[test]
fn nothing_that_people_read_is_wider_than_100_columns() {
    let place = Place::new();
    let now = now();
    let (mut log, _) = Log::open(settings(&place.producer()), now).unwrap();
    log.session_started(0, now).unwrap();
    append(&mut log, 0..130, now);
    log.uploaded(0, upload(0)).unwrap();
    log.session_ended(0, &"a reason without end ".repeat(50), now).unwrap();
    let batch = log.reader().batch(0).unwrap().id.to_string();
    drop(log);
    let narrow = |arguments: &[&str], with: &str| {
        let output =
            Command::new(STATE).args(arguments).env("LIVESTREAM_CONFIG", place.toml()).output().unwrap();
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains(with), "{arguments:?}: {with} is missing in\n{said}");
        // In a pipe nothing is cut; a terminal of 100 columns shows it so.
        for line in state::inspect::columns::fit(&said, 100).lines() {
            assert!(line.chars().count() <= 100, "{arguments:?}: {line}");
        }
    };
    narrow(&["--help"], "66  no input");
    narrow(&["dump", "--help"], "Examples:");
    narrow(&["verify", "--help"], "Examples:");
    narrow(&["dump"], "a reason without end");
    narrow(&["dump", "--pending"], "pending  3 batches, 130 rows");
    narrow(&["dump", "--batch", &batch], "etag");
    narrow(&["verify"], "✓ producer, chunks");
    let store = Store::open(&place.producer(), Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
    let mut change = Change::new();
    change.put_bytes(
        Table::Files,
        &1_u64.to_be_bytes(),
        br#"{"batch":0,"no":1,"status":"one that nobody knows"}"#,
    );
    store.apply(change).unwrap();
    drop(store);
    narrow(&["verify"], "✗ producer, files");
}

#[test]
fn json_of_every_command_tells_its_format_and_where_it_is_from() {
    let place = Place::new();
    let (mut log, _) = Log::open(settings(&place.producer()), now()).unwrap();
    append(&mut log, 0..60, now());
    let batch = log.reader().batch(0).unwrap().id.to_string();
    drop(log);
    for arguments in [&["dump"][..], &["dump", "--pending"], &["dump", "--batch", &batch], &["verify"]] {
        let output = run(&place, &[arguments, &["--json"]].concat());
        assert_ends(&output, 0, "");
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&json["format"], &json["producer"]["pid"]), (&json!(2), &Value::Null), "{json}");
        assert_eq!(json["producer"]["dir"], place.producer().display().to_string());
        assert!(
            json["producer"]["snapshot"].is_object() || json["producer"]["snapshot"].is_array(),
            "{json}"
        );
        assert!(json["ingester"]["snapshot"].is_null(), "{json}");
    }
}
