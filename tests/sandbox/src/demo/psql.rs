//! psql on what a demo left: the warehouse is started again on its files, for as long as psql runs.

use std::path::Path;
use std::process::ExitCode;

use crate::standins::{DATABASE, PASSWORD, USER, redshift};
use anyhow::Context;
use tokio::process::Command;

pub(crate) async fn run(dir: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(dir)?;
    anyhow::ensure!(dir.join("postgres").exists(), "{} holds no demo: run `make demo` first", dir.display());
    // COPY would have nothing to read from; everything else works.
    let redshift = redshift(&dir, "http://127.0.0.1:9").await?;
    let status = Command::new("psql")
        .args(["-h", "127.0.0.1", "-p", &redshift.addr().port().to_string(), "-U", USER, "-d", DATABASE])
        .args(args)
        .env("PGPASSWORD", PASSWORD)
        .status()
        .await
        .context("cannot start psql: install Debian's postgresql-client")?;
    redshift.stop().await;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
