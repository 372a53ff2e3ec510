//! Writes every kind of statement that was seen into a file, for a parser that nobody here wrote (`make independent`).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Appends to its file, to which others may append too: one JSON string a line.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    /// Statements without their numbers and ids: of those that differ in nothing else, the first one is written.
    shapes: HashSet<String>,
}

impl Recorder {
    pub(crate) fn to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { file, shapes: HashSet::new() })
    }

    pub(crate) fn note(&mut self, sql: &str) -> io::Result<()> {
        if !self.shapes.insert(shape(sql)) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(sql)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

fn shape(sql: &str) -> String {
    let words = sql.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words.map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "0" } else { word }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_differ_in_numbers_and_ids_only_are_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statements");
        let mut recorder = Recorder::to(&path).unwrap();
        for sql in ["SELECT 1", "SELECT 22", "SELECT 'a1b2'", "SELECT 'c3d4e5'", "SELECT \"a\"\nFROM t"] {
            recorder.note(sql).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "\"SELECT 1\"\n\"SELECT 'a1b2'\"\n\"SELECT \\\"a\\\"\\nFROM t\"\n");
    }
}
