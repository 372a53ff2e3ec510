//! The real binaries as child processes: started, killed, asked to stop, and looked at from outside.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::s3::access::key_for;

/// Takes the place of the key in the configuration, which is that of the tests.
const KEY_VARIABLE: &str = "LIVESTREAM__S3__ACCESS_KEY_ID";

/// Where cargo puts the workspace's binaries: beside this one, or one folder up from a test.
///
/// # Errors
/// When the binary has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let mut dirs = this.ancestors().skip(1).take(2);
    let path = dirs.find_map(|dir| Some(dir.join(name)).filter(|path| path.is_file()));
    path.with_context(|| format!("{name} is not built: run `cargo build --release --workspace --bins` first"))
}

/// A binary with this command, signing with a key of its own at S3 (see [`crate::s3::access`]).
///
/// # Errors
/// When the binary has not been built.
pub fn command(name: &str, args: &[&str], config: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(binary(name)?);
    command.args(args).arg("--config").arg(config).stdin(Stdio::null());
    // A test may start it without a configuration that can be read.
    let text = fs::read_to_string(config).unwrap_or_default();
    command.env(KEY_VARIABLE, key_for(name, args.first().copied(), &text));
    Ok(command)
}

/// Runs a binary to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(name: &str, args: &[&str], config: &Path) -> anyhow::Result<Output> {
    command(name, args, config)?.output().with_context(|| format!("cannot start {name}"))
}

/// A service that can be killed and started again.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    config: PathBuf,
    output: PathBuf,
    env: Vec<(&'static str, PathBuf)>,
    child: Option<Child>,
    peak_rss: u64,
}

impl Service {
    /// Starts `name run`; what it says goes to `name.out` in `logs`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &'static str, config: &Path, logs: &Path) -> anyhow::Result<Self> {
        Self::start_with(name, config, logs, &[])
    }

    /// The same with these variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(
        name: &'static str,
        config: &Path,
        logs: &Path,
        env: &[(&'static str, &Path)],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(logs)?;
        let (config, output) = (config.to_owned(), logs.join(format!("{name}.out")));
        let env = env.iter().map(|(variable, value)| (*variable, (*value).to_owned())).collect();
        let mut service = Self { name, config, output, env, child: None, peak_rss: 0 };
        service.start_again()?;
        Ok(service)
    }

    /// Starts it once more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let out = File::options().create(true).append(true).open(&self.output)?;
        let child = command(self.name, &["run"], &self.config)?
            .envs(self.env.iter().map(|(variable, value)| (variable, value)))
            .stdout(out.try_clone()?)
            .stderr(out)
            // Ctrl-C in the terminal is for the one who runs the sandbox.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process, if it was started and not yet waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Everything it has said.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.look()?;
        let Some(mut child) = self.child.take() else { bail!("{} does not run", self.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        kill_process(pid, signal).with_context(|| format!("signal to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + within;
        let Some(child) = &mut self.child else { bail!("{} does not run", self.name) };
        while Instant::now() < until {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{} did not end within {within:?}", self.name)
    }

    /// SIGTERM; it must end with code 0.
    ///
    /// # Errors
    /// When it ends otherwise or not in time.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        self.look()?;
        self.signal(Signal::TERM)?;
        let status = self.wait(within).await?;
        if !status.success() {
            bail!("{} ended with {status} when asked to stop:\n{}", self.name, tail(&self.said()));
        }
        Ok(())
    }

    /// Notes its memory, and that it still runs.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            self.child = None;
            bail!("{} ended by itself with {status}:\n{}", self.name, tail(&self.said()));
        }
        self.peak_rss = self.peak_rss.max(peak_rss_of(child.id()).unwrap_or(0));
        Ok(())
    }

    /// The most memory it was seen to hold at once, in bytes, over all its starts.
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        self.peak_rss
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The most memory that a process has held at once, in bytes; None if it has ended.
#[must_use]
pub fn peak_rss_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    Some(peak.trim().parse::<u64>().ok()? * 1024)
}
