//! Whether the counts add up, batch by batch: what the seals in S3 say against the ledger, and the ledger against
//! what lies in quarantine.
//!
//! A sealed batch is found in the ledger by what it holds: of two with one id and other content, one stands there under
//! another id. What has no checksum of its content, as older versions sealed it, is found by its id.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::seal::Seal;
use tokio_postgres::Client;

use super::{Complaints, files_below};
use crate::s3::BUCKET;

/// The ledger without its mark, the row that is no batch.
pub const LEDGER: &str = "public.livestream_ledger WHERE batch_id <> '00000000-0000-7000-8000-000000000000'";

struct Entry {
    loaded: u64,
    quarantined: u64,
    known: u64,
    forgotten: u64,
    content: Option<String>,
    set: Option<String>,
    counts: [u64; 4],
}

/// The ledger as a whole.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) known: u64,
    pub(super) batches: u64,
    pub(super) distinct: u64,
    /// Batches whose counts contradict each other.
    pub(super) do_not_add_up: u64,
}

pub(super) async fn sums(client: &Client) -> anyhow::Result<Sums> {
    let query = format!(
        "SELECT coalesce(sum(rows_loaded), 0)::bigint, coalesce(sum(rows_known), 0)::bigint, count(*), \
         count(DISTINCT batch_id), count(CASE WHEN received <> rows_loaded + rows_quarantined \
         + coalesce(rows_known, 0) + coalesce(rows_forgotten, 0) + duplicates + filtered + rejected THEN 1 END) FROM {LEDGER}"
    );
    let row = client.query_one(&query, &[]).await?;
    let number = |column| anyhow::Ok(u64::try_from(row.try_get::<_, i64>(column)?)?);
    Ok(Sums {
        rows: number(0)?,
        known: number(1)?,
        batches: number(2)?,
        distinct: number(3)?,
        do_not_add_up: number(4)?,
    })
}

async fn ledger(client: &Client) -> anyhow::Result<HashMap<BatchId, Entry>> {
    let query = format!(
        "SELECT batch_id, rows_loaded, rows_quarantined, received, duplicates, filtered, rejected, quarantine, \
         coalesce(rows_known, 0), content, coalesce(rows_forgotten, 0) FROM {LEDGER}"
    );
    let rows = client.query(&query, &[]).await?;
    let entries = rows.iter().map(|row| {
        let number = |column| anyhow::Ok(u64::try_from(row.try_get::<_, i64>(column)?)?);
        let entry = Entry {
            loaded: number(1)?,
            quarantined: number(2)?,
            counts: [number(3)?, number(4)?, number(5)?, number(6)?],
            set: row.try_get(7)?,
            known: number(8)?,
            content: row.try_get(9)?,
            forgotten: number(10)?,
        };
        anyhow::Ok((row.try_get::<_, &str>(0)?.parse()?, entry))
    });
    entries.collect()
}

/// Every seal that is there must be found in the ledger as it was sealed: `received = rows + duplicates + filtered +
/// rejected` and `rows = loaded + quarantined + known + forgotten`.
pub(super) async fn compare(
    client: &Client,
    s3_root: &Path,
    complaints: &mut Complaints,
) -> anyhow::Result<()> {
    let ledger = ledger(client).await?;
    let by_content: HashMap<&str, &Entry> =
        ledger.values().filter_map(|entry| Some((entry.content.as_deref()?, entry))).collect();
    for prefix in ["ToIngest", "Ingested"] {
        let seals = files_below(&s3_root.join(BUCKET).join(prefix))?;
        for path in seals.iter().filter(|path| path.ends_with(SEAL)) {
            let folder = path.parent().and_then(Path::file_name).context("a seal outside of a folder")?;
            let batch: BatchId = folder.to_string_lossy().parse()?;
            let seal = Seal::read(batch, &fs::read(path)?)?;
            let counts = seal.counts;
            if counts.received != counts.rows + counts.duplicates + counts.filtered + counts.rejected
                || counts.rows != seal.sealed_rows()
                || seal.rows != seal.files.iter().map(|file| file.rows).sum::<u64>()
            {
                complaints.add("a seal that does not add up", || format!("{batch}: {counts:?}"));
            }
            let sealed = [counts.received, counts.duplicates, counts.filtered, counts.rejected];
            let content = seal.content.map(|content| content.to_string());
            let own = ledger.get(&batch).filter(|entry| content.is_none() || entry.content == content);
            let found = own.or_else(|| by_content.get(content.as_deref()?).copied());
            match found {
                None => complaints.add("a sealed batch that is not in the ledger", || batch.to_string()),
                Some(entry)
                    if entry.loaded + entry.quarantined + entry.known + entry.forgotten
                        != seal.sealed_rows()
                        || entry.counts != sealed =>
                {
                    complaints.add("a batch whose counts do not add up", || {
                        let Entry { loaded, quarantined, known, forgotten, counts, .. } = entry;
                        format!(
                            "{batch}: {loaded} + {quarantined} + {known} + {forgotten} of {}, {counts:?} of {sealed:?}",
                            seal.sealed_rows()
                        )
                    });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// What is in a file, whichever way its name says it is compressed.
fn decoded(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut rows = Vec::new();
    match path.extension().and_then(OsStr::to_str) {
        Some("zst") => zstd::stream::copy_decode(file, &mut rows)?,
        Some("gz") => drop(MultiGzDecoder::new(file).read_to_end(&mut rows)?),
        _ => drop(file.read_to_end(&mut rows)?),
    }
    Ok(rows)
}

/// The ids of all hits in the quarantine that the ledger counts.
pub(super) async fn quarantined(
    client: &Client,
    s3_root: &Path,
    complaints: &mut Complaints,
) -> anyhow::Result<HashSet<(u64, u64)>> {
    let mut ids = HashSet::new();
    for (batch, entry) in ledger(client).await?.into_iter().filter(|(_, entry)| entry.quarantined > 0) {
        let set = entry.set.with_context(|| format!("{batch} has rows in quarantine, and no set"))?;
        let folder = s3_root.join(BUCKET).join(format!("{}{set}", layout::folder("Quarantine/", batch)));
        let description: serde_json::Value = serde_json::from_slice(
            &fs::read(folder.join("quarantine.json")).with_context(|| folder.display().to_string())?,
        )?;
        let columns = description["columns"].as_array().context("no columns")?;
        let place = |name| columns.iter().position(|column| column == name).context("no such column");
        let (high, low) = (place("hitidhigh")?, place("hitidlow")?);
        let files = files_below(&folder)?;
        let rows = files.iter().find(|path| path.to_string_lossy().contains("rows.csv"));
        let rows = decoded(rows.context("no rows")?)?;
        let mut reader = csv::ReaderBuilder::new().delimiter(b'~').has_headers(false).from_reader(&*rows);
        let mut count = 0;
        for row in reader.records() {
            let row = row?;
            let id = |at| row.get(at).unwrap_or_default().parse::<u64>();
            ids.insert((id(high)?, id(low)?));
            count += 1;
        }
        let reasons = fs::read_to_string(folder.join("reasons.ndjson"))?.lines().count() as u64;
        if count != entry.quarantined || reasons != entry.quarantined {
            complaints.add("a quarantine that does not add up", || {
                format!("{batch}: {count} rows and {reasons} reasons, the ledger says {}", entry.quarantined)
            });
        }
    }
    Ok(ids)
}
