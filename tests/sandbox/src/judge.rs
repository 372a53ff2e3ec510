//! The verdict, from outside: what was sent, by the generator that made it, against what stands in the table and
//! among the rejects. Nothing the services say of themselves counts.

mod counts;

pub use counts::LEDGER;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use adobe::{Generator, Kind};
use anyhow::Context;
use base64::Engine;
use futures_util::{TryStreamExt, pin_mut};

use crate::s3::BUCKET;

/// Complaints listed in full; more of the same kind are only counted.
const LISTED: usize = 5;

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Distinct hits sent.
    pub sent: u64,
    /// Rows in the table.
    pub loaded: u64,
    /// Hits that the table refuses, found in quarantine.
    pub quarantined: u64,
    /// Rows of sealed batches that the table had already, as the ledger counts them.
    pub known: u64,
    /// Excluded hits that are, rightly, not in the table.
    pub filtered: u64,
    /// Distinct malformed lines found among the rejects, as they were sent.
    pub rejected: u64,
    /// Hits that should be in the table and are not, and malformed lines that are nowhere.
    pub lost: u64,
    /// Rows too many.
    pub doubled: u64,
    /// Everything that should not be: rows nobody sent, excluded hits that were loaded, values that were altered,
    /// a ledger that does not agree with the table.
    pub complaints: Vec<String>,
}

impl Verdict {
    /// Whether everything is as it was promised.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.complaints.is_empty()
    }
}

/// A connection to PostgreSQL, past the stand-in and past everything the services know.
///
/// # Errors
/// When it cannot be reached.
pub async fn connect(postgres: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(postgres, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A column of the table that is narrower than the schema's: longer values are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrow {
    /// The column, one of those the generator states.
    pub column: &'static str,
    /// Bytes it takes.
    pub bytes: usize,
}

impl Narrow {
    /// Whether the row of this hit is refused.
    #[must_use]
    pub fn refuses(self, generator: &Generator, index: u64) -> bool {
        let expected = generator.expected(index);
        let value =
            expected.iter().find(|(name, _)| *name == self.column).and_then(|(_, value)| value.as_ref());
        value.is_some_and(|value| value.len() > self.bytes)
    }
}

/// What was done to table and ledger on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// The table refuses some rows.
    pub narrow: Option<Narrow>,
    /// So many rows of the table were put there by somebody else.
    pub by_others: u64,
    /// The ledger forgot some batches.
    pub trimmed: bool,
}

/// Judges all hits of the generator.
///
/// # Errors
/// When the table or the rejects cannot be read.
pub async fn judge(generator: &Generator, postgres: &str, s3_root: &Path) -> anyhow::Result<Verdict> {
    judge_after(generator, postgres, s3_root, Done::default()).await
}

/// Judges all hits of the generator, whatever was done on purpose.
///
/// # Errors
/// When the table, the rejects or the quarantine cannot be read.
pub async fn judge_after(
    generator: &Generator,
    postgres: &str,
    s3_root: &Path,
    Done { narrow, by_others, trimmed }: Done,
) -> anyhow::Result<Verdict> {
    let hits = generator.plan().hits;
    let mut verdict = Verdict { sent: hits, ..Verdict::default() };
    let mut complaints = Complaints::default();
    let by_id: HashMap<(u64, u64), u64> = (0..hits).map(|index| (generator.hit_id(index), index)).collect();
    let mut times_loaded = vec![0u32; usize::try_from(hits)?];

    let client = connect(postgres).await?;
    let names: Vec<_> = generator.expected(0).iter().map(|(name, _)| *name).collect();
    let columns: Vec<_> = names.iter().map(|name| format!("{name}::text")).collect();
    let query = format!("SELECT {} FROM public.livestream", columns.join(", "));
    let rows = client.query_raw(&query, std::iter::empty::<&str>()).await?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await? {
        verdict.loaded += 1;
        let values: Vec<Option<&str>> = (0..names.len()).map(|i| row.try_get(i)).collect::<Result<_, _>>()?;
        let id = |name| {
            let position = names.iter().position(|column| *column == name)?;
            values.get(position).copied().flatten()?.parse().ok()
        };
        let index = id("hitidhigh").zip(id("hitidlow")).and_then(|id| by_id.get(&id).copied());
        let Some(index) = index else {
            complaints.add("a row that nobody sent", || format!("{values:?}"));
            continue;
        };
        times_loaded[usize::try_from(index)?] += 1;
        for ((name, expected), value) in generator.expected(index).iter().zip(&values) {
            if expected.as_deref() != *value {
                complaints
                    .add("an altered value", || format!("hit {index}, {name}: {value:?}, sent {expected:?}"));
            }
        }
    }
    let in_quarantine = counts::quarantined(&client, s3_root, &mut complaints).await?;
    for (index, times) in (0..hits).zip(&times_loaded) {
        let refused = || narrow.is_some_and(|narrow| narrow.refuses(generator, index));
        match (generator.kind(index), times) {
            (Kind::Hit, 0) if refused() && in_quarantine.contains(&generator.hit_id(index)) => {
                verdict.quarantined += 1;
            }
            (Kind::Excluded, 0) => verdict.filtered += 1,
            (Kind::Excluded, _) => complaints.add("an excluded hit was loaded", || format!("hit {index}")),
            (Kind::Hit, 0) => verdict.lost += 1,
            (Kind::Hit, times) => verdict.doubled += u64::from(times - 1),
        }
    }
    rejects(generator, s3_root, &mut verdict, &mut complaints)?;
    if !trimmed {
        counts::compare(&client, s3_root, &mut complaints).await?;
    }
    let sums = counts::sums(&client).await?;
    verdict.known = sums.known;
    if sums.do_not_add_up > 0 {
        complaints.add("counts in the ledger that do not add up", || sums.do_not_add_up.to_string());
    }
    let agrees = sums.rows + by_others == verdict.loaded || (trimmed && sums.rows < verdict.loaded);
    if !agrees || sums.batches != sums.distinct {
        complaints.add("the ledger disagrees", || {
            format!("{sums:?}, the table has {}, {by_others} of them by others", verdict.loaded)
        });
    }
    verdict.complaints = complaints.list();
    Ok(verdict)
}

/// Every malformed line must be among the rejects as it was sent; and nothing else may be.
fn rejects(
    generator: &Generator,
    s3_root: &Path,
    verdict: &mut Verdict,
    complaints: &mut Complaints,
) -> anyhow::Result<()> {
    let mut sent: HashMap<Vec<u8>, bool> = HashMap::new();
    for index in (0..generator.plan().hits).filter(|index| generator.malformed_after(*index)) {
        let mut line = Vec::new();
        generator.write_malformed(index, &mut line);
        sent.insert(line.trim_ascii_end().to_vec(), false);
    }
    for record in uploaded_rejects(&s3_root.join(BUCKET).join("Rejected"))? {
        match sent.get_mut(record.trim_ascii_end()) {
            Some(found) => *found = true,
            None => complaints
                .add("a reject that is not malformed", || String::from_utf8_lossy(&record).into_owned()),
        }
    }
    verdict.rejected = sent.values().filter(|found| **found).count() as u64;
    let missing = sent.values().filter(|found| !**found).count() as u64;
    verdict.lost += missing;
    if missing > 0 {
        complaints.add("malformed lines that are not among the rejects", || missing.to_string());
    }
    Ok(())
}

/// The records in all files of rejects.
///
/// # Errors
/// When a file cannot be read.
pub fn uploaded_rejects(dir: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    for path in files_below(dir)? {
        let content = zstd::decode_all(fs::File::open(&path)?)?;
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: state::log::RejectLine = serde_json::from_slice(line).context("a line of rejects")?;
            records.push(match (line.record, line.record_base64) {
                (Some(text), _) => text.into_bytes(),
                (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64)?,
                (None, None) => anyhow::bail!("{}: a reject without its record", path.display()),
            });
        }
    }
    Ok(records)
}

/// Every object below a folder of the store, without the store's own bookkeeping.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(dir: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() {
                dirs.push(path);
            } else if !hidden {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Complaints by kind: the first few in full, the others counted.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Vec<(&'static str, u64, Vec<String>)>);

impl Complaints {
    pub(crate) fn add(&mut self, kind: &'static str, detail: impl FnOnce() -> String) {
        let position = self.0.iter().position(|(known, ..)| *known == kind).unwrap_or_else(|| {
            self.0.push((kind, 0, Vec::new()));
            self.0.len() - 1
        });
        let (_, count, details) = &mut self.0[position];
        *count += 1;
        if details.len() < LISTED {
            details.push(detail());
        }
    }

    fn list(self) -> Vec<String> {
        let line = |(kind, count, details): (&str, u64, Vec<String>)| {
            format!("{kind} ({count}): {}", details.join("; "))
        };
        self.0.into_iter().map(line).collect()
    }
}
