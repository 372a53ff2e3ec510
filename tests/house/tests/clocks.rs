//! `clippy.toml` bans every way to ask for the time but a `Clock`. What it cannot see is which of its two clocks is asked:
//! ages and waits are measured with the steady clock, and the log is handed moments of both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use house::{CRATES, files, without_tests, workspace};

/// What is handed to the log takes the time last. `Log` also takes a time of the wall clock alone, for tests that make up
/// time.
const TIMED: [&str; 12] = [
    "stage_row(",
    "stage_known(",
    "stage_filtered(",
    "stage_reject(",
    "stage_kept_reject(",
    "submit(",
    "commit(",
    "seal_all(",
    "published(",
    "session_started(",
    "session_ended(",
    "Log::open(",
];

/// The sources of the product without white space, by path.
fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let all = CRATES.iter().flat_map(|krate| files(&root.join(krate).join("src"), ".rs"));
    all.filter(|file| {
        !file.components().any(|part| part.as_os_str() == "tests") && !file.ends_with("tests.rs")
    })
    .map(|file| {
        let text = without_tests(&fs::read_to_string(&file).unwrap());
        (file.display().to_string(), text.split_whitespace().collect())
    })
    .collect()
}

/// The last argument of each call of `name` in a text without white space.
fn last_arguments<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(name).filter_map(move |(at, _)| {
        let arguments = &text[at + name.len()..];
        let (mut depth, mut last) = (0_u32, 0);
        for (at, byte) in arguments.bytes().enumerate() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' if depth == 0 => return Some(arguments[last..at].trim_end_matches(',')),
                b')' | b']' | b'}' => depth -= 1,
                b',' if depth == 0 && arguments.as_bytes().get(at + 1) != Some(&b')') => last = at + 1,
                _ => {}
            }
        }
        None
    })
}

#[test]
fn the_log_is_handed_moments_of_both_clocks() {
    let mut calls = 0;
    for (path, text) in sources().iter().filter(|(path, _)| path.contains("/producer/src/")) {
        for name in TIMED {
            for handed in last_arguments(text, name) {
                calls += usize::from(handed.ends_with("now") || handed.ends_with("now()"));
                assert!(!handed.contains("wall"), "{path}: {name} is handed {handed}, not a Moment");
            }
        }
        let of_wall = text.contains("letnow=self.clock.wall()") || text.contains("letnow=clock.wall()");
        let hands = TIMED.iter().any(|name| text.contains(&format!("log.{name}")));
        assert!(!(of_wall && hands), "{path}: `now` is a time of the wall clock beside calls of the log");
    }
    assert!(calls >= 10, "the log is handed {calls} times only: its methods have other names now");
    let made: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| !path.ends_with("/shared/src/clock.rs") && text.contains("Moment::from("))
        .map(|(path, _)| path)
        .collect();
    assert!(made.is_empty(), "a time of the wall clock is no Moment: {made:?}");
}

/// A bound on times that others claim is no wait.
const BOUNDS: [&str; 1] = ["AHEAD"];

#[test]
fn nobody_counts_from_the_present_of_the_wall_clock() {
    for (path, text) in sources() {
        for count in ["wall()+", "-clock.wall()", "-self.clock.wall()", "<clock.wall()", ">clock.wall()"] {
            for (at, _) in text.match_indices(count) {
                let around = &text[at.saturating_sub(80)..(at + 80).min(text.len())];
                let bound = BOUNDS.iter().any(|bound| around.contains(bound));
                assert!(bound, "{path}: measure ages and waits with the steady clock: {around}");
            }
        }
    }
}

#[test]
fn the_guard_sees_behind_the_tests_of_a_file_and_over_line_ends() {
    let source = "#[cfg(test)]\nmod tests;\nfn a() {}\nimpl E {\n    #[cfg(test)]\n    fn f(\n        g: u8,\n    ) -> u8 {\n        g\n    }\n    fn h() {}\n}\n";
    let kept = without_tests(source);
    let kept: Vec<&str> = kept.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(kept, ["fn a() {}", "impl E {", "    fn h() {}", "}"]);
    let text = "self.log.stage_row(0,&f(1,[2,3]),clock.wall(),);";
    assert_eq!(last_arguments(text, "stage_row(").collect::<Vec<_>>(), ["clock.wall()"]);
}
