//! `state tap`: prints records as they pass through the running producer. They go to standard output and nowhere else.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::{bytes, count, time};
use shared::out;
use shared::shutdown::Shutdown;

use crate::status::feed::{self, AskError, TapStream, Tapped};
use crate::status::tap::{Became, RECORD_BYTES_MAX, TapRecord, Wanted};

/// Bytes of a record that are shown unless the whole is asked for.
const RECORD_BYTES: u32 = 400;
/// Longest wait for the producer to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to show, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct TapForm {
    /// Show only records that became rows.
    #[arg(long)]
    rows: bool,
    /// Show only rejects: records that cannot become rows.
    #[arg(long)]
    rejects: bool,
    /// End after so many records.
    #[arg(short = 'n', long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Show up to 16 KiB of each record, instead of its first 400 bytes.
    #[arg(long)]
    full: bool,
    /// Print a line of JSON for each record (docs/STATE.md).
    #[arg(long)]
    json: bool,
}

impl TapForm {
    fn wanted(&self) -> Wanted {
        let only = [(self.rows, Became::Row), (self.rejects, Became::Rejected)];
        let only = only.into_iter().filter(|(asked, _)| *asked).map(|(_, became)| became).collect();
        Wanted { only, record_bytes: if self.full { RECORD_BYTES_MAX } else { RECORD_BYTES } }
    }

    /// Prints what passes, until enough was shown, a signal, or the end of the producer.
    pub(crate) async fn run(&self, config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
        let socket = config.producer_socket();
        let opened = tokio::time::timeout(PATIENCE, feed::tap(&socket, self.wanted())).await;
        let mut tap = match opened {
            Ok(Ok(tap)) => tap,
            Ok(Err(error)) => return Err(not_opened(error, &socket.display().to_string())),
            Err(_) => {
                let text = "does not answer: its producer is stopped or overloaded; retry later";
                return Err(unavailable(format!("{} {text}", socket.display())));
            }
        };
        if !self.json {
            writeln!(out::stderr(), "records pass through process {}; Ctrl-C ends this", tap.pid)?;
        }
        // Ends when its reader has gone, unlike other output: this one may go on for ever.
        match self.print(&mut tap, shutdown).await {
            Err(Ended::ReaderGone) | Ok(()) => Ok(()),
            Err(Ended::Failed(failure)) => Err(failure),
        }
    }

    async fn print(&self, tap: &mut TapStream, shutdown: &Shutdown) -> Result<(), Ended> {
        let mut left = self.number.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(next) = shutdown.until(tap.next()).await else { return Ok(()) };
            let Some(tapped) = next.map_err(|error| Ended::Failed(broken(tap.pid, &error)))? else {
                let text = "hung up: it was stopped or restarted, or nobody read this output for 10 minutes";
                return Err(Ended::Failed(unavailable(format!(
                    "process {} {text}; run this again",
                    tap.pid
                ))));
            };
            left -= u64::from(matches!(tapped, Tapped::Record(_)));
            self.line(&mut io::stdout().lock(), &tapped)?;
        }
        Ok(())
    }

    fn line(&self, out: &mut impl Write, tapped: &Tapped) -> Result<(), Ended> {
        match tapped {
            Tapped::Record(record) if self.json => {
                writeln!(out, "{}", serde_json::to_string(record).map_err(io::Error::from)?)?;
            }
            Tapped::Record(record) => writeln!(out, "{}", text(record))?,
            Tapped::NotShown(records) if self.json => writeln!(out, "{{\"not_shown\":{records}}}")?,
            Tapped::NotShown(records) => writeln!(out, "… {} not shown", count(*records))?,
        }
        Ok(out.flush()?)
    }
}

enum Ended {
    ReaderGone,
    Failed(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Failed(error.into()) }
    }
}

fn unavailable(text: String) -> Failure {
    Failure::new(Exit::Unavailable, anyhow::anyhow!(text))
}

fn broken(pid: u32, error: &io::Error) -> Failure {
    unavailable(format!("process {pid} sent what this version cannot read: {error}"))
}

fn not_opened(error: AskError, socket: &str) -> Failure {
    match error {
        AskError::Refused(failure) => failure,
        AskError::Nobody(error) if error.kind() == ErrorKind::PermissionDenied => {
            let text = "is for the producer's user alone: run this as that user";
            Failure::new(Exit::Permission, anyhow::anyhow!("{socket} {text}"))
        }
        AskError::Nobody(error) => unavailable(format!(
            "the producer does not run, so no records pass: nobody answers on {socket} ({error}); start it, or look at \
             `state dump`"
        )),
        broken @ AskError::Broken(_) => {
            unavailable(format!("asked on {socket}, the producer hung up: {broken}"))
        }
    }
}

fn text(record: &TapRecord) -> String {
    let became = match record.became {
        Became::Row => "row",
        Became::Duplicate => "duplicate",
        Became::Filtered => "filtered",
        Became::Rejected => "rejected",
    };
    let mut out = format!("{}  {became:9}", record.at.format("%H:%M:%S%.3f"));
    for (label, value) in [
        ("  hit ", &record.hit),
        ("  by ", &record.filter),
        ("  ", &record.code),
        (": ", &record.reason),
        ("  received ", &record.received.map(time)),
    ] {
        if let Some(value) = value {
            out.push_str(label);
            out.push_str(&printable(value));
        }
    }
    let altered: Vec<_> = record.altered.iter().map(|one| format!("{} {}", one.column, one.how)).collect();
    if !altered.is_empty() {
        out.push_str("  altered: ");
        out.push_str(&printable(&altered.join(", ")));
    }
    let (shown, of) = match (&record.record, &record.record_base64) {
        (Some(text), _) => (printable(text), text.len() as u64),
        (None, Some(base64)) => (format!("base64 {base64}"), base64.len() as u64 / 4 * 3),
        (None, None) => {
            out.push_str(&format!(
                "\n    not shown: fields are protected, and it cannot be read ({})",
                bytes(record.bytes)
            ));
            return out;
        }
    };
    out.push_str("\n    ");
    out.push_str(&shown);
    if of < record.bytes {
        out.push_str(&format!("… ({})", bytes(record.bytes)));
    }
    out
}

/// Without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::status::tap::Altered;

    fn record() -> TapRecord {
        TapRecord {
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            connection: 0,
            became: Became::Row,
            hit: Some("7-9".to_owned()),
            received: None,
            filter: None,
            code: None,
            reason: None,
            altered: vec![Altered { column: "evar1".to_owned(), how: "cut".to_owned() }],
            bytes: 900,
            record: Some("{\"a\":\u{1b}[2J".to_owned()),
            record_base64: None,
        }
    }

    #[test]
    fn a_record_says_what_became_of_it_and_commands_no_terminal() {
        let said = text(&record());
        assert_eq!(
            said,
            "08:00:00.000  row        hit 7-9  altered: evar1 cut\n    {\"a\":\u{fffd}[2J… (900 B)"
        );
        let rejected = TapRecord {
            became: Became::Rejected,
            hit: None,
            code: Some("not_utf8".to_owned()),
            reason: Some("not UTF-8 from byte 0".to_owned()),
            altered: Vec::new(),
            bytes: 3,
            record: None,
            record_base64: Some("/3t9".to_owned()),
            ..record()
        };
        let said = text(&rejected);
        assert_eq!(said, "08:00:00.000  rejected   not_utf8: not UTF-8 from byte 0\n    base64 /3t9");
        let filtered = TapRecord { became: Became::Filtered, filter: Some("bots".to_owned()), ..rejected };
        assert!(text(&filtered).contains("filtered   by bots"), "{}", text(&filtered));
    }

    #[test]
    fn json_is_one_line_each() {
        let form = TapForm { rows: false, rejects: true, number: None, full: true, json: true };
        assert_eq!(form.wanted().only, [Became::Rejected]);
        let mut out = Vec::new();
        for tapped in [Tapped::Record(record()), Tapped::NotShown(1_204)] {
            assert!(form.line(&mut out, &tapped).is_ok());
        }
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["became"], &lines[1]["not_shown"]), (&"row".into(), &1_204.into()));
    }

    #[test]
    fn a_producer_that_cannot_be_tapped_says_what_to_do() {
        let none = not_opened(AskError::Nobody(ErrorKind::NotFound.into()), "/x/feed.sock");
        assert!(none.exit() == Exit::Unavailable && none.to_string().contains("start it"), "{none}");
        let other = not_opened(AskError::Nobody(ErrorKind::PermissionDenied.into()), "/x/feed.sock");
        assert!(
            other.exit() == Exit::Permission && other.to_string().contains("run this as that user"),
            "{other}"
        );
    }
}
