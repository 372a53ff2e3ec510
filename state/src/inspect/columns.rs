//! Output for people: words, and lines of at most 100 columns.

use std::fmt::Debug;
use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;
use shared::clock;
use shared::human::{count, duration};
use shared::seal::Counts;

use crate::status::service::Part;

pub(crate) const WIDTH: usize = 100;

/// The text with every line cut to [`WIDTH`].
#[must_use]
pub fn cut(text: &str) -> String {
    let line = |line: &str| {
        if line.chars().count() <= WIDTH {
            line.to_owned()
        } else {
            line.chars().take(WIDTH - 1).chain(['…']).collect()
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The words of `text` in indented lines of at most [`WIDTH`]. A word that is longer than a line is broken.
#[must_use]
pub fn wrap(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut used = room;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for part in word.chunks(room) {
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

/// The word for a status or a class: its variant in lower case, as in JSON.
pub(super) fn word(value: impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

pub(super) fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    duration(Duration::from_secs(clock::age(then, now).as_secs()))
}

pub(super) fn outcomes(counts: &Counts) -> String {
    let Counts { received, rows, duplicates, filtered, rejected, .. } = *counts;
    let [received, rows, duplicates, filtered, rejected] =
        [received, rows, duplicates, filtered, rejected].map(count);
    format!("{received} = {rows} rows + {duplicates} duplicates + {filtered} filtered + {rejected} rejected")
}

pub(super) fn header<P, I>(at: DateTime<Utc>, producer: &Part<P>, ingester: &Part<I>) -> String {
    let at = at.format("%Y-%m-%d %H:%M:%S UTC");
    format!("{at}\nproducer  {}\ningester  {}", producer.origin(), ingester.origin())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_whole_where_they_can() {
        let text = format!("a  b\n {} c {}", "x".repeat(95), "y".repeat(120));
        let lines =
            format!("    a b\n    {}\n    c\n    {}\n    {}", "x".repeat(95), "y".repeat(96), "y".repeat(24));
        assert_eq!(wrap(&text, 4), lines);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_100_columns_and_wrapping_loses_nothing(text in r"(?s)([a-z]{0,150}|\s|.){0,30}", indent in 0_usize..20) {
            let wrapped = wrap(&text, indent);
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&wrapped), letters(&text));
            for text in [wrapped, cut(&text)] {
                prop_assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            }
        }
    }
}
