//! The fuzz target's check on the committed corpus and on mutations of it: the same ones in every run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

#[path = "../../fuzz/check.rs"]
mod check;

/// Mutations of each file.
const MUTATIONS: usize = 150;
const SEED: u64 = 1;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/rows");
    let mut paths: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 16, "the corpus is not there");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Prints the input that made the check fail, so that it can become a file of the corpus.
fn check(origin: &Path, input: &[u8]) {
    let passed = std::panic::catch_unwind(|| check::check(input)).is_ok();
    assert!(passed, "{} or what became of it: {}", origin.display(), input.escape_ascii());
}

#[test]
fn the_corpus_decodes_as_any_bytes_must() {
    corpus().iter().for_each(|(path, input)| check(path, input));
}

#[test]
fn mutations_of_the_corpus_decode_as_any_bytes_must() {
    let (corpus, mut random) = (corpus(), fastrand::Rng::with_seed(SEED));
    for (path, input) in &corpus {
        for _ in 0..MUTATIONS {
            let mut input = input.clone();
            for _ in 0..random.usize(1..6) {
                mutate(&mut input, &corpus[random.usize(..corpus.len())].1, &mut random);
            }
            check(path, &input);
        }
    }
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    const TOKENS: [&[u8]; 12] = [
        b"\r\n",
        b"\n",
        b"{",
        b"}",
        b"\"",
        b"\\u",
        b"null",
        b"-0",
        b"e308",
        b"not authorized",
        b"\x1f\x8b\x08",
        b"\xff",
    ];
    let at = random.usize(..=input.len());
    let end = random.usize(at..=input.len().min(at + 50));
    match random.u8(..6) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 => drop(input.drain(at..end)),
        3 => input.extend_from_within(at..end),
        4 => drop(input.splice(at..at, random.choice(TOKENS).unwrap_or_default().iter().copied())),
        _ => {
            let from = random.usize(..=other.len());
            let to = random.usize(from..=other.len());
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
    }
}
