//! Whatever happens to the files of a log, its opening ends with an error that says where and what to do, and changes
//! nothing; or everything accepted is really there. Never is anything missing without a word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::exit::{Exit, Failure};
use shared::seal::Counts;
use state::loads::LoadDatabase;
use state::log::{
    BatchRecord, BatchStatus, Chosen, FileRecord, FileStatus, Log, LogError, LogReader, Resumed, Session,
    Settings, Staged, Upload,
};
use state::store::StoreError;
use support::{Scratch, append, child, copy, hit, number_from_env, own_mounts, skipped};

const ROWS: u64 = 4_000;

fn settings(dir: &Path) -> Settings {
    Settings { records_per_file: 500, files_per_batch: 2, ..support::settings(dir) }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// How the process ended that wrote the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    InOrder,
    Killed,
}

/// A log with something of everything: batches published, sealed and filling, files in every state, rejects, sessions.
fn write_log(dir: &Path, ended: Ended) {
    keep_panics();
    let working = Scratch::new();
    let mut random = fastrand::Rng::with_seed(1);
    for part in 0..4 {
        let (mut log, _) = Log::open(settings(working.path()), now()).unwrap();
        log.session_started(0, now()).unwrap();
        let first = part * ROWS / 4;
        append(&mut log, first..first + ROWS / 4 - 10 * u64::from(part == 3), 100, now(), &mut random)
            .unwrap();
        for n in 0..20_usize {
            log.stage_reject(0, &vec![b'x'; n * 100], "not_json", "not JSON", now());
        }
        log.commit(now()).unwrap();
        if part == 1 {
            for file in 0..3 {
                let upload =
                    Upload { bytes: file, crc32: "c".to_owned(), etag: "e".to_owned(), content: None };
                log.uploaded(file, upload).unwrap();
            }
            log.published(0, now()).unwrap();
            log.rejects_uploaded(Chosen { first: 0, last: 10 }).unwrap();
        }
        match (part, ended) {
            (3, Ended::InOrder) => {
                log.close(now()).unwrap();
                copy(working.path(), dir);
                return;
            }
            // What a kill leaves is what stands there now: everything accepted has been flushed.
            (3, Ended::Killed) => copy(working.path(), dir),
            _ => {}
        }
    }
}

/// The bytes of every file below a directory.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_of(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

/// Everything that was accepted, and what has become of it.
#[derive(Debug, PartialEq)]
struct Contents {
    resumed: Resumed,
    totals: Counts,
    waiting_bytes: u64,
    batches: Vec<(u64, BatchRecord)>,
    files: Vec<(FileRecord, Vec<u8>)>,
    rejects: Vec<(u64, Vec<u8>)>,
    sessions: Vec<Session>,
    hits: Vec<bool>,
}

/// Opens the log and reads all of it.
fn contents(dir: &Path) -> Result<Contents, Stopped> {
    let (mut log, resumed) = Log::open(settings(dir), now()).map_err(Stopped::Opening)?;
    read_all(&mut log, resumed).map_err(Stopped::Reading)
}

enum Stopped {
    Opening(LogError),
    Reading(LogError),
}

fn read_all(log: &mut Log, resumed: Resumed) -> Result<Contents, LogError> {
    let reader = log.reader();
    let mut batches = reader.batches()?;
    // Each opening gives it another name.
    for (_, batch) in batches.iter_mut().filter(|(_, batch)| batch.status == BatchStatus::Filling) {
        batch.id = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    }
    let mut files = Vec::new();
    for (_, batch) in batches.iter().filter(|(_, batch)| batch.status != BatchStatus::Published) {
        for file in batch.first_file..batch.first_file + u64::from(batch.files) {
            let (mut record, mut rows) = (reader.file(file)?, Vec::new());
            if !matches!(record.status, FileStatus::Uploaded(_)) {
                record = reader.rows(file, &mut rows)?;
            }
            files.push((record, rows));
        }
    }
    Ok(Contents {
        resumed,
        totals: log.totals(),
        waiting_bytes: log.waiting_bytes(),
        batches,
        files,
        rejects: reader.rejects(usize::MAX, usize::MAX)?.0,
        sessions: reader.sessions(usize::MAX)?,
        hits: (0..ROWS)
            .map(|n| log.stage_row(0, Some(hit(n)), None, b"", now()) == Staged::Duplicate)
            .collect(),
    })
}

/// One case at a time: what panics anywhere while it runs is its doing.
static ONE_CASE: Mutex<()> = Mutex::new(());
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this is the thread of a test, which may fail while another one's case runs.
    static OF_A_TEST: Cell<bool> = const { Cell::new(false) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the panics of all threads are kept, but for those of the tests themselves. Before any log is opened: the store
/// then stands before this, and keeps back a panic of sled that it catches and makes an error.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if OF_A_TEST.get() {
                usual(panic);
            } else {
                lock(&PANICS).push(panic.to_string().replace('\n', " "));
            }
        }));
    });
}

/// Begins a case.
fn begin() -> MutexGuard<'static, ()> {
    keep_panics();
    OF_A_TEST.set(true);
    lock(&ONE_CASE)
}

/// What came of a damaged log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Everything is there.
    Whole,
    /// Its opening was refused clearly, and nothing was changed.
    Refused,
    /// It was opened; reading it ended with a clear error.
    Noticed,
    /// A promise is broken.
    Broken(String),
}

/// Opens and reads a damaged log, beside this thread, since it may panic or hang.
fn try_log(dir: &Path, whole: &Contents) -> Outcome {
    let _alone = begin();
    let before = bytes_of(dir);
    let (send, receive) = mpsc::channel();
    let path = dir.to_owned();
    let thread = std::thread::spawn(move || {
        let _nobody_waits = send.send(contents(&path));
    });
    let answer = receive.recv_timeout(Duration::from_secs(20));
    if !matches!(answer, Err(mpsc::RecvTimeoutError::Timeout)) {
        // Its end is the end of sled's own threads, as far as they are waited for.
        let _panicked = thread.join();
    }
    let panics = std::mem::take(&mut *lock(&PANICS));
    if let Some(panic) = panics.first() {
        return Outcome::Broken(format!("panic: {panic}"));
    }
    match answer {
        Err(_) => Outcome::Broken("it hangs".to_owned()),
        Ok(Ok(found)) if found == *whole => Outcome::Whole,
        Ok(Ok(found)) => Outcome::Broken(format!("silent loss: {}", difference(&found, whole))),
        Ok(Err(Stopped::Reading(error))) => match unclear(&error, dir) {
            None => Outcome::Noticed,
            Some(why) => Outcome::Broken(format!("reading: {why}")),
        },
        Ok(Err(Stopped::Opening(error))) => match unclear(&error, dir) {
            Some(why) => Outcome::Broken(why),
            None if bytes_of(dir) != before => {
                Outcome::Broken(format!("refused, but its files were changed: {error}"))
            }
            None => Outcome::Refused,
        },
    }
}

fn difference(found: &Contents, whole: &Contents) -> String {
    let rows = |contents: &Contents| contents.files.iter().map(|(file, _)| file.rows).sum::<u64>();
    let known = |contents: &Contents| contents.hits.iter().filter(|known| **known).count();
    let pairs = [
        ("received", found.totals.received, whole.totals.received),
        ("rows waiting", rows(found), rows(whole)),
        ("rejects", found.rejects.len() as u64, whole.rejects.len() as u64),
        ("batches", found.batches.len() as u64, whole.batches.len() as u64),
        ("sessions", found.sessions.len() as u64, whole.sessions.len() as u64),
        ("hits", known(found) as u64, known(whole) as u64),
    ];
    let mut text = String::new();
    for (what, found, whole) in pairs.into_iter().filter(|(_, found, whole)| found != whole) {
        write!(text, "{found} of {whole} {what}; ").unwrap();
    }
    if text.is_empty() { "values differ".to_owned() } else { text }
}

/// What an error of damage leaves unsaid: where it is, and what to do.
fn unclear(error: &LogError, dir: &Path) -> Option<String> {
    let text = error.to_string();
    let names = ["db", "conf", "snap", "chunks", "files", "batches", "hits", "rejects", "sessions", "meta"];
    let rest = text.replace(dir.to_str().unwrap(), "");
    let words = || rest.split(|c: char| !c.is_ascii_alphanumeric());
    let unsaid = if rest == text {
        "the directory"
    } else if !matches!(error, LogError::Store(StoreError::Damaged { .. } | StoreError::Foreign { .. })) {
        "that it is damage"
    } else if !words().any(|word| names.contains(&word)) {
        "which file or table"
    } else if !["Move the directory aside", "restore"].iter().any(|advice| text.contains(advice)) {
        "what to do"
    } else {
        return None;
    };
    Some(format!("the error does not say {unsaid}: {text}"))
}

/// A kind of damage, done to a directory of sled's.
type Case = (String, Box<dyn Fn(&Path)>);

/// Tries many kinds of damage, each to a copy of the log, and tells of every promise that was broken.
fn try_many(ended: Ended, cases: impl Fn(&Path) -> Vec<Case>) {
    let scratch = Scratch::new();
    let (sound, probe) = (scratch.join("sound"), scratch.join("probe"));
    write_log(&sound, ended);
    copy(&sound, &probe);
    let Ok(whole) = contents(&probe) else { panic!("the sound log cannot be read") };
    let (mut tally, mut broken) = (BTreeMap::new(), Vec::new());
    for (name, damage) in cases(&sound.join("sled")) {
        let dir = scratch.join("case");
        let _none_yet = fs::remove_dir_all(&dir);
        copy(&sound, &dir);
        damage(&dir.join("sled"));
        let outcome = try_log(&dir, &whole);
        let kind = match &outcome {
            Outcome::Whole => "whole",
            Outcome::Refused => "refused",
            Outcome::Noticed => "noticed while reading",
            Outcome::Broken(how) => {
                broken.push(format!("{name}: {how}"));
                how.split(':').next().unwrap()
            }
        };
        *tally.entry(kind.to_owned()).or_insert(0) += 1;
    }
    println!("{ended:?}: {tally:?}");
    assert!(broken.is_empty(), "{tally:?}; {} broken promises:\n{}", broken.len(), broken.join("\n"));
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: usize, mask: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= mask;
    fs::write(path, bytes).unwrap();
}

/// Flips of random bytes of the file that `name` begins with, mostly of such that are in use.
fn flips(sound: &Path, name: &'static str, count: u64, seed: u64) -> Vec<Case> {
    let bytes = fs::read(file(sound, name)).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let cases = (0..count).map(|_| {
        let offset = match random.u8(..5) {
            0 => random.usize(..bytes.len()),
            _ => random.choice(&used).copied().unwrap(),
        };
        let mask = random.u8(1..);
        let damage = move |dir: &Path| flip(&file(dir, name), offset, mask);
        (format!("{name} byte {offset} ^ {mask:#04x}"), Box::new(damage) as Box<dyn Fn(&Path)>)
    });
    cases.collect()
}

/// The file of a database whose name begins so.
fn file(dir: &Path, name: &str) -> PathBuf {
    let mut items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    items.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).unwrap()
}

fn flips_of_db(ended: Ended) {
    let seed = number_from_env("DAMAGE_SEED", 1);
    try_many(ended, |sound| flips(sound, "db", number_from_env("DAMAGE_FLIPS", 150), seed));
}

#[test]
fn a_flipped_byte_of_the_database_of_an_orderly_stop_is_never_passed_over() {
    flips_of_db(Ended::InOrder);
}

#[test]
fn a_flipped_byte_of_the_database_of_a_killed_process_is_never_passed_over() {
    flips_of_db(Ended::Killed);
}

#[test]
fn a_flipped_byte_of_the_small_files_is_never_passed_over() {
    for ended in [Ended::InOrder, Ended::Killed] {
        try_many(ended, |sound| {
            let mut cases = flips(sound, "snap.", 40, 1);
            cases.extend(flips(sound, "conf", 40, 1));
            cases
        });
    }
}

fn truncations(sound: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (name, random_cuts) in [("db", 20), ("snap.", 4), ("conf", 4)] {
        let len = fs::metadata(file(sound, name)).unwrap().len();
        let mut random = fastrand::Rng::with_seed(len);
        let cuts = (0..random_cuts).map(|_| random.u64(..len));
        let segments = (1..len).filter(|at| at.is_multiple_of(512 << 10));
        for cut in [0, 1, len - 1].into_iter().chain(cuts).chain(segments) {
            let damage = move |dir: &Path| {
                fs::File::options().write(true).open(file(dir, name)).unwrap().set_len(cut).unwrap();
            };
            cases.push((format!("{name} cut to {cut} of {len}"), Box::new(damage)));
        }
    }
    cases
}

#[test]
fn a_file_cut_off_anywhere_is_never_passed_over() {
    for ended in [Ended::InOrder, Ended::Killed] {
        try_many(ended, truncations);
    }
}

/// A snapshot whose last number is cut short, and whose checksum fits. A snapshot that ends with the byte 255 and is cut by one
/// byte has a checksum that fits, once in 256: what is left of it ends with a zero byte of its length.
fn cut_in_a_number(dir: &Path) {
    let path = file(dir, "snap.");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 12);
    // A page without fragments: where it was in the log, that it is no blob, and the first of two bytes of its place.
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 241]);
    let (len, crc) = ((bytes.len() as u64).to_le_bytes(), crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(len.into_iter().chain(crc));
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_panic_of_sled_over_a_snapshot_whose_checksum_fits_is_damage_like_any_other() {
    for ended in [Ended::InOrder, Ended::Killed] {
        let scratch = Scratch::new();
        write_log(scratch.path(), ended);
        cut_in_a_number(&scratch.join("sled"));
        let failure = refusal(scratch.path(), open_log);
        assert!(failure.to_string().contains("opening it: sled/db cannot be read"), "{failure}");
        assert_eq!(failure.exit(), Exit::Data);
    }
}

#[test]
fn a_file_that_is_missing_is_never_passed_over() {
    for ended in [Ended::InOrder, Ended::Killed] {
        let remove = |names: &'static [&'static str]| -> Case {
            let damage = |dir: &Path| names.iter().for_each(|name| fs::remove_file(file(dir, name)).unwrap());
            (format!("without {names:?}"), Box::new(damage))
        };
        let sets: [&'static [&'static str]; 6] =
            [&["db"], &["conf"], &["snap."], &["db", "conf"], &["db", "snap."], &["db", "snap.", "conf"]];
        try_many(ended, |_| sets.into_iter().map(remove).collect());
    }
}

/// The error of opening what cannot be a log of ours. It may neither change a byte nor take away a file.
fn refusal(dir: &Path, open: impl Fn(&Path) -> Option<Failure>) -> Failure {
    let _alone = begin();
    let before = bytes_of(dir);
    let failure = open(dir).expect("it was opened");
    assert!(bytes_of(dir) == before, "refused, but its files were changed: {failure}");
    failure
}

fn open_log(dir: &Path) -> Option<Failure> {
    Log::open(settings(dir), now()).err().map(Failure::from)
}

/// Changes the stored form below the program, as another version or program would.
fn edit(dir: &Path, edit: impl Fn(&sled::Db)) {
    let _alone = begin();
    let db = sled::Config::new().path(dir.join("sled")).flush_every_ms(None).open().unwrap();
    edit(&db);
    db.flush().unwrap();
}

#[test]
fn another_format_is_refused_and_left_as_it_is() {
    for format in [0, 3, 1_000_000] {
        let scratch = Scratch::new();
        write_log(scratch.path(), Ended::InOrder);
        let label = format!(r#"{{"format":{format},"kind":"producer","instance":"test"}}"#);
        edit(scratch.path(), |db| drop(db.insert(b"mlabel", label.as_bytes()).unwrap()));
        for open in [open_log, |dir: &Path| LogReader::open_to_read(dir).err().map(Failure::from)] {
            let failure = refusal(scratch.path(), open);
            let text = failure.to_string();
            assert!(
                text.contains(&format!("it has format {format}, this version works with format 2")),
                "{text}"
            );
            assert!(text.contains("nothing was changed") && failure.exit() == Exit::Data, "{text}");
        }
    }
}

#[test]
fn a_label_of_a_newer_form_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new();
    write_log(scratch.path(), Ended::InOrder);
    edit(scratch.path(), |db| drop(db.insert(b"mlabel", br#"{"version":"7"}"#).unwrap()));
    let failure = refusal(scratch.path(), open_log);
    let text = failure.to_string();
    assert!(text.contains("label") && text.contains(scratch.path().to_str().unwrap()), "{text}");
    assert_eq!(failure.exit(), Exit::Data, "{text}");
}

#[test]
fn another_instance_or_kind_and_the_database_of_another_program_are_refused_and_left_as_they_are() {
    for ended in [Ended::InOrder, Ended::Killed] {
        let scratch = Scratch::new();
        write_log(scratch.path(), ended);
        let other = |dir: &Path| {
            let settings = Settings { instance: "other".to_owned().try_into().unwrap(), ..settings(dir) };
            Log::open(settings, now()).err().map(Failure::from)
        };
        let failure = refusal(scratch.path(), other);
        assert!(failure.to_string().contains("it belongs to instance test, not to other"), "{failure}");
        assert_eq!(failure.exit(), Exit::Data);
        let failure = refusal(scratch.path(), |dir| LoadDatabase::open(dir).err().map(Failure::from));
        assert!(failure.to_string().contains("it belongs to the producer, not to the ingester"), "{failure}");
        assert_eq!(failure.exit(), Exit::Data);
    }
    let scratch = Scratch::new();
    edit(scratch.path(), |db| drop(db.insert(b"key", b"value").unwrap()));
    let failure = refusal(scratch.path(), open_log);
    assert!(failure.to_string().contains("some other program"), "{failure}");
    assert_eq!(failure.exit(), Exit::Data);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let mut random = fastrand::Rng::with_seed(7);
    for len in [1, 300, 600_000, 40 << 20] {
        let scratch = Scratch::new();
        fs::create_dir(scratch.join("sled")).unwrap();
        fs::write(
            scratch.join("sled/db"),
            std::iter::repeat_with(|| random.u8(1..)).take(len).collect::<Vec<_>>(),
        )
        .unwrap();
        for open in [open_log, |dir: &Path| LogReader::open_to_read(dir).err().map(Failure::from)] {
            let failure = refusal(scratch.path(), open);
            assert!(failure.to_string().contains("sled/db is not what was written at byte 0"), "{failure}");
            assert_eq!(failure.exit(), Exit::Data);
        }
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_or_directory_is_named_and_left_as_it_is() {
    for place in ["log", "log/sled", "log/sled/db", "log/sled/conf"] {
        let scratch = Scratch::new();
        let path = scratch.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A file where a directory is wanted, and the other way round.
        let directory = place.matches('/').count() == 2;
        if directory { fs::create_dir(&path) } else { fs::write(&path, "something else") }.unwrap();
        let log = scratch.join("log");
        let _alone = begin();
        let failure = open_log(&log).expect("it was opened");
        assert!(failure.to_string().contains(log.to_str().unwrap()), "{place}: {failure}");
        assert!(if directory { path.is_dir() } else { fs::read(&path).unwrap() == b"something else" });
        // A path that leads through a file can only be mended in the configuration.
        let exit = if place == "log" { Exit::Config } else { Exit::Io };
        assert_eq!(failure.exit(), exit, "{place}: {failure}");
    }
}

/// The directory of the child below.
const DIR: &str = "DAMAGE_DIR";

/// Not a test of its own: opens a log where it must be refused, and says why.
#[test]
fn opener() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    match open_log(Path::new(&dir)) {
        None => println!("\nopened"),
        Some(failure) => println!("\nrefused {} {failure}", failure.exit() as u8),
    }
}

/// What the child says of a log that it may not write.
fn refused_to_child(mut command: Command, dir: &Path) -> String {
    let _alone = begin();
    let before = bytes_of(dir);
    let output = command.env(DIR, dir).stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(bytes_of(dir) == before, "its files were changed: {text}");
    let refused = text.lines().find_map(|line| line.strip_prefix("refused "));
    refused.unwrap_or_else(|| panic!("not refused: {text}")).to_owned()
}

#[test]
fn without_permission_the_error_names_the_path_and_says_as_whom_to_run() {
    let scratch = Scratch::new();
    let dir = scratch.join("log");
    write_log(&dir, Ended::InOrder);
    let root = rustix::process::geteuid().is_root();
    let binary = scratch.join("binary");
    // Root may everything: then nobody opens it, who owns nothing here, with a binary that stands where nobody may look.
    if root {
        fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let opener = || {
        let mut command = child("opener");
        if root {
            let nobody = 65_534;
            command = Command::new(&binary);
            command.args(["--exact", "opener", "--nocapture"]).uid(nobody).gid(nobody).current_dir("/");
        }
        command
    };
    // The files alone, then the directory too. Without root this test could not look into that one itself.
    for (dir_mode, mode) in [(0o755, 0o400), (0o700, 0o400)].into_iter().take(1 + usize::from(root)) {
        for (path, mode) in [(&dir, dir_mode), (&dir.join("sled"), dir_mode), (&dir.join("sled/db"), mode)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let said = refused_to_child(opener(), &dir);
        assert!(said.starts_with("77 ") && said.contains(dir.to_str().unwrap()), "{said}");
        assert!(said.contains("run as the user that owns it, or change its owner"), "{said}");
    }
}

#[test]
fn on_a_read_only_file_system_the_error_says_so() {
    let Some(way) = own_mounts() else {
        return skipped("a read-only file system: this user may mount nothing");
    };
    for ended in [Ended::InOrder, Ended::Killed] {
        let scratch = Scratch::new();
        let dir = scratch.join("log");
        write_log(&dir, ended);
        let script = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["sh", "-c", script]).arg(scratch.path());
        command.arg(std::env::current_exe().unwrap()).args(["--exact", "opener", "--nocapture"]);
        let said = refused_to_child(command, &dir);
        assert!(said.starts_with("74 ") && said.contains("the file system is read-only"), "{said}");
        assert!(said.contains(dir.to_str().unwrap()), "{said}");
    }
}
