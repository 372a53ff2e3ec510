//! The process that is killed: it appends, uploads and publishes as the producer does, and says what it does.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use shared::clock::Clock;
use state::failpoints;
use state::log::{Chosen, Committed, FileStatus, Log, LogReader, Resumed, Staged, Upload};

use super::records::{CONNECTIONS, FORMS, Token, form, settings};
use super::standin::{self, Objects};
use super::support::now;

/// What the parent asks of it, in environment variables of these names.
pub(crate) const DIR: &str = "CRASH_CHILD_DIR";
pub(crate) const SEED: &str = "CRASH_CHILD_SEED";
/// Which process of this history it is: records that are sent once only bear this number.
pub(crate) const RUN: &str = "CRASH_CHILD_RUN";
/// The hit to begin with: Adobe sends again what came shortly before.
pub(crate) const FIRST_HIT: &str = "CRASH_CHILD_FIRST_HIT";
/// Commits before it stops in order.
pub(crate) const COMMITS: &str = "CRASH_CHILD_COMMITS";
/// The point where it kills itself, and at which arrival.
pub(crate) const POINT: &str = "CRASH_CHILD_POINT";
pub(crate) const ARRIVAL: &str = "CRASH_CHILD_ARRIVAL";

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> u64 {
    env(name).unwrap().parse().unwrap()
}

/// Says a line to the parent, in one write.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        // The parent has gone: nobody wants to know.
        std::process::abort();
    }
}

enum Work {
    File(u64),
    Batch(u64),
    Rejects,
}

enum UploadReport {
    File(u64, Upload),
    Batch(u64),
    Rejects(Chosen),
}

/// The child; returns at once when this process is not one.
pub(crate) fn run() {
    let Some(dir) = env(DIR) else { return };
    std::panic::set_hook(Box::new(|panic| {
        say(&format!("broken: {panic}").replace('\n', " "));
        std::process::abort();
    }));
    watch_points();
    let dir = Path::new(&dir);
    let objects = Objects::new(&dir.join("objects"));
    let started = Clock::system().steady();
    let (log, resumed) = Log::open(settings(&dir.join("log")), now()).unwrap();
    let totals = serde_json::to_string(&log.totals()).unwrap();
    say(&format!("opened {} {totals}", started.until(Clock::system().steady()).as_micros()));

    let (work, to_do) = mpsc::channel();
    let (done, uploaded) = mpsc::channel();
    let reader = log.reader();
    std::thread::spawn(move || upload(&reader, &objects, &to_do, &done));
    let random = fastrand::Rng::with_seed(number(SEED));
    let writer = Writer {
        log,
        random,
        work,
        sealed: BTreeSet::new(),
        rejects_under_way: false,
        form: 0,
        run: number(RUN),
        next_hit: number(FIRST_HIT),
        sent: 0,
    };
    writer.run(&resumed, &uploaded);
    say("stopped");
}

fn watch_points() {
    let arrivals: Mutex<HashMap<&'static str, u64>> = Mutex::default();
    let deadly = env(POINT).map(|point| (point, number(ARRIVAL)));
    failpoints::watch(move |point| {
        let mut arrivals = arrivals.lock().unwrap();
        let arrival = arrivals.entry(point).or_insert(0);
        *arrival += 1;
        if *arrival == 1 && deadly.is_none() {
            say(&format!("point {point}"));
        }
        if deadly.as_ref().is_some_and(|(name, at)| (name.as_str(), *at) == (point, *arrival)) {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    });
}

struct Writer {
    log: Log,
    random: fastrand::Rng,
    work: Sender<Work>,
    /// Batches that wait for the last of their files.
    sealed: BTreeSet<u64>,
    rejects_under_way: bool,
    /// That of the rows now.
    form: u8,
    run: u64,
    next_hit: u64,
    /// Records sent that are sent once only.
    sent: u64,
}

impl Writer {
    fn run(mut self, resumed: &Resumed, uploaded: &Receiver<UploadReport>) {
        self.upload(&resumed.sealed);
        self.publish_what_is_up();
        (0..CONNECTIONS).for_each(|connection| self.start_session(connection));
        for _ in 0..number(COMMITS) {
            self.commit();
            if !self.rejects_under_way && self.random.u8(..8) == 0 {
                self.upload_rejects();
            }
            // Mostly what has come so far; now and then the stream pauses and uploading catches up.
            let patience = Duration::from_millis(if self.random.u8(..16) == 0 { 5 } else { 0 });
            loop {
                match uploaded.recv_timeout(patience) {
                    Ok(report) => self.note(report),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => panic!("the uploading thread has ended"),
                }
            }
            if self.random.u8(..16) == 0 {
                let connection = self.random.u8(..CONNECTIONS);
                self.log.session_ended(connection, "the stream was closed", now()).unwrap();
                self.start_session(connection);
                // What comes then was sent before, or something is missing.
                self.next_hit = if self.random.bool() {
                    self.next_hit.saturating_sub(self.random.u64(..400))
                } else {
                    self.next_hit + self.random.u64(..500)
                };
            }
        }
        let tokens = self.stage(10);
        say(&format!("try {tokens}"));
        self.log.close(now()).unwrap();
        // Closing takes the log with it: that these were accepted is told by the process that opens it next.
    }

    fn start_session(&mut self, connection: u8) {
        say("session");
        self.log.session_started(connection, now()).unwrap();
        say("started");
    }

    fn commit(&mut self) {
        // Some commits follow one another without waiting; the last one waits for them all.
        for _ in 0..self.random.usize(..4) {
            let records = self.random.usize(..40);
            let tokens = self.stage(records);
            say(&format!("try {tokens}"));
            self.log.submit(now()).unwrap();
        }
        if self.random.u8(..12) == 0 {
            self.change_form();
        }
        let records = self.random.usize(..80);
        let tokens = self.stage(records);
        say(&format!("try {tokens}"));
        let done = if self.random.u8(..20) == 0 { self.log.seal_all(now()) } else { self.log.commit(now()) };
        let Committed { sealed, .. } = done.unwrap();
        say(&format!("accepted {}", serde_json::to_string(&self.log.totals()).unwrap()));
        self.upload(&sealed);
        self.publish_what_is_up();
    }

    /// As when the configuration of a producer changes: what is staged and the change are one commit.
    fn change_form(&mut self) {
        let records = self.random.usize(..20);
        let tokens = self.stage(records);
        say(&format!("try {tokens}"));
        self.form = (self.form + self.random.u8(1..FORMS)) % FORMS;
        say(&format!("form {}", self.form));
        self.log.begin_form(&form(self.form), now()).unwrap();
    }

    /// Stages some records and returns their tokens.
    fn stage(&mut self, records: usize) -> String {
        let mut tokens = String::new();
        for _ in 0..records {
            let now = now();
            let token = self.next_record();
            let (text, connection) = (token.text(), token.connection());
            let token = match token {
                Token::Hit(n) | Token::Known(n) => {
                    match self.log.stage_row(connection, token.hit(), token.received(), &text, now) {
                        Staged::New => token,
                        Staged::Duplicate => Token::Known(n),
                    }
                }
                Token::Nameless(..) => {
                    self.log.stage_row(connection, None, None, &text, now);
                    token
                }
                Token::Reject(..) => {
                    self.log.stage_reject(connection, &text, "not_json", "no JSON", now);
                    token
                }
                Token::Filtered => {
                    self.log.stage_filtered(connection, None, now);
                    token
                }
            };
            tokens += &format!(" {token}");
        }
        tokens
    }

    fn next_record(&mut self) -> Token {
        let choice = self.random.u8(..100);
        if choice < 6 {
            self.sent += 1;
        }
        match choice {
            0..3 => Token::Reject(self.run, self.sent),
            3..6 => Token::Nameless(self.run, self.sent),
            6..9 => Token::Filtered,
            // The same hit twice, shortly after.
            9..14 => Token::Hit(self.next_hit.saturating_sub(self.random.u64(1..40))),
            _ => {
                self.next_hit += 1;
                Token::Hit(self.next_hit - 1)
            }
        }
    }

    fn note(&mut self, report: UploadReport) {
        match report {
            UploadReport::File(file, upload) => self.log.uploaded(file, upload).unwrap(),
            UploadReport::Batch(batch) => self.log.published(batch, now()).unwrap(),
            UploadReport::Rejects(chosen) => {
                self.rejects_under_way = false;
                self.log.rejects_uploaded(chosen).unwrap();
            }
        }
        self.publish_what_is_up();
    }

    /// Sends the files of sealed batches on their way.
    fn upload(&mut self, sealed: &[u64]) {
        let reader = self.log.reader();
        for batch in sealed {
            let record = reader.batch(*batch).unwrap();
            for (file, record) in (record.first_file..).zip(reader.files_of(&record).unwrap()) {
                if !matches!(record.status, FileStatus::Uploaded(_)) {
                    self.work.send(Work::File(file)).unwrap();
                }
            }
        }
        self.sealed.extend(sealed);
    }

    fn upload_rejects(&mut self) {
        let (rejects, chosen) = self.log.reader().rejects(7, 100_000).unwrap();
        let range = rejects.first().map(|first| (first.0, rejects[rejects.len() - 1].0));
        let Some((first, last)) = range else { return };
        if chosen.is_none() {
            self.log.rejects_chosen(Chosen { first, last }).unwrap();
        }
        self.rejects_under_way = true;
        self.work.send(Work::Rejects).unwrap();
    }

    fn publish_what_is_up(&mut self) {
        let reader = self.log.reader();
        let up = |batch: &u64| {
            let record = reader.batch(*batch).unwrap();
            standin::seal(&record, &reader.files_of(&record).unwrap()).is_some()
        };
        let (ready, waiting) = std::mem::take(&mut self.sealed).into_iter().partition(up);
        self.sealed = waiting;
        let ready: BTreeSet<u64> = ready;
        for batch in ready {
            self.work.send(Work::Batch(batch)).unwrap();
        }
    }
}

/// The uploading thread: reads while the log is written.
fn upload(log: &LogReader, objects: &Objects, work: &Receiver<Work>, done: &Sender<UploadReport>) {
    for work in work {
        let uploaded = match work {
            Work::File(file) => {
                let mut rows = Vec::new();
                let record = log.rows(file, &mut rows).unwrap();
                let batch = log.batch(record.batch).unwrap();
                objects.put(&standin::file_key(&batch, record.no), &rows);
                UploadReport::File(file, standin::confirm(&rows))
            }
            Work::Batch(batch) => {
                let record = log.batch(batch).unwrap();
                let seal = standin::seal(&record, &log.files_of(&record).unwrap()).unwrap();
                objects.put(&standin::seal_key(&record), &seal);
                UploadReport::Batch(batch)
            }
            Work::Rejects => {
                let (rejects, chosen) = log.rejects(7, 100_000).unwrap();
                let lines: Vec<&[u8]> = rejects.iter().flat_map(|(_, line)| [&line[..], b"\n"]).collect();
                let chosen = chosen.unwrap();
                objects.put(&standin::rejects_key(chosen.first), &lines.concat());
                UploadReport::Rejects(chosen)
            }
        };
        if done.send(uploaded).is_err() {
            return;
        }
    }
}
