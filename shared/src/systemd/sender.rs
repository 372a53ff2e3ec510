//! Messages to the service manager.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

/// Characters of a status line at most.
const STATUS_CHARS: usize = 200;

type SendStates = dyn Fn(&[NotifyState<'_>]) + Send + Sync;

/// Sends to the manager's socket, or to a test.
#[derive(Clone)]
pub(super) struct Sender(Arc<SendStates>);

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// To the socket that `NOTIFY_SOCKET` names; None where it names none.
    pub(super) fn of_environment() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())?;
        Some(Self(Arc::new(|states| {
            if let Err(error) = sd_notify::notify(states) {
                tracing::debug!(%error, "the service manager took no message");
            }
        })))
    }

    /// Keeps every message, for tests.
    #[cfg(test)]
    pub(super) fn recording() -> (Self, Arc<std::sync::Mutex<Vec<String>>>) {
        let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = sent.clone();
        let sender = Self(Arc::new(move |states| {
            kept.lock().unwrap().extend(states.iter().map(ToString::to_string));
        }));
        (sender, sent)
    }

    pub(super) fn send(&self, states: &[NotifyState<'_>]) {
        (self.0)(states);
    }

    /// Sends what the service does, as one line.
    pub(super) fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// Gives the start or the stop this much time from now on.
    pub(super) fn extend(&self, by: Duration) {
        self.send(&[extension(by)]);
    }
}

/// The longest that the message can say is an hour and eleven minutes.
pub(super) fn extension(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// A line end would begin another message.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(STATUS_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(one_line("reading\nREADY=1"), "reading READY=1");
        let long = one_line(&"é".repeat(1_000));
        assert!(long.chars().count() == STATUS_CHARS + 1 && long.ends_with("é…"), "{long}");
    }
}
