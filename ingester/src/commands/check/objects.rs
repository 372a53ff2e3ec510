//! S3: every kind of request that the ingester makes, below each of its prefixes.

use std::io::Write;

use bytes::Bytes;
use shared::config::{Archive, Config};
use shared::exit::{Exit, Failure};
use shared::layout;
use shared::object_store::{ObjectStore, ObjectStoreError, SMALL};
use shared::report::{Outcome, Report};

/// Tries S3; false when no object could be put below `s3.to_ingest`.
pub(super) async fn s3<W: Write>(
    config: &Config,
    store: &ObjectStore,
    report: &mut Report<'_, W>,
) -> Result<bool, Failure> {
    let s3 = &config.s3;
    // Not laid out as a batch, so that no ingester loads it.
    let name = layout::probe_name(std::process::id());
    let [key, manifest, quarantined, moved] =
        [&s3.to_ingest, &s3.loads, &s3.quarantine, &s3.ingested].map(|prefix| format!("{prefix}{name}"));
    let place = |key: &str| format!("s3://{}/{key}", store.bucket());
    let content = Bytes::from_static(b"written by `ingester check`, which deletes it again");
    fn done<T>(result: Result<T, ObjectStoreError>, text: String) -> Outcome {
        result.map(|_| text).map_err(s3_failed)
    }

    let put = report.line("S3 put", done(store.put(&key, content.clone()).await, place(&key)))?;
    report.line("S3 list", done(store.list_page(&s3.to_ingest, None).await, place(&s3.to_ingest)))?;
    if !put {
        report.skipped("S3 get, copy, delete", "nothing could be put")?;
        return Ok(false);
    }
    let got = store.get_at_most(&key, SMALL).await.map_err(s3_failed).and_then(|got| {
        let altered = (Exit::Unavailable, "the object came back altered".to_owned());
        if got == content { Ok(String::new()) } else { Err(altered) }
    });
    report.line("S3 get", got)?;
    if report
        .line("S3 put a manifest", done(store.put(&manifest, content.clone()).await, place(&manifest)))?
    {
        report.line("S3 delete the manifest", done(store.delete(&manifest).await, String::new()))?;
    }
    // Without it rows that Redshift refuses hold up their batch.
    let written = store.put(&quarantined, content.clone()).await;
    if report.line("S3 put into quarantine", done(written, place(&quarantined)))? {
        let got = store.get_at_most(&quarantined, SMALL).await;
        report.line("S3 get from quarantine", done(got, String::new()))?;
        let listed = store.list_page(&s3.quarantine, None).await;
        report.line("S3 list the quarantine", done(listed, String::new()))?;
        report.line("S3 delete from quarantine", done(store.delete(&quarantined).await, String::new()))?;
    }
    if config.ingester.archive == Archive::Move
        && report.line("S3 copy", done(store.copy(&key, &moved).await, place(&moved)))?
    {
        report.line("S3 delete the copy", done(store.delete(&moved).await, String::new()))?;
    }
    report.line("S3 delete", done(store.delete(&key).await, String::new()))?;
    Ok(true)
}

#[allow(clippy::needless_pass_by_value, reason = "given to `map_err`")]
pub(super) fn s3_failed(error: ObjectStoreError) -> (Exit, String) {
    (error.exit(), error.advised())
}
