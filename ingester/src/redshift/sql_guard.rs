//! Guards that SQL is made in this folder only, and quoted in one place.

use std::path::{Path, PathBuf};

/// Literals that begin like a statement and have values put into them, in the code that is shipped.
fn statements_made(path: &Path) -> Vec<String> {
    const VERBS: [&str; 14] = [
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "COPY ",
        "LOCK ",
        "SET ",
        "CREATE ",
        "ALTER ",
        "DROP ",
        "TRUNCATE ",
        "GRANT ",
        "CANCEL ",
        "COMMENT ",
    ];
    let source = std::fs::read_to_string(path).unwrap();
    let shipped = source.split("#[cfg(test)]").next().unwrap();
    let mut found = Vec::new();
    for (at, _) in shipped.match_indices('"') {
        let rest = &shipped[at + 1..];
        if VERBS.iter().any(|verb| rest.starts_with(verb)) {
            let mut escaped = false;
            let end = rest.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let literal = &rest[..end.unwrap()];
            found.extend(literal.contains('{').then(|| literal.to_owned()));
        }
    }
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn sql_is_made_in_this_folder_only_and_quoted_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for part in ["shared/src", "state/src", "producer/src", "ingester/src"] {
        sources(&root.join(part), &mut files);
    }
    let mut made_here = 0;
    for file in files {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        let allowed = name.starts_with("ingester/src/redshift/");
        if !["ingester/src/redshift/sql.rs", "ingester/src/redshift/sql_guard.rs"].contains(&name.as_str()) {
            let source = std::fs::read_to_string(&file).unwrap();
            for quoting in ["fn ident(", "fn literal(", "fn quoted("] {
                assert!(!source.contains(quoting), "{name} has {quoting} of its own");
            }
        }
        for statement in statements_made(&file) {
            made_here += 1;
            assert!(allowed, "{name} makes SQL: {statement}");
            for by_hand in ["'{", "}'", "\\\"{", "}\\\""] {
                assert!(
                    !statement.contains(by_hand),
                    "{name} quotes by hand (redshift::sql does that): {statement}"
                );
            }
        }
    }
    assert!(made_here > 8, "only {made_here} statements were found: the search is broken");
}
