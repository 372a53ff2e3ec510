//! What a page names is there: files, folders, pages and their headings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use house::{CRATES, error_texts, files, workspace};

/// Folders at the top; what begins with one of them and ends like a file, or with a slash, is taken for a path.
const FOLDERS: [&str; 9] =
    ["producer/", "ingester/", "shared/", "state/", "tests/", "docs/", "deploy/", "fuzz/", ".ci/"];
const ENDINGS: [&str; 8] = [".rs", ".md", ".toml", ".json", ".sql", ".service", ".yaml", "/"];
/// Lines of the page that a newcomer reads in one go.
const ARCHITECTURE_LINES: usize = 300;

fn pages() -> Vec<PathBuf> {
    let root = workspace();
    let mut pages = files(&root.join("docs"), ".md");
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)));
    pages
}

/// Words of a text that may be paths.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    text.split(move |c| !is_of_path(c)).map(|word| word.trim_end_matches('.'))
}

/// How a heading is spelled behind `#` in a link.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn headings(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap();
    text.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// The paths and names of sources in a text that are not there.
fn missing_files(text: &str, names: &BTreeSet<String>) -> Vec<String> {
    let root = workspace();
    let there = |word: &str| {
        let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder))
            && ENDINGS.iter().any(|ending| word.ends_with(ending));
        if is_path {
            root.join(word).exists()
        } else if word.ends_with(".rs") && word.len() > 3 && !word.starts_with("src/") {
            // `src/…` is a source of a library.
            names.iter().any(|name| name.ends_with(&format!("/{word}")))
        } else {
            true
        }
    };
    words(text).filter(|word| !there(word)).map(str::to_owned).collect()
}

/// What a page names that is not there.
fn missing(page: &Path, names: &BTreeSet<String>) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut missing = missing_files(&text, names);
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        if !target.exists() || (!heading.is_empty() && !headings(&target).contains(heading)) {
            missing.push(link.to_owned());
        }
    }
    missing
}

/// Every source, from the root of the repository.
fn names() -> BTreeSet<String> {
    let root = workspace();
    let names: BTreeSet<String> = files(&root, ".rs")
        .iter()
        .map(|file| format!("/{}", file.strip_prefix(&root).unwrap().display()))
        .collect();
    assert!(names.len() > 200, "{}", names.len());
    names
}

#[test]
fn every_file_that_a_comment_names_is_there() {
    let (root, names) = (workspace(), names());
    let mut wrong = Vec::new();
    for file in files(&root, ".rs") {
        let text = fs::read_to_string(&file).unwrap();
        let comments: Vec<_> =
            text.lines().map(str::trim_start).filter(|line| line.starts_with("//")).collect();
        let missing = missing_files(&comments.join("\n"), &names);
        wrong.extend(missing.into_iter().map(|what| format!("{} names {what}", file.display())));
    }
    assert!(wrong.is_empty(), "these are not there:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_and_heading_that_a_page_names_is_there() {
    let (root, names) = (workspace(), names());
    let wrong: Vec<String> = pages()
        .iter()
        .flat_map(|page| {
            let name = page.strip_prefix(&root).unwrap().display().to_string();
            missing(page, &names).into_iter().map(move |what| format!("{name} names {what}"))
        })
        .collect();
    assert!(wrong.is_empty(), "these are not there:\n{}", wrong.join("\n"));
}

/// Texts of the product as they stand in its sources: a string that goes on behind a line's end is one text, and what is
/// put into a text is a space.
fn sources() -> String {
    let mut all = String::new();
    for krate in CRATES {
        for file in files(&workspace().join(krate).join("src"), ".rs") {
            all.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let mut text = String::with_capacity(all.len());
    for line in all.lines() {
        let line = line.trim_start();
        match line.strip_suffix('\\') {
            Some(goes_on) => text.push_str(goes_on),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn operations() -> String {
    fs::read_to_string(workspace().join("docs/OPERATIONS.md")).unwrap()
}

/// What stands below a heading, to the next one of its depth or a lesser one.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let start = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let text = &page[start + heading.len() + 2..];
    let depth = heading.split(' ').next().unwrap().len();
    let end = (2..=depth).filter_map(|depth| text.find(&format!("\n{} ", "#".repeat(depth)))).min();
    &text[..end.unwrap_or(text.len())]
}

/// What stands in backticks in one cell of the rows of a section's tables; cells count from 0.
fn in_cells(section: &str, cell: usize) -> Vec<&str> {
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|--"));
    let cells = rows.filter_map(|row| row.trim_start_matches("| ").split(" | ").nth(cell));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The first column of the page that an operator opens first: what they see.
fn first_page(page: &str) -> Vec<&str> {
    in_cells(section(page, "## When something is wrong"), 0)
}

#[test]
fn every_error_of_the_programs_is_on_the_first_page() {
    let (page, texts) = (operations(), error_texts());
    assert!(texts.len() > 15, "{texts:#?}");
    let seen = first_page(&page);
    let missing: Vec<_> = texts
        .iter()
        .filter(|text| text.words.is_empty() || !seen.iter().any(|seen| seen.contains(&text.words)))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/OPERATIONS.md, \"When something is wrong\", has no row for these texts of `error!`; one without words says \
         nothing of its own, so give it some: {missing:#?}"
    );
}

#[test]
fn every_alert_is_on_the_first_page() {
    let page = operations();
    let (alerts, seen) = (in_cells(section(&page, "### Metrics"), 0), first_page(&page));
    let figure = |alert: &&str| alert.starts_with("livestream_");
    let alerts: Vec<&str> =
        alerts.iter().map(|alert| alert.split('{').next().unwrap()).filter(figure).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    let missing: Vec<_> = alerts
        .iter()
        .filter(|alert| !seen.iter().any(|seen| seen.split('{').next() == Some(alert)))
        .collect();
    assert!(missing.is_empty(), "\"When something is wrong\" has no row for these alerts: {missing:#?}");
}

#[test]
fn every_message_worth_an_alert_stands_in_the_code() {
    let (page, sources) = (operations(), sources());
    let mut messages = first_page(&page);
    messages.extend(in_cells(section(&page, "### Warnings worth an alert"), 1));
    assert!(messages.len() > 30, "{}", messages.len());
    // Keys and columns are named beside messages; a message has blanks.
    let parts = messages.iter().filter(|message| message.contains(' ')).flat_map(|message| {
        message
            .split(['…'])
            .flat_map(|part| part.split(" N "))
            .map(|part| part.trim_matches([' ', ';', ':', ',']))
    });
    let missing: Vec<&str> = parts.filter(|part| part.contains(' ') && !sources.contains(part)).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md names messages that no source has: {missing:#?}");
}

#[test]
fn the_architecture_is_one_sitting() {
    let lines = fs::read_to_string(workspace().join("docs/ARCHITECTURE.md")).unwrap().lines().count();
    assert!(lines <= ARCHITECTURE_LINES, "docs/ARCHITECTURE.md has {lines} lines");
}

#[test]
fn words_and_headings_are_told_as_a_reader_sees_them() {
    let found: Vec<&str> =
        words("see `producer/src/run.rs`, (docs/A.md).").filter(|w| w.contains('/')).collect();
    assert_eq!(found, ["producer/src/run.rs", "docs/A.md"]);
    assert_eq!(slug(" What is stored, and `where`"), "what-is-stored-and-where");
}
