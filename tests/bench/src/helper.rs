//! A process beside the one that is measured: the benchmark starts itself once more, with arguments that say what to do.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

/// The process. It ends when it is told to.
#[derive(Debug)]
pub struct Helper(Child);

impl Helper {
    /// Starts it, and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or ends.
    pub fn start(args: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut helper = Self(child);
        helper.hear()?;
        Ok(helper)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Tells it something that it knows what to do with.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&mut self, what: u8) -> anyhow::Result<()> {
        let input = self.0.stdin.as_mut().context("no input")?;
        input.write_all(&[what])?;
        Ok(input.flush()?)
    }

    /// Waits until it says one thing more.
    ///
    /// # Errors
    /// When it is gone.
    pub fn hear(&mut self) -> anyhow::Result<u8> {
        let mut said = [0];
        self.0.stdout.as_mut().context("no output")?.read_exact(&mut said)?;
        Ok(said[0])
    }

    /// Tells it to end, and returns what it says then.
    ///
    /// # Errors
    /// When it fails.
    pub fn end(mut self) -> anyhow::Result<String> {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().context("no output")?.read_to_string(&mut said)?;
        ensure!(self.0.wait()?.success(), "a process of the benchmark failed");
        Ok(said)
    }
}

/// In the helper: says that it is ready, and returns when it is to end. Blocks.
///
/// # Errors
/// When the other process is gone.
pub fn ready() -> anyhow::Result<()> {
    serve(|_| ())
}

/// The same, and does what it is told meanwhile.
///
/// # Errors
/// When the other process is gone.
pub fn serve(mut told: impl FnMut(u8)) -> anyhow::Result<()> {
    std::io::stdout().write_all(b".")?;
    std::io::stdout().flush()?;
    for byte in std::io::stdin().lock().bytes() {
        told(byte?);
    }
    Ok(())
}
