//! A terminal for a program that needs one: a pseudo-terminal, and what a person would see on it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use sandbox::service;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal.
pub(crate) struct Terminal {
    child: Child,
    /// What the program sees.
    inner: File,
    outer: File,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `state` with these arguments, in a terminal of so many columns and lines.
    pub(crate) fn start(args: &[&str], config: &Path, (columns, lines): (u16, u16)) -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let name = ptsname(&outer, Vec::new()).unwrap();
        let inner = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let outer = File::from(outer);
        resize(&outer, columns, lines);
        let mut command: Command = service::command("state", args, config).unwrap();
        let output = || Stdio::from(inner.try_clone().unwrap());
        command
            .stdin(output())
            .stdout(output())
            .stderr(output())
            .env("TERM", "xterm-256color")
            .env("NO_COLOR", "1");
        let child = command.spawn().unwrap();
        let (screen, raw): (Arc<Mutex<_>>, Arc<Mutex<Vec<u8>>>) =
            (Arc::new(Mutex::new(vt100::Parser::new(some(lines), some(columns), 0))), Arc::default());
        std::thread::spawn({
            let (mut from, screen, raw) = (outer.try_clone().unwrap(), screen.clone(), raw.clone());
            move || {
                let mut bytes = [0; 4096];
                while let Ok(some @ 1..) = from.read(&mut bytes) {
                    screen.lock().unwrap().process(&bytes[..some]);
                    raw.lock().unwrap().extend_from_slice(&bytes[..some]);
                }
            }
        });
        Self { child, inner, outer, screen, raw }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.outer.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        resize(&self.outer, columns, lines);
        self.screen.lock().unwrap().screen_mut().set_size(some(lines), some(columns));
        // The terminal is not the one that controls the process.
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until all of this is to be seen, and returns the screen.
    pub(crate) async fn until(&self, parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{parts:?} not within {PATIENCE:?}:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the end of the program, which must leave the terminal as it was.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let modes = tcgetattr(&self.inner).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let raw = self.raw.lock().unwrap().clone();
        let last = |code: &[u8]| raw.windows(code.len()).rposition(|bytes| bytes == code);
        assert!(last(b"\x1b[?1049l") > last(b"\x1b[?1049h"), "the other screen is left");
        assert!(last(b"\x1b[?25h") > last(b"\x1b[?25l"), "the cursor is shown");
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(size: u16) -> NonZero<u16> {
    NonZero::new(size).unwrap()
}

fn resize(terminal: &File, columns: u16, lines: u16) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
