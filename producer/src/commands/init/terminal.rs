//! Questions on a terminal.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use shared::secret::Secret;

/// Somebody who can be asked.
pub(super) struct Terminal<'t> {
    input: &'t mut dyn BufRead,
    output: &'t mut dyn Write,
    /// Keeps an answer from showing while it is typed, until it is dropped.
    hide: fn() -> Option<Hidden>,
}

impl fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

impl<'t> Terminal<'t> {
    /// The terminal that standard input is; None if it is none.
    pub(super) fn of_standard_input(input: &'t mut dyn BufRead, output: &'t mut dyn Write) -> Option<Self> {
        io::stdin().is_terminal().then_some(Self { input, output, hide: Hidden::begin })
    }

    #[cfg(test)]
    pub(super) fn typed(input: &'t mut dyn BufRead, output: &'t mut dyn Write) -> Self {
        Self { input, output, hide: || None }
    }

    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.output, "{text}")
    }

    /// Asks until there is an answer or a default.
    pub(super) fn ask(&mut self, question: &str, default: Option<&str>) -> io::Result<String> {
        loop {
            let shown = default.filter(|default| !default.is_empty());
            let shown = shown.map(|default| format!(" [{default}]")).unwrap_or_default();
            write!(self.output, "{question}{shown}: ")?;
            match (self.line()?.trim(), default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) => self.say("An answer is needed here.")?,
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }

    /// Asks for a secret, which does not show. None: it comes later.
    pub(super) fn ask_secret(&mut self, question: &str) -> io::Result<Option<Secret>> {
        write!(self.output, "{question} (does not show; empty: later): ")?;
        self.output.flush()?;
        let hidden = (self.hide)();
        let line = self.line();
        drop(hidden);
        // The end of the line did not show either.
        self.say("")?;
        let line = line?;
        let secret = line.trim_end_matches(['\r', '\n']);
        Ok(if secret.is_empty() { None } else { Some(Secret::new(secret)) })
    }

    fn line(&mut self) -> io::Result<String> {
        self.output.flush()?;
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input has ended"));
        }
        Ok(line)
    }
}

/// What is typed does not show, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Option<Self> {
        let shown = tcgetattr(io::stdin()).ok()?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).ok()?;
        Some(Self(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_is_the_default_or_asked_again_and_a_secret_may_come_later() {
        let (mut input, mut output) = (&b"\n\n  web-2 \nhunter2 \n\n"[..], Vec::new());
        let mut terminal = Terminal::typed(&mut input, &mut output);
        assert_eq!(terminal.ask("Table", Some("public.livestream")).unwrap(), "public.livestream");
        assert_eq!(terminal.ask("Name", None).unwrap(), "web-2");
        assert_eq!(terminal.ask_secret("Secret").unwrap().unwrap().reveal(), "hunter2 ");
        assert!(terminal.ask_secret("Secret").unwrap().is_none());
        assert_eq!(terminal.ask("More", None).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let said = String::from_utf8(output).unwrap();
        assert!(
            said.starts_with("Table [public.livestream]: Name: An answer is needed here.\nName: "),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}
