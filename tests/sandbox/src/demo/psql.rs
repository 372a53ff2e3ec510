//! psql on what a demo left. While its stand-ins run, psql connects to theirs; otherwise the warehouse is started again
//! on its files, for as long as psql runs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use crate::standins::{DATABASE, PASSWORD, USER, redshift, session};
use anyhow::Context;
use shared::config::{Config, Secrets};
use tokio::process::Command;

pub(crate) async fn run(dir: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(dir)?;
    anyhow::ensure!(dir.join("postgres").exists(), "{} holds no demo: run `make demo` first", dir.display());
    if let Some(running) = running(&dir).await {
        return psql(running, args).await;
    }
    // COPY would have nothing to read from; everything else works.
    let redshift = redshift(&dir, "http://127.0.0.1:9").await?;
    let done = psql(redshift.addr(), args).await;
    redshift.stop().await;
    done
}

/// Where the demo's own warehouse answers, if its stand-ins run.
async fn running(dir: &Path) -> Option<SocketAddr> {
    let config = Config::load(&dir.join("pipeline.toml"), Secrets::Unused).ok()?.redshift;
    let at = SocketAddr::new(config.host.parse().ok()?, config.port);
    session(at, USER, PASSWORD).await.ok().map(|_| at)
}

async fn psql(at: SocketAddr, args: &[String]) -> anyhow::Result<ExitCode> {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let status = Command::new("psql")
        .args(["-h", &host, "-p", &port, "-U", USER, "-d", DATABASE])
        .args(args)
        .env("PGPASSWORD", PASSWORD)
        .status()
        .await
        .context("cannot start psql: install Debian's postgresql-client")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
