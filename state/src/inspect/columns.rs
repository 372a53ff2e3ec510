//! Output for people: words, paragraphs of at most 100 columns, and what a terminal makes of them: its width, and colours.

use chrono::{DateTime, Utc};
use shared::human::time;
use shared::ids::BatchId;
use shared::seal::Counts;

use crate::status::service::Part;

pub(crate) const WIDTH: usize = 100;

/// Characters of a batch id that a narrow terminal shows: `--batch` takes them for the whole.
const SHORT_ID: usize = 18;
const ID: usize = 36;

/// The text with every line at most `width` columns wide: ids are shortened if a line of a table is wider, and what is
/// still wider goes on in the next line. Loses nothing else.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    let lines = unwrapped(text);
    let shorten = lines.iter().any(|line| starts_with_id(line) && line.chars().count() > width);
    let lines = lines.into_iter().map(|line| match shorten && (starts_with_id(&line) || is_head(&line)) {
        true => line.chars().take(SHORT_ID).chain(line.chars().skip(ID)).collect(),
        false => line,
    });
    lines.map(|line| folded(&line, width)).collect::<Vec<_>>().join("\n")
}

fn starts_with_id(line: &str) -> bool {
    line.get(..ID).is_some_and(|start| start.parse::<BatchId>().is_ok())
}

/// The head of the table of batches.
fn is_head(line: &str) -> bool {
    line.starts_with("batch  ") && line.chars().skip("batch".len()).take(ID - "batch".len()).all(|c| c == ' ')
}

/// The lines, with the paragraphs that [`wrap`] made in one line each.
fn unwrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let (indent, words) = (indentation(line), line.trim_start());
        let first = words.split(' ').next().unwrap_or_default().chars().count();
        match lines.last_mut() {
            // It would have stood in the line before, if there had been room.
            Some(before)
                if indent >= 4
                    && indentation(before) == indent
                    && last_width(before, indent) + 1 + first > WIDTH =>
            {
                before.push(' ');
                before.push_str(words);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn indentation(line: &str) -> usize {
    line.chars().take_while(|c| *c == ' ').count()
}

/// The width of the last line of a paragraph that was joined, by wrapping it again.
fn last_width(joined: &str, indent: usize) -> usize {
    wrap(joined, indent).lines().last().map_or(0, |line| line.chars().count())
}

/// A line, folded between words behind its indentation or its label.
fn folded(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let label = line.split("  ").next().map_or(0, |label| label.chars().count());
    let text = label + line.chars().skip(label).take_while(|c| *c == ' ').count();
    let indent = match indentation(line) {
        0 if text <= 14 => text,
        0 => 4,
        indent => indent.min(width / 2),
    };
    let (head, words): (String, String) =
        (line.chars().take(indent).collect(), line.chars().skip(indent).collect());
    let folded = wrap_to(&words, indent, width, width.saturating_sub(indent).max(1));
    head + folded.trim_start()
}

/// The words of `text` in indented lines of at most [`WIDTH`]. A word that is longer has a line of its own: it may be an
/// address to copy.
#[must_use]
pub fn wrap(text: &str, indent: usize) -> String {
    wrap_to(text, indent, WIDTH, usize::MAX)
}

/// The words of `text` in at most so many lines of a width; what has no room is cut, and says so.
pub(crate) fn wrapped(text: &str, width: usize, lines: usize) -> Vec<String> {
    let width = width.max(1);
    let all = wrap_to(text, 0, width, width);
    let mut kept: Vec<_> = all.lines().take(lines).map(str::to_owned).collect();
    if all.lines().count() > lines
        && let Some(last) = kept.last_mut()
    {
        let short: String = last.chars().take(width - 1).collect();
        *last = short + "…";
    }
    kept
}

/// Words longer than `longest` are broken.
fn wrap_to(text: &str, indent: usize, width: usize, longest: usize) -> String {
    let room = width.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut used = room;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for part in word.chunks(longest) {
            match lines.last_mut() {
                Some(line) if used + 1 + part.len() <= room => {
                    line.push(' ');
                    line.extend(part);
                    used += 1 + part.len();
                }
                _ => {
                    lines.push(" ".repeat(indent) + &part.iter().collect::<String>());
                    used = part.len();
                }
            }
        }
    }
    lines.join("\n")
}

/// What a line needs of its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something fails.
    Red,
    /// Something waits or is gone.
    Yellow,
}

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// The text with a colour for each line that needs attention: red for what fails, yellow for what waits or is gone.
#[must_use]
pub(crate) fn coloured(text: &str) -> String {
    let line = |line: &str| match tone(line) {
        Some(Tone::Red) => format!("{RED}{line}{PLAIN}"),
        Some(Tone::Yellow) => format!("{YELLOW}{line}{PLAIN}"),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The colour of a line that needs attention.
pub(crate) fn tone(line: &str) -> Option<Tone> {
    let label = line.split(' ').next().unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    match label {
        _ if line.trim_start().starts_with("ALERT ") || label == "✗" => Some(Tone::Red),
        "alert" if says(&[" critical for "]) => Some(Tone::Red),
        "alert" => Some(Tone::Yellow),
        "stream" | "upload" | "discovery" | "load" | "archive" | "reconcile" | "log" | "alerts"
            if says(&["FULL", " fails for ", " not connected for ", " held up for ", " not told for "]) =>
        {
            Some(Tone::Red)
        }
        "▲" => Some(Tone::Yellow),
        "producer" | "ingester" if says(&["not running"]) => Some(Tone::Yellow),
        "stream" if says(&["never connected", "not connected"]) => Some(Tone::Yellow),
        "paused" | "gaps" | "in" | "staged" | "drift" => Some(Tone::Yellow),
        _ => None,
    }
}

pub(super) fn outcomes(counts: &Counts) -> String {
    counts.to_string()
}

pub(super) fn header<P, I>(at: DateTime<Utc>, producer: &Part<P>, ingester: &Part<I>) -> String {
    let at = time(at);
    format!("{at}\nproducer  {}\ningester  {}", producer.origin(), ingester.origin())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_whole() {
        let text = format!("a  b\n {} c {}", "x".repeat(95), "y".repeat(120));
        let lines = format!("    a b\n    {}\n    c\n    {}", "x".repeat(95), "y".repeat(120));
        assert_eq!(wrap(&text, 4), lines);
    }

    #[test]
    fn a_narrow_terminal_has_short_ids_and_folded_lines_and_loses_nothing() {
        let id = BatchId::new().to_string();
        let row = format!("{id}  sealed      4/10   10,000   19.1 MiB   2m10s  archived");
        let head = format!("{:36}  state      files     rows      bytes     age  load", "batch");
        let reason = wrap(&"a reason that goes on ".repeat(12), 10);
        let log = "log       12,000 rows not yet in S3, 4.8 MiB on disk, 30,000 hit ids remembered, 34 rejects waiting";
        let text = format!("{log}\n{reason}\n{head}\n{row}");
        let fitted = fit(&text, 80);
        assert!(fitted.lines().all(|line| line.chars().count() <= 80), "{fitted}");
        assert!(fitted.contains(&format!("\n{}  sealed ", &id[..18])), "{fitted}");
        let lines: Vec<_> = fitted.lines().collect();
        assert_eq!(lines[1], "          34 rejects waiting", "{fitted}");
        // A paragraph is folded anew, not once more.
        assert!(lines[2..5].iter().all(|line| line.len() > 65), "{fitted}");
        assert_eq!(lines.len(), 2 + 4 + 2, "{fitted}");
        assert_eq!(fit(&text, 120).lines().last(), Some(&*row));
    }

    #[test]
    fn what_needs_attention_has_a_colour() {
        for (line, expected) in [
            ("log       FULL for 8s:", Some(Tone::Red)),
            ("stream    connection 1 not connected for 1m10s; 2 failures, next in 52s:", Some(Tone::Red)),
            ("    ALERT passing: 1023", Some(Tone::Red)),
            ("producer  not running: read from its database in /x", Some(Tone::Yellow)),
            ("producer  process 7", None),
            ("log       12,000 rows not yet in S3", None),
            ("pending  3 batches, 30,000 rows", None),
        ] {
            assert_eq!(tone(line), expected, "{line}");
        }
        assert_eq!(coloured("✗ a\nb"), "\u{1b}[31m✗ a\u{1b}[0m\nb");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_it_may_be_and_wrapping_loses_nothing(text in r"(?s)([a-z]{0,150}|\s|.){0,30}", indent in 0_usize..20) {
            let wrapped = wrap(&text, indent);
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&wrapped), letters(&text));
            let is_narrow = |line: &str| line.chars().count() <= WIDTH || !line.trim().contains(char::is_whitespace);
            prop_assert!(wrapped.lines().all(is_narrow), "a word may be longer: {wrapped}");
            let fitted = fit(&text, 60);
            prop_assert!(fitted.lines().all(|line| line.chars().count() <= 60), "{fitted}");
            prop_assert_eq!(letters(&fitted), letters(&text));
        }
    }
}
