//! Whoever asks the wall clock shows a time, writes it down, or compares it with the time of somebody else. Ages and
//! waits are measured with the steady clock (`shared::clock`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files that ask it, and what for.
const ASK: &[(&str, &str)] = &[
    ("ingester/src/commands/adopt.rs", "how old a folder is, for people; a command that looks once"),
    ("ingester/src/commands/audit/mod.rs", "which days to compare; a command that looks once"),
    ("ingester/src/load_store.rs", "times in the bookkeeping"),
    ("ingester/src/cli.rs", "since when a pause holds"),
    ("ingester/src/discover/mod.rs", "ids of batches and objects in S3 bear times of other machines"),
    ("ingester/src/commands/ledger/mod.rs", "rows of the ledger bear times; a command that looks once"),
    ("ingester/src/load/mod.rs", "times in the bookkeeping"),
    ("ingester/src/load/attempt.rs", "how late a batch was loaded, for people; a time in the bookkeeping"),
    ("ingester/src/load/pause.rs", "windows are told in times of day"),
    ("ingester/src/commands/reconcile/mod.rs", "which days to compare; windows are told in times of day"),
    ("ingester/src/facts/gather.rs", "objects in S3 bear times of S3"),
    ("ingester/src/run.rs", "windows are told in times of day; ages for people"),
    ("ingester/src/redshift/transaction/mod.rs", "when a batch was loaded, in its ledger row"),
    ("ingester/src/redshift/mark.rs", "no ledger row is believed that is from the future"),
    ("ingester/src/redshift/trim.rs", "no ledger row is believed that is from the future"),
    ("producer/src/source/connect/mod.rs", "`Retry-After` may be a date"),
    ("producer/src/run.rs", "ages for people"),
    ("producer/src/upload/mod.rs", "the day in the key of rejects"),
    ("producer/src/source/token/mod.rs", "when a token was given out, in its file"),
    ("producer/src/source/token/ims.rs", "claims bear a time; `Retry-After` may be a date"),
    ("shared/src/aws/mod.rs", "signatures bear a time"),
    ("shared/src/clock.rs", "the clocks themselves"),
    ("shared/src/telemetry/daily.rs", "the day in the name of a log file"),
    ("state/src/inspect/dump/batch.rs", "ages for people"),
    ("state/src/inspect/dump/mod.rs", "ages for people"),
    ("state/src/status/owners.rs", "windows are told in times of day"),
    ("state/src/status/pausing.rs", "windows are told in times of day"),
    ("state/src/inspect/verify/mod.rs", "when it was verified"),
];

/// A source without its items that only tests compile, whose lines stay, empty. rustfmt has laid it out: an item that does
/// not end on the line it begins on ends with a brace as far to the left.
fn without_tests(text: &str) -> String {
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
            let ends = [';', '}'].iter().any(|end| line.ends_with(*end));
            if ends && line.len() - line.trim_start().len() == depth {
                break;
            }
        }
    }
    kept
}

/// Sources, without what only tests compile.
fn sources(dir: &Path, into: &mut Vec<(String, String)>, root: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            // The modules of a `tests.rs`.
            if name != "tests" {
                sources(&path, into, root);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            into.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), without_tests(&text)));
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    for member in ["shared", "state", "producer", "ingester"] {
        sources(&root.join(member).join("src"), &mut all, root);
    }
    assert!(all.len() > 100, "{}", all.len());
    all
}

#[test]
fn every_file_that_asks_the_wall_clock_has_said_what_for() {
    let asks =
        |text: &str| ["Utc::now()", "Local::now()", "SystemTime::now()"].iter().any(|ask| text.contains(ask));
    let found: BTreeSet<String> =
        all().into_iter().filter(|(_, text)| asks(text)).map(|(path, _)| path).collect();
    let said: BTreeSet<String> = ASK.iter().map(|(path, _)| (*path).to_owned()).collect();
    let new: Vec<_> = found.difference(&said).collect();
    assert!(new.is_empty(), "measure ages and waits with shared::clock, or say here what for: {new:?}");
    let gone: Vec<_> = said.difference(&found).collect();
    assert!(gone.is_empty(), "they ask it no longer: {gone:?}");
}

#[test]
fn nobody_counts_from_the_present_of_the_wall_clock() {
    let counts =
        ["- Utc::now()", "Utc::now() +", "< Utc::now()", "Utc::now() <", "> Utc::now()", "Utc::now() >"];
    for (path, text) in all() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains("Utc::now()")) {
            let counted = counts.iter().any(|count| line.contains(count));
            // A bound on what others claim, and no wait.
            let believed = line.contains("AHEAD");
            assert!(believed || !counted, "{path}:{}: {line}", number + 1);
        }
    }
}

/// What is handed to the log takes the time last.
const TIMED: &[&str] = &[
    "Log::open(",
    "log.stage_row(",
    "log.stage_known(",
    "log.stage_filtered(",
    "log.stage_reject(",
    "log.submit(",
    "log.commit(",
    "log.seal_all(",
    "log.published(",
    "log.session_started(",
    "log.session_ended(",
    "log.close(",
];

/// The last argument of each of those calls in a text without white space.
fn times_handed(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for (at, call) in TIMED.iter().flat_map(|call| text.match_indices(call)) {
        let arguments = &text[at + call.len()..];
        let (mut depth, mut last) = (0_i32, 0);
        for (at, byte) in arguments.bytes().enumerate() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' if depth == 0 => {
                    all.push(&arguments[last..at]);
                    break;
                }
                b')' | b']' | b'}' => depth -= 1,
                b',' if depth == 0 && arguments.as_bytes().get(at + 1) != Some(&b')') => last = at + 1,
                _ => {}
            }
        }
    }
    all.into_iter().map(|argument| argument.trim_end_matches(',')).collect()
}

/// `Log` takes a time of a clock that nobody sets too, for tests: a time of the wall clock alone becomes one. Whoever
/// hands it a time has it from both clocks.
#[test]
fn the_log_is_handed_moments_of_both_clocks_only() {
    let mut calls = 0;
    for (path, text) in
        all().iter().filter(|(path, _)| path.contains("producer/src") || path.contains("ingester/src"))
    {
        let text: String = text.split_whitespace().collect();
        for handed in times_handed(&text) {
            calls += 1;
            // Bound in this file, and to nothing else.
            let bound = text.contains("letnow=self.now();") && text.contains("fnnow(&self)->Moment{");
            let only = text.matches("letnow=").count() == text.matches("letnow=self.now();").count();
            let is_moment = match handed {
                "Moment::now()" => true,
                "(self.clock)()" => text.contains("clock:fn()->Moment,"),
                "now" => bound && only && !text.contains("now:"),
                _ => false,
            };
            assert!(is_moment, "{path}: hand the log a `Moment::now()`, not {handed}");
        }
    }
    let converted: Vec<_> = all().into_iter().filter(|(_, text)| text.contains("Moment::from(")).collect();
    assert!(converted.is_empty(), "a time of the wall clock is no moment: {converted:?}");
    assert!(calls >= 12, "the log is handed {calls} times only: its methods have other names now");
}

#[test]
fn the_guard_sees_behind_the_tests_of_a_file_and_over_line_ends() {
    let source = "#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod b {\n    fn c();\n}\nfn d() {}\n\
                  impl E {\n    #[cfg(test)]\n    fn f(\n        g: u8,\n    ) -> u8 {\n        g\n    }\n    fn h() {}\n}\n";
    let kept = without_tests(source);
    assert_eq!(
        kept.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
        ["fn a() {}", "fn d() {}", "impl E {", "    fn h() {}", "}"]
    );
    assert_eq!(kept.lines().count(), source.lines().count());
    let calls: String =
        "self\n.log\n.stage_row(\n0,\n&f(1, [2, 3]),\nUtc::now(),\n); Log::open(settings, now)"
            .split_whitespace()
            .collect();
    assert_eq!(times_handed(&calls), ["now", "Utc::now()"]);
}
