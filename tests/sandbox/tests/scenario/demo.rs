//! What the demo offers beside its run.

use std::fs;
use std::path::Path;
use std::process::Command;

use sandbox::config::{Shape, pipeline};
use sandbox::service::binary;
use sandbox::standins::Standins;

/// What `demo psql` prints for a question.
fn psql(dir: &Path, question: &str) -> String {
    let mut command = Command::new(binary("demo").unwrap());
    let output = command.arg("psql").arg("--dir").arg(dir).args(["--", "-tAc", question]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_of_the_demo_answers_while_the_stand_ins_run_and_when_they_have_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let standins = Standins::start(dir.path(), adobe::Options::default()).await.unwrap();
    let config = pipeline(dir.path(), &standins.endpoints(), &Shape::default());
    fs::write(dir.path().join("pipeline.toml"), config).unwrap();
    assert_eq!(psql(dir.path(), "SELECT 42"), "42");
    standins.stop().await;
    assert_eq!(psql(dir.path(), "SELECT 42"), "42");
}
