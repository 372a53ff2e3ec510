//! A file has one reason to change: none grows beyond what a reader takes in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use house::{CRATES, modules};

/// Lines of a file, comments and blanks counted, its tests not.
const MOST: usize = 400;
/// Half of all files have at most as many.
const MEDIAN: usize = 170;

#[test]
fn no_file_has_more_than_400_lines_and_half_have_at_most_170() {
    let mut sizes: Vec<(usize, String)> = CRATES
        .iter()
        .flat_map(|krate| modules(krate).into_iter().map(move |module| (krate, module)))
        .map(|(krate, module)| (module.lines, format!("{krate}: {}", module.path.join("::"))))
        .collect();
    sizes.sort();
    let long: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > MOST).collect();
    assert!(long.is_empty(), "split by what would make them change: {long:?}");
    let median = sizes[sizes.len() / 2].0;
    assert!(median <= MEDIAN, "half of the files have more than {median} lines");
}
