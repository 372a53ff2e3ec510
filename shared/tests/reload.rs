//! A configuration that is read again: what is taken, what waits, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use shared::config::{Config, Reloaded, Secrets};
use shared::exit::Failure;
use shared::schema::Schema;

const EXAMPLE: &str = include_str!("../../deploy/pipeline.example.toml");

/// A configuration in a folder of its own, with secrets in files.
struct Running {
    dir: PathBuf,
    text: String,
    config: Config,
    schema: Schema,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Running {
    fn new(secrets: Secrets) -> Self {
        let dir = std::env::temp_dir().join(format!("reload-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        let lines: Vec<_> =
            EXAMPLE.lines().filter(|line| !line.trim_start_matches("# ").contains("_file = ")).collect();
        let file = |name: &str| {
            fs::write(dir.join(name), format!("first {name}\n")).unwrap();
            dir.join(name).display().to_string()
        };
        let text = lines.join("\n");
        let text =
            text.replace("[adobe]\n", &format!("[adobe]\nclient_secret_file = \"{}\"\n", file("secret")));
        let text =
            text.replace("[redshift]\n", &format!("[redshift]\npassword_file = \"{}\"\n", file("password")));
        let schema = dir.join("schema.toml");
        fs::write(&schema, "mode = 'extend'\ndrop = ['event11..event1000']\n").unwrap();
        let text = text + &format!("\n[schema]\nfile = \"{}\"\n", schema.display());
        fs::write(dir.join("pipeline.toml"), &text).unwrap();
        let config = Config::load(&dir.join("pipeline.toml"), secrets).unwrap();
        let schema = config.schema.load().unwrap();
        Self { dir, text, config, schema }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads it again with a piece of the text replaced, and goes on with what comes of it.
    fn reload(&mut self, from: &str, to: &str) -> Result<Reloaded, Failure> {
        assert!(self.text.contains(from), "{from} is not in\n{}", self.text);
        self.text = self.text.replace(from, to);
        fs::write(self.path("pipeline.toml"), &self.text).unwrap();
        let new = self.config.reload(&self.schema)?;
        (self.config, self.schema) = (new.config.clone(), new.schema.clone());
        Ok(new)
    }
}

#[test]
fn what_may_change_is_taken_and_what_may_not_waits_until_a_restart() {
    let mut running = Running::new(Secrets::Producer);
    let same = running.reload("", "").unwrap();
    assert!(same.taken.is_empty() && same.waiting.is_empty(), "{:?} {:?}", same.taken, same.waiting);

    let new = running.reload("[log]\n", "[rejects]\nkeep = \"reason\"\n[log]\ncommit_rows = 7\n").unwrap();
    assert_eq!(
        (new.taken, new.waiting),
        (vec!["rejects.keep".to_owned()], vec!["log.commit_rows".to_owned()])
    );
    assert_eq!(new.config.log.commit_rows, 256, "as at the start");
    assert_eq!(new.config.rejects.keep.name(), "reason");

    // It goes on to wait, whatever is taken then.
    let filter = "[[filter]]\nname = \"n\"\nfield = \"f\"\nexists = true\n[log]\n";
    let new = running.reload("[log]\n", filter).unwrap();
    assert_eq!((new.taken, new.waiting), (vec!["filter".to_owned()], vec!["log.commit_rows".to_owned()]));
    assert_eq!(new.config.filters.last().unwrap().name, "n");
    let new = running.reload("commit_rows = 7\n", "").unwrap();
    assert!(new.taken.is_empty() && new.waiting.is_empty(), "it is as the service has it again");
}

#[test]
fn a_secret_or_a_schema_that_is_another_in_its_file_is_taken_and_never_told() {
    let mut running = Running::new(Secrets::Producer);
    fs::write(running.path("secret"), "second secret").unwrap();
    fs::write(running.path("password"), "of the other service").unwrap();
    fs::write(running.path("schema.toml"), "mode = 'extend'\ndrop = ['event21..event1000']\n").unwrap();
    let new = running.reload("", "").unwrap();
    assert_eq!(new.taken, ["adobe.client_secret_file", "schema.file"]);
    assert!(new.takes("adobe") && new.takes("schema") && !new.takes("redshift"));
    assert_eq!(new.config.adobe.client_secret.reveal(), "second secret");
    assert_eq!(new.schema.columns.len(), running.schema.columns.len());
    let shown = format!("{new:?} {:?}", running.config);
    assert!(!shown.contains("second secret") && !shown.contains("first secret"), "{shown}");
}

#[test]
fn each_service_names_only_what_it_uses() {
    let change = |mut running: Running| {
        let filter = "[[filter]]\nname = \"n\"\nfield = \"f\"\nexists = true\n";
        running.reload("[log]\n", &format!("{filter}[log]\ncommit_rows = 7\n")).unwrap();
        running.reload("[s3]\n", "[s3]\nuploads = 9\n").unwrap();
        let new = running.reload("[ingester]\n", "[ingester]\nalert_after = 9\nrows_per_copy = 9\n").unwrap();
        fs::write(running.path("password"), "another").unwrap();
        (running.reload("field = \"f\"", "field = \"g\"").unwrap().taken, new.waiting)
    };
    let (taken, waiting) = change(Running::new(Secrets::Producer));
    assert_eq!(waiting, ["ingester.alert_after", "log.commit_rows", "s3.uploads"]);
    assert_eq!(taken, ["filter"]);
    let (taken, waiting) = change(Running::new(Secrets::Ingester));
    assert_eq!(waiting, ["ingester.alert_after", "ingester.rows_per_copy", "s3.uploads"]);
    assert_eq!(taken, ["redshift.password_file"]);
}

#[test]
fn whatever_is_wrong_nothing_is_taken_and_the_key_is_named() {
    let mut running = Running::new(Secrets::Producer);
    let before = running.text.clone();
    for (from, to, told) in [
        ("[log]\n", "[log\n", "line "),
        ("[log]\n", "[log]\ncomit_rows = 7\n", "log.comit_rows: unknown key; did you mean `commit_rows`?"),
        ("[log]\n", "[log]\ncommit_rows = 0\n", "log.commit_rows: must be between 1 and 10000"),
        ("[log]\n", "[[filter]]\nname = \"n\"\nfield = \"f\"\n[log]\n", "filter \"n\": give exactly one of"),
        (
            "client_secret_file = \"/",
            "client_secret_file = \"/nowhere/",
            "adobe.client_secret_file: the secret file",
        ),
        ("[schema]\nfile = \"/", "[schema]\nfile = \"/nowhere/", "cannot read the schema file"),
    ] {
        let failure = running.reload(from, to).unwrap_err().to_string();
        assert!(failure.contains(told), "{told}: {failure}");
        running.text.clone_from(&before);
    }
    fs::write(running.path("schema.toml"), "[[column]]\nname = \"a\"\n").unwrap();
    assert!(running.reload("", "").unwrap_err().to_string().contains("schema.toml"));
    fs::remove_file(running.path("pipeline.toml")).unwrap();
    assert!(running.config.reload(&running.schema).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn what_is_taken_must_fit_what_waits() {
    let mut running = Running::new(Secrets::Ingester);
    // With a password a user is needed. With a workgroup none may be given; but how to log in is not changed by a reload.
    let kept = |line: &&str| !line.starts_with("user = ") && !line.starts_with("password_file = ");
    running.text = running.text.lines().filter(kept).collect::<Vec<_>>().join("\n");
    let serverless = "[redshift]\nauth = \"serverless\"\nworkgroup = \"w\"\n";
    let failure = running.reload("[redshift]\n", serverless).unwrap_err().to_string();
    assert!(failure.contains("restart it to take redshift.auth, redshift.workgroup"), "{failure}");
    assert!(failure.contains("redshift.user: is missing"), "{failure}");
}

/// The producer takes its own keys, whatever becomes of the login of the ingester, which it does not use.
#[test]
fn a_change_that_only_the_other_service_must_restart_for_holds_nothing_up() {
    let mut running = Running::new(Secrets::Producer);
    let user = running.text.lines().find(|line| line.starts_with("user = ")).unwrap().to_owned();
    let new = running.reload(&user, "auth = \"serverless\"\nworkgroup = \"hits\"").unwrap();
    assert!(new.taken.is_empty() && new.waiting.is_empty(), "{:?} {:?}", new.taken, new.waiting);
    let new = running.reload("[log]\n", "[rejects]\nkeep = \"reason\"\n[log]\n").unwrap();
    assert_eq!(new.taken, ["rejects.keep"]);
}
