//! The process that holds the stand-ins. It says where they are in one line of JSON, then how far they are, a line
//! five times a second; it ends when its standard input does, so that it never outlives the demo.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::service::binary;
use crate::standins::{Endpoints, Standins, plan};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{oneshot, watch};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) records: u64,
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) start_epoch: i64,
    #[arg(long)]
    pub(crate) rate: Option<u64>,
}

/// How far the stand-ins are.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Distinct hits sent.
    pub(crate) sent: u64,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let log = std::fs::File::create(options.dir.join("logs").join("stand-ins.out"))?;
    tracing_subscriber::fmt().with_writer(log).with_ansi(false).init();
    let adobe = adobe::Options {
        plan: plan(options.seed, options.records, options.start_epoch),
        rate: options.rate,
        ..adobe::Options::default()
    };
    let standins = Standins::start(&options.dir, adobe).await?;
    say(&standins.endpoints())?;
    let mut demo_ended = demo_ended();
    loop {
        tokio::select! {
            _ = &mut demo_ended => break,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                say(&Status { sent: standins.adobe.distinct_sent() })?;
            }
        }
    }
    standins.stop().await;
    Ok(std::fs::write(options.dir.join(GONE), "")?)
}

/// Written when the stand-ins have stopped.
const GONE: &str = "logs/stand-ins.gone";

/// Waits until the stand-ins of a demo that was interrupted have stopped; they hear of it when it closes their input.
pub(crate) async fn gone(dir: &Path) {
    for _ in 0..100 {
        if !dir.join("logs/stand-ins.out").exists() || dir.join(GONE).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Comes when the demo closes our standard input, or has died.
fn demo_ended() -> oneshot::Receiver<()> {
    let (ended, demo_ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    demo_ended
}

fn say<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    // Whoever does not listen any more has ended.
    Ok(std::io::stdout().write_all(&line)?)
}

/// The other end: the process seen from the demo.
pub(crate) struct Keeper {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) endpoints: Endpoints,
    pub(crate) status: watch::Receiver<Status>,
}

impl Keeper {
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        let mut command = Command::new(binary("demo")?);
        command.arg("stand-ins").arg("--dir").arg(&options.dir);
        command.args(["--records", &options.records.to_string(), "--seed", &options.seed.to_string()]);
        command.args(["--start-epoch", &options.start_epoch.to_string()]);
        if let Some(rate) = options.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut child = child.context("cannot start the stand-ins")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe to the stand-ins")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next_line().await?.unwrap_or_default();
        let endpoints = serde_json::from_str(&first)
            .map_err(|_| anyhow::anyhow!("the stand-ins did not start: {first}"))?;
        let (send, status) = watch::channel(Status::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(status) = serde_json::from_str(&line) {
                    send.send_replace(status);
                }
            }
        });
        Ok(Self { child, stdin, endpoints, status })
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        let _ = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
    }
}
