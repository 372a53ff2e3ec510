//! A warehouse in memory: a table of hits, the ledger, a lock, sessions with transactions, and the statements that a loader
//! sends. It refuses what it does not know, as a broken promise.

use std::collections::{BTreeMap, BTreeSet};

use crate::bucket::Bucket;
use crate::sql::{Entry, cell, get, literals, number, terms, tuples};

/// What the rows of a file say of a hit: its number, and the text of its time.
type Hit = (u64, String);

#[derive(Debug, Default, Clone)]
pub(crate) struct Rows(pub(crate) Vec<Vec<Option<String>>>);

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Rows(Rows),
    Refused(String),
}

#[derive(Debug, Default)]
pub(crate) struct Warehouse {
    /// Each hit of the table with its time.
    pub(crate) table: BTreeMap<u64, String>,
    pub(crate) ledger: BTreeMap<String, Entry>,
    /// Who holds the lock.
    lock: Option<u32>,
    sessions: BTreeMap<u32, Session>,
    next: u32,
    /// Connections and statements so far, and connections that were refused.
    pub(crate) reached: u64,
    pub(crate) refused: u64,
    /// Whether nobody may end a session.
    pub(crate) keeps_sessions: bool,
}

#[derive(Debug, Default)]
struct Session {
    orphan: bool,
    failed: bool,
    hits: Vec<Hit>,
    entries: Vec<Entry>,
    stage: Vec<Hit>,
    copied: usize,
}

const MARK: &str = "00000000-0000-7000-8000-000000000000";
const LOCKED: &str = "Query (12) cancelled on user's request";

fn no_rows() -> Answer {
    Answer::Rows(Rows::default())
}

fn one(cells: &[Option<&str>]) -> Answer {
    Answer::Rows(Rows(vec![cells.iter().map(|cell| cell.map(str::to_owned)).collect()]))
}

fn value(text: impl ToString) -> Answer {
    one(&[Some(&text.to_string())])
}

impl Warehouse {
    pub(crate) fn begin(&mut self) -> u32 {
        self.next += 1;
        self.sessions.insert(self.next, Session::default());
        self.next
    }

    pub(crate) fn is_orphan(&self, pid: u32) -> bool {
        self.sessions.get(&pid).is_some_and(|session| session.orphan)
    }

    pub(crate) fn orphan(&mut self, pid: u32) {
        if let Some(session) = self.sessions.get_mut(&pid) {
            session.orphan = true;
        }
    }

    /// A statement failed: the transaction takes no others.
    pub(crate) fn fail(&mut self, pid: u32) {
        if self.lock == Some(pid)
            && let Some(session) = self.sessions.get_mut(&pid)
        {
            session.failed = true;
        }
    }

    /// A session ends. The error is a promise that its COMMIT breaks.
    pub(crate) fn end(&mut self, pid: u32, commits: bool) -> Result<(), String> {
        let ended = if commits { self.commit(pid) } else { Ok(()) };
        self.roll_back(pid);
        self.sessions.remove(&pid);
        ended
    }

    fn roll_back(&mut self, pid: u32) {
        if self.lock == Some(pid) {
            self.lock = None;
        }
        if let Some(session) = self.sessions.get_mut(&pid) {
            *session = Session { orphan: session.orphan, ..Session::default() };
        }
    }

    fn commit(&mut self, pid: u32) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&pid) else { return Ok(()) };
        if session.failed {
            self.roll_back(pid);
            return Ok(());
        }
        let (hits, entries) = (std::mem::take(&mut session.hits), std::mem::take(&mut session.entries));
        if self.lock != Some(pid) && !(hits.is_empty() && entries.is_empty()) {
            return Err(format!("session {pid} commits rows without the lock"));
        }
        if self.lock == Some(pid) {
            self.lock = None;
        }
        for (hit, at) in hits {
            if self.table.insert(hit, at).is_some() {
                return Err(format!("hit {hit} is in the table twice"));
            }
        }
        for entry in entries {
            let id = entry.get("batch_id").cloned().flatten().unwrap_or_default();
            if self.ledger.insert(id.clone(), entry).is_some() {
                return Err(format!("batch {id} is in the ledger twice"));
            }
        }
        Ok(())
    }

    /// Runs a statement. Tells which rare paths it shows. The error is a broken promise.
    pub(crate) fn run(
        &mut self,
        pid: u32,
        sql: &str,
        bucket: &Bucket,
    ) -> (Result<Answer, String>, Vec<&'static str>) {
        let mut met = Vec::new();
        let failed = self.sessions.get(&pid).is_none_or(|session| session.failed);
        if failed && sql != "ROLLBACK" && sql != "COMMIT" {
            return (Ok(Answer::Refused("current transaction is aborted".to_owned())), met);
        }
        (self.execute(pid, sql, bucket, &mut met), met)
    }

    fn execute(
        &mut self,
        pid: u32,
        sql: &str,
        bucket: &Bucket,
        met: &mut Vec<&'static str>,
    ) -> Result<Answer, String> {
        let is = |start: &str| sql.starts_with(start);
        if is("SET ") || sql == "BEGIN" || is("DROP TABLE") {
            Ok(no_rows())
        } else if sql == "COMMIT" {
            self.commit(pid).map(|()| no_rows())
        } else if sql == "ROLLBACK" {
            self.roll_back(pid);
            Ok(no_rows())
        } else if is("LOCK ") {
            if self.lock.is_some_and(|holder| holder != pid) {
                met.push("the lock is held");
                return Ok(Answer::Refused(LOCKED.to_owned()));
            }
            self.lock = Some(pid);
            Ok(no_rows())
        } else if is("COPY ") {
            self.copy(pid, sql, bucket, met)
        } else if is("INSERT INTO ") && sql.contains(" VALUES ") {
            self.enter(pid, sql)
        } else if sql.contains("livestream_stage_") {
            self.on_stage(pid, sql, met)
        } else {
            self.select(pid, sql, met)
        }
    }

    fn session(&mut self, pid: u32) -> &mut Session {
        self.sessions.entry(pid).or_default()
    }

    /// Reads the files that the manifest names. What is missing is Redshift's error.
    fn copy(
        &mut self,
        pid: u32,
        sql: &str,
        bucket: &Bucket,
        met: &mut Vec<&'static str>,
    ) -> Result<Answer, String> {
        let key_of = |url: &str| url.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        let manifest = key_of(&literals(sql).first().cloned().unwrap_or_default());
        let missing = |key: &str| {
            let text = format!("The specified S3 prefix '{key}' does not exist");
            Ok(Answer::Refused(text))
        };
        if manifest.starts_with("Loads/") {
            met.push("one COPY of several batches");
        }
        let Some(content) = bucket.get(&manifest) else { return missing(&manifest) };
        let manifest: serde_json::Value =
            serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let mut hits = Vec::new();
        for entry in manifest["entries"].as_array().into_iter().flatten() {
            let key = key_of(entry["url"].as_str().unwrap_or_default());
            let Some(content) = bucket.get(&key) else { return missing(&key) };
            let rows = zstd::decode_all(&content[..]).map_err(|error| error.to_string())?;
            let rows = String::from_utf8(rows).map_err(|error| error.to_string())?;
            for row in rows.lines() {
                let (hit, at) = row.split_once('~').ok_or_else(|| format!("{key} has a row {row:?}"))?;
                hits.push((
                    hit.parse::<u64>().map_err(|_| format!("{key} has a row {row:?}"))?,
                    at.to_owned(),
                ));
            }
        }
        let staged = sql.contains("livestream_stage_");
        let session = self.session(pid);
        session.copied = hits.len();
        if staged {
            session.stage = hits;
        } else {
            session.hits.extend(hits);
        }
        Ok(no_rows())
    }

    fn enter(&mut self, pid: u32, sql: &str) -> Result<Answer, String> {
        let (columns, rows) = sql.split_once(" VALUES ").ok_or("INSERT without VALUES")?;
        let columns = columns.split_once('(').ok_or("INSERT without columns")?.1.trim_end_matches(')');
        let columns: Vec<&str> = columns.split(", ").collect();
        for row in tuples(rows) {
            if row.len() != columns.len() {
                return Err(format!("INSERT of {} values into {} columns", row.len(), columns.len()));
            }
            let entry = columns.iter().map(|column| (*column).to_owned()).zip(row).collect();
            self.session(pid).entries.push(entry);
        }
        Ok(no_rows())
    }

    /// A staged load.
    fn on_stage(&mut self, pid: u32, sql: &str, met: &mut Vec<&'static str>) -> Result<Answer, String> {
        let table: &BTreeMap<u64, String> = &self.table;
        let known = |hit: &Hit, from: &str, to: &str| {
            table.get(&hit.0).is_some_and(|at| from <= at.as_str() && at.as_str() <= to)
        };
        let Some(session) = self.sessions.get_mut(&pid) else { return Err(format!("no session {pid}")) };
        let distinct = |stage: &[Hit]| stage.iter().map(|(hit, _)| *hit).collect::<BTreeSet<_>>().len();
        if sql.starts_with("CREATE TEMP TABLE") {
            met.push("staged load");
            session.stage.clear();
            Ok(no_rows())
        } else if sql.starts_with("SELECT min(") {
            let times = || session.stage.iter().map(|(_, at)| at.as_str());
            Ok(one(&[times().min(), times().max()]))
        } else if sql.starts_with("DELETE FROM") {
            let ends = literals(sql);
            let [from, to] = ends.as_slice() else { return Err(format!("no times in {sql}")) };
            let before = session.stage.len();
            session.stage.retain(|hit| !known(hit, from, to));
            if session.stage.len() < before {
                met.push("the table had hits of a batch");
            }
            Ok(no_rows())
        } else if sql.starts_with("SELECT count(*)") {
            Ok(value(distinct(&session.stage)))
        } else if sql.starts_with("INSERT INTO") {
            let rows: BTreeMap<u64, String> = std::mem::take(&mut session.stage).into_iter().collect();
            session.hits.extend(rows);
            Ok(no_rows())
        } else {
            Err(format!("Redshift was sent {sql}"))
        }
    }

    fn select(&mut self, pid: u32, sql: &str, met: &mut Vec<&'static str>) -> Result<Answer, String> {
        if sql == "SELECT pg_last_copy_id()" {
            Ok(value(u64::from(pid)))
        } else if sql == "SELECT pg_last_copy_count()" {
            Ok(value(self.session(pid).copied))
        } else if sql == "SELECT pg_backend_pid()" {
            Ok(value(pid))
        } else if let Some(asked) = sql.strip_prefix("SELECT starttime FROM stv_sessions WHERE process = ") {
            // A session is known by its number: none comes twice.
            let asked: u32 = asked.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or_default();
            let there = self.sessions.contains_key(&asked);
            Ok(if there { value("2026-01-01 00:00:00") } else { no_rows() })
        } else if let Some(asked) = sql.strip_prefix("SELECT pg_terminate_backend(") {
            if self.keeps_sessions {
                return Ok(Answer::Refused("permission denied for function pg_terminate_backend".to_owned()));
            }
            let asked = asked.trim_end_matches(')').parse().unwrap_or_default();
            met.push("an orphan session is ended");
            self.end(asked, false).map(|()| value("t"))
        } else if sql.contains("FROM sys_session_history") || sql.contains("FROM svv_transactions") {
            Ok(no_rows())
        } else if sql.ends_with(" WHERE false") {
            Ok(no_rows())
        } else if sql.contains("FROM svv_columns") {
            let column = [Some("c"), Some("integer"), None, None, None, Some("YES"), None];
            Ok(one(&column))
        } else if sql.starts_with("SELECT 1 FROM") {
            Ok(if self.table.is_empty() { no_rows() } else { value(1) })
        } else if sql.contains(" UNION ALL ") {
            Ok(Answer::Rows(self.range(sql)?))
        } else if sql.starts_with("SELECT count(*), max(last_received), count(run) FROM") {
            let batches = self.ledger.len() - usize::from(self.ledger.contains_key(MARK));
            Ok(one(&[Some(&batches.to_string()), None, Some(&batches.to_string())]))
        } else if sql.contains(" WHERE batch_id ") {
            Ok(Answer::Rows(self.entries(sql)?))
        } else {
            Err(format!("Redshift was sent {sql}"))
        }
    }

    /// Rows of the ledger by their ids.
    fn entries(&self, sql: &str) -> Result<Rows, String> {
        let columns =
            sql.strip_prefix("SELECT ").and_then(|rest| rest.split_once(" FROM ")).map(|(names, _)| names);
        let ids = sql.split_once(" WHERE batch_id ").map(|(_, ids)| literals(ids)).unwrap_or_default();
        let columns = columns.ok_or_else(|| format!("Redshift was sent {sql}"))?;
        let entries = ids.iter().filter_map(|id| self.ledger.get(id));
        Ok(Rows(entries.map(|entry| terms(columns).map(|term| cell(entry, &term)).collect()).collect()))
    }

    /// The mark, and the runs that have rows of a time.
    fn range(&self, sql: &str) -> Result<Rows, String> {
        let times = literals(sql.rsplit_once(" AND last_received >= ").ok_or("a range without times")?.1);
        let [first, last] = times.as_slice() else { return Err(format!("no times in {sql}")) };
        let mut rows = Vec::new();
        if let Some(mark) = self.ledger.get(MARK) {
            let rows_loaded = get(mark, "rows_loaded");
            rows.push(vec![
                Some(MARK.to_owned()),
                None,
                None,
                get(mark, "first_received"),
                None,
                rows_loaded,
            ]);
        }
        let mut runs: BTreeMap<Option<String>, Vec<&Entry>> = BTreeMap::new();
        for (id, entry) in &self.ledger {
            let within = get(entry, "last_received") >= Some(first.clone())
                && get(entry, "first_received").is_some_and(|at| at <= *last);
            if id != MARK && within {
                runs.entry(get(entry, "run")).or_default().push(entry);
            }
        }
        for (run, entries) in runs {
            let highest = |uncompared: bool| {
                let fitting =
                    entries.iter().filter(|entry| !uncompared || number(entry, "uncompared") > Some(0));
                fitting
                    .filter_map(|entry| number(entry, "batch_number"))
                    .max()
                    .map(|number| number.to_string())
            };
            rows.push(vec![
                run,
                highest(false),
                highest(true),
                entries.iter().filter_map(|entry| get(entry, "first_received")).min(),
                entries.iter().filter_map(|entry| get(entry, "last_received")).max(),
                Some(entries.len().to_string()),
            ]);
        }
        Ok(Rows(rows))
    }
}
