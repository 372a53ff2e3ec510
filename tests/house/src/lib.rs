//! Reads the product's sources for the tests of the house: which modules there are, in which order, and who uses whom.

mod messages;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

pub use messages::{ErrorText, error_texts};
pub use source::{Module, Use};

/// The crates of the product, lowest first.
pub const CRATES: [&str; 4] = ["shared", "state", "producer", "ingester"];

/// The folder of the workspace.
///
/// # Panics
/// When this crate does not lie two folders below it.
#[must_use]
#[expect(clippy::expect_used, reason = "tests fail by panicking")]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tests/house lies two folders below the workspace").to_owned()
}

/// All files below `folder` whose names end with `ending`, in the order of their paths.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
#[expect(clippy::expect_used, reason = "tests fail by panicking")]
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The modules of a crate, without those that only tests compile.
///
/// # Panics
/// When a source cannot be read or parsed.
#[must_use]
pub fn modules(krate: &str) -> Vec<Module> {
    let src = workspace().join(krate).join("src");
    files(&src, ".rs").iter().filter_map(|file| Module::read(&src, file)).collect()
}

/// A source without its items that only tests compile; their lines stay, empty. rustfmt has laid it out: an item that does
/// not end on the line it begins on ends with a brace as far to the left.
#[must_use]
pub fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        kept.push('\n');
        let depth = line.len() - line.trim_start().len();
        for line in lines.by_ref() {
            kept.push('\n');
            if line.ends_with([';', '}']) && line.len() - line.trim_start().len() == depth {
                break;
            }
        }
    }
    kept
}
