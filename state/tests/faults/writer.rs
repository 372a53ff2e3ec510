//! A child that keeps a log: two lives in one process, each with everything a log goes through. It says what it does in the
//! words of the crash test, whose judge hears it.

use std::io::Write;
use std::path::Path;

use shared::exit::Failure;
use state::log::{Chosen, FileStatus, Log, LogError, Settings, Staged};

use super::Keeper;
use super::judge::Judge;
use super::records::{CONNECTIONS, Token, form, settings};
use super::shim::{Ended, Kind};
use super::standin::{self, Objects};
use super::support::now;

const DIR: &str = "FAULTS_LOG_DIR";

/// Small files, so that one life has several batches.
fn log_settings(dir: &Path) -> Settings {
    Settings { records_per_file: 20, files_per_batch: 2, cache: 8 << 20, ..settings(&dir.join("state/log")) }
}

/// Says a line to the parent, in one write.
pub(super) fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// Lets a panic of any thread be heard, except those that the store catches.
pub(super) fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| say(&format!("panicked {panic}").replace('\n', " "))));
}

/// Ends as a program does that met this error.
pub(super) fn end_with(failure: &Failure) -> ! {
    say(&format!("failed {failure}"));
    std::process::exit(failure.exit() as i32);
}

/// The child; returns at once when this process is not one.
pub(super) fn run() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    tell_panics();
    let dir = Path::new(&dir);
    let objects = Objects::new(&dir.join("objects"));
    let lives = [Life { number: 1, first_hit: 0 }, Life { number: 2, first_hit: 60 }];
    for life in lives {
        if let Err(error) = life.run(dir, &objects) {
            end_with(&error.into());
        }
    }
    say("stopped");
}

/// One life of the log, from its opening to an orderly stop.
struct Life {
    number: u64,
    first_hit: u64,
}

impl Life {
    fn run(&self, dir: &Path, objects: &Objects) -> Result<(), LogError> {
        let (mut log, resumed) = Log::open(log_settings(dir), now())?;
        say(&format!("opened 0 {}", serde_json::to_string(&log.totals()).unwrap()));
        let mut sealed = resumed.sealed;
        for connection in 0..CONNECTIONS {
            say("session");
            log.session_started(connection, now())?;
            say("started");
        }
        let mut hits = self.first_hit..;
        for round in 0..4 {
            let tokens = self.stage(&mut log, round, hits.by_ref().take(12));
            say(&format!("try {tokens}"));
            log.submit(now())?;
            let tokens = self.stage(&mut log, round + 10, hits.by_ref().take(12));
            say(&format!("try {tokens}"));
            if round == 1 {
                say("form 1");
                log.begin_form(&form(1), now())?;
            }
            let done = if round == 3 { log.seal_all(now()) } else { log.commit(now()) }?;
            say(&format!("accepted {}", serde_json::to_string(&log.totals()).unwrap()));
            sealed.extend(done.sealed);
            if round % 2 == 1 {
                upload(&mut log, objects, &mut sealed)?;
            }
        }
        upload_rejects(&mut log, objects)?;
        log.session_ended(0, "the stream was closed", now())?;
        say("session");
        log.session_started(0, now())?;
        say("started");
        let tokens = self.stage(&mut log, 20, hits.by_ref().take(3));
        say(&format!("try {tokens}"));
        // That these were accepted is told by whoever opens the log next.
        log.close(now())?;
        Ok(())
    }

    /// Stages these hits, one that came before, and a record of each other kind; returns their tokens.
    fn stage(&self, log: &mut Log, number: u64, hits: impl Iterator<Item = u64>) -> String {
        let own = self.number * 1000 + number;
        let others =
            [Token::Hit(self.first_hit), Token::Nameless(own, 1), Token::Reject(own, 2), Token::Filtered];
        let mut tokens = String::new();
        for token in hits.map(Token::Hit).chain(others) {
            let (text, connection) = (token.text(), token.connection());
            let token = match token {
                Token::Hit(n) | Token::Known(n) => {
                    match log.stage_row(connection, token.hit(), token.received(), &text, now()) {
                        Staged::New => token,
                        Staged::Duplicate => Token::Known(n),
                    }
                }
                Token::Nameless(..) => {
                    log.stage_row(connection, None, None, &text, now());
                    token
                }
                Token::Reject(..) => {
                    log.stage_reject(connection, &text, "not_json", "no JSON", now());
                    token
                }
                Token::Filtered => {
                    log.stage_filtered(connection, None, now());
                    token
                }
            };
            tokens += &format!(" {token}");
        }
        tokens
    }
}

/// Uploads and publishes what is sealed.
fn upload(log: &mut Log, objects: &Objects, sealed: &mut Vec<u64>) -> Result<(), LogError> {
    let reader = log.reader();
    for seq in sealed.drain(..) {
        let batch = reader.batch(seq)?;
        for (file, record) in (batch.first_file..).zip(reader.files_of(&batch)?) {
            if !matches!(record.status, FileStatus::Uploaded(_)) {
                let mut rows = Vec::new();
                reader.rows(file, &mut rows)?;
                objects.put(&standin::file_key(&batch, record.no), &rows);
                log.uploaded(file, standin::confirm(&rows))?;
            }
        }
        let seal = standin::seal(&batch, &reader.files_of(&batch)?).unwrap();
        objects.put(&standin::seal_key(&batch), &seal);
        log.published(seq, now())?;
    }
    Ok(())
}

fn upload_rejects(log: &mut Log, objects: &Objects) -> Result<(), LogError> {
    let (rejects, chosen) = log.reader().rejects(7, 100_000)?;
    let Some((first, last)) = rejects.first().map(|first| (first.0, rejects[rejects.len() - 1].0)) else {
        return Ok(());
    };
    if chosen.is_none() {
        log.rejects_chosen(Chosen { first, last })?;
    }
    let (rejects, chosen) = log.reader().rejects(7, 100_000)?;
    let lines: Vec<&[u8]> = rejects.iter().flat_map(|(_, line)| [&line[..], b"\n"]).collect();
    let chosen = chosen.unwrap();
    objects.put(&standin::rejects_key(chosen.first), &lines.concat());
    log.rejects_uploaded(chosen)
}

/// The log, judged as the crash test does.
pub(super) struct Writer;

impl Keeper for Writer {
    fn never(&self) -> &'static [Kind] {
        // sled makes its file shorter only when the last segments of a large one are free.
        &[Kind::Truncate]
    }

    fn begin(&self, dir: &Path) {
        std::fs::create_dir(dir.join("state")).unwrap();
    }

    fn variable(&self) -> &'static str {
        DIR
    }

    fn check(&self, dir: &Path, ended: &Ended) {
        let mut judge = Judge::default();
        ended.said.iter().for_each(|line| judge.hear(line));
        let objects = Objects::new(&dir.join("objects"));
        // The first start after the fault, and one more: what the first one made of it must stand as well.
        for _ in 0..2 {
            let opened = Log::open(log_settings(dir), now());
            let (mut log, resumed) = opened.unwrap_or_else(|error| panic!("the next start: {error}"));
            judge.opened(0, log.totals());
            judge.check_all(&mut log, &resumed, &objects);
        }
    }
}
