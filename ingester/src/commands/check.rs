//! `ingester check`: tries each step against the real thing, and says what to do about those that fail.

use std::io::Write;
use std::path::Path;

use crate::redshift::ddl::{LiveColumn, compare};
use crate::redshift::login_address;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared::config::{Archive, Config, Tls};
use shared::exit::{Exit, Failure};
use shared::layout;
use shared::object_store::{ObjectStore, REFUSED_ADVICE, SMALL, StoreError, StoreErrorKind};
use shared::report::{Outcome, Report};
use shared::schema::Schema;
use state::loads::ErrorClass;

use crate::commands::connect::failed;
use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::redshift::{Connector, Session, SqlFailure, Target, errors, lock, mark, stage, table};

/// What a schema cannot have without these columns.
const NOT_COMPARABLE: &str = "NOT promised: the schema lacks hitIdHigh, hitIdLow or receivedTimeGMT, so a hit that two \
    producers, or a producer and its log's successor, both received is there twice";

/// Checks the configuration, S3 and Redshift, in this order. Loads nothing and leaves nothing behind.
///
/// # Errors
/// With the code of the first step that failed.
pub async fn check(config: &Config, path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let mut report = Report::new(out);
    let schema = config.schema.load()?;
    config.redshift.checked_options(&schema)?;
    let target = Target::new(config, &schema, "ingester check".to_owned());
    let columns = schema.columns.len();
    let mut said = format!("{}, {columns} columns, schema {}", path.display(), target.fingerprint);
    for warning in &config.warnings {
        said += &format!("; {warning}");
    }
    report.line("configuration", Ok(said))?;
    report.line("network", Ok(network(config)))?;
    s3(config, &mut report).await?;
    redshift(config, &schema, &target, &mut report).await?;
    report.end()
}

/// Which way the requests take. The connection to Redshift itself is none: it is made directly.
fn network(config: &Config) -> String {
    let passwords = login_address(config).map(|address| ("passwords of Redshift", address));
    config.s3.egress.report(config.s3.addresses().into_iter().chain(passwords))
}

async fn s3<W: Write>(config: &Config, report: &mut Report<'_, W>) -> Result<(), Failure> {
    let store = ObjectStore::connect(&config.s3).await;
    let prefix = &config.s3.to_ingest;
    // Not laid out as a batch, so that nobody takes it for one.
    let name = layout::probe_name(std::process::id());
    let key = format!("{prefix}{name}");
    let content = Bytes::from_static(b"written by `ingester check`, which deletes it again");

    let put = store.put(&key, content.clone()).await.map(|_| format!("s3://{}/{key}", store.bucket()));
    let put = report.line("S3 put", put.map_err(|error| s3_failed(&error)))?;
    let listed = store.list_page(prefix, None).await;
    report.line(
        "S3 list",
        listed.map(|_| format!("s3://{}/{prefix}", store.bucket())).map_err(|error| s3_failed(&error)),
    )?;
    if !put {
        return Ok(());
    }
    let got = store.get_at_most(&key, SMALL).await.map_err(|error| s3_failed(&error)).and_then(|got| {
        let altered = (Exit::Unavailable, "the object came back altered".to_owned());
        if got == content { Ok(String::new()) } else { Err(altered) }
    });
    report.line("S3 get", got)?;
    let manifest = format!("{}{name}", config.s3.loads);
    let written =
        store.put(&manifest, content.clone()).await.map(|_| format!("s3://{}/{manifest}", store.bucket()));
    if report.line("S3 put a manifest", written.map_err(|error| s3_failed(&error)))? {
        let deleted = store.delete(&manifest).await.map(|()| String::new());
        report.line("S3 delete the manifest", deleted.map_err(|error| s3_failed(&error)))?;
    }
    // Without it rows that Redshift refuses hold their batch.
    let quarantined = format!("{}{name}", config.s3.quarantine);
    let written = store.put(&quarantined, content.clone()).await;
    let written = written.map(|_| format!("s3://{}/{quarantined}", store.bucket()));
    if report.line("S3 put into quarantine", written.map_err(|error| s3_failed(&error)))? {
        let got = store.get_at_most(&quarantined, SMALL).await.map(|_| String::new());
        report.line("S3 get from quarantine", got.map_err(|error| s3_failed(&error)))?;
        let listed = store.list_page(&config.s3.quarantine, None).await.map(|_| String::new());
        report.line("S3 list the quarantine", listed.map_err(|error| s3_failed(&error)))?;
        let deleted = store.delete(&quarantined).await.map(|()| String::new());
        report.line("S3 delete from quarantine", deleted.map_err(|error| s3_failed(&error)))?;
    }
    if config.ingester.archive == Archive::Move {
        let moved = format!("{}{name}", config.s3.ingested);
        let copied = store.copy(&key, &moved).await.map(|()| format!("s3://{}/{moved}", store.bucket()));
        if report.line("S3 copy", copied.map_err(|error| s3_failed(&error)))? {
            report.line(
                "S3 delete the copy",
                store.delete(&moved).await.map(|()| String::new()).map_err(|error| s3_failed(&error)),
            )?;
        }
    }
    report.line(
        "S3 delete",
        store.delete(&key).await.map(|()| String::new()).map_err(|error| s3_failed(&error)),
    )?;
    Ok(())
}

fn s3_failed(error: &StoreError) -> (Exit, String) {
    match error.kind() {
        StoreErrorKind::Passing => {
            let advice = "is s3.endpoint right, and reachable on the way that \"network\" names?";
            (Exit::Unavailable, format!("{error}: {advice}"))
        }
        StoreErrorKind::Configuration | StoreErrorKind::NotFound | StoreErrorKind::Asleep => {
            (Exit::Config, format!("{error}: {REFUSED_ADVICE}"))
        }
    }
}

async fn redshift<W: Write>(
    config: &Config,
    schema: &Schema,
    target: &Target,
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    let redshift = &config.redshift;
    let connector = Connector::new(config, "livestream ingester check")?;
    let credential = connector.credential().await;
    let said = credential.as_ref().map(|credential| match credential.life {
        Some(life) => format!(
            "{}: {} until {}",
            connector.login(),
            credential.user,
            life.expires.format("%H:%M:%S UTC")
        ),
        None => connector.login().to_string(),
    });
    if !report.line("Redshift login", said.map_err(sql_failed))? {
        return Ok(());
    }
    let opened = connector.open().await;
    let user = credential.map(|credential| credential.user).unwrap_or_default();
    let tls = match redshift.tls {
        Tls::Disable => "without TLS".to_owned(),
        Tls::VerifyFull if redshift.ca_file.as_os_str().is_empty() => {
            format!("TLS, trusting {}", config.s3.egress.trusted())
        }
        Tls::VerifyFull => format!("TLS, trusting {}", redshift.ca_file.display()),
    };
    let place = format!("{}:{}/{} as {user}, {tls}", redshift.host, redshift.port, redshift.database);
    let connected = opened.as_ref().map(|_| place).map_err(sql_failed);
    report.line("Redshift connect", connected)?;
    let Ok(session) = opened else { return Ok(()) };

    let version = session.run("SELECT version()").await;
    let version =
        version.as_ref().map(|rows| rows.single().unwrap_or_default().to_owned()).map_err(sql_failed);
    report.line("Redshift version", version)?;
    let table = session.run(&target.check_table()).await;
    let said = format!("{} with its {} columns", redshift.table, target.columns.len());
    report.line("Redshift table", table.as_ref().map(|_| said).map_err(sql_failed))?;
    let live = table::look(&session, &redshift.table).await;
    report.line("Redshift columns", columns(config, schema, live))?;
    let ledger = session.run(&target.check_ledger()).await;
    let ledger = ledger.as_ref().map(|_| redshift.ledger.to_string()).map_err(sql_failed);
    if report.line("Redshift ledger", ledger)? {
        let locked = lock::begin(&session, target).await;
        session.roll_back().await;
        let said = format!("{} taken and rolled back", target.lock);
        report.line("Redshift ledger lock", locked.as_ref().map(|()| said).map_err(trouble_failed))?;
        exactly_once(config, &session, target, report).await?;
    }
    Ok(())
}

/// What it takes so that no row is there twice, whoever sent it.
async fn exactly_once<W: Write>(
    config: &Config,
    session: &Session,
    target: &Target,
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    if target.comparable().is_none() {
        report.line("comparing hits", Ok(NOT_COMPARABLE.to_owned()))?;
    } else {
        let probed = match stage::shape(session, target).await {
            Ok(shape) => stage::probe(session, &Target { shape, ..target.clone() }).await,
            Err(failure) => Err(failure),
        };
        let said = "a temporary table like it was made and dropped".to_owned();
        report.line("Redshift staging", probed.as_ref().map(|()| said).map_err(sql_failed))?;
    }
    let mark = match mark::read(session, target).await {
        Ok(Some(mark)) => mark,
        Ok(None) => {
            let said = "the ledger has no mark yet; the first `ingester run` makes it".to_owned();
            report.line("pipeline", Ok(said))?;
            return Ok(());
        }
        Err(failure) => {
            report.line("pipeline", Err(sql_failed(&failure)))?;
            return Ok(());
        }
    };
    report.line("the ledger speaks for", Ok(speaks(mark.knows_from)))?;
    let identity = Identity::new(config, ObjectStore::connect(&config.s3).await);
    let ours = match identity.look(&mark).await {
        Ok(free) if free.is_empty() => {
            Ok(format!("{}; table, ledger and prefixes belong together", mark.pipeline))
        }
        Ok(free) => {
            let free = free.join(", ");
            Ok(format!("{}; nobody owns {free} yet, the first `ingester run` takes it", mark.pipeline))
        }
        Err(why) => Err(trouble_failed(&why.into())),
    };
    report.line("pipeline", ours)?;
    Ok(())
}

fn speaks(knows_from: Option<DateTime<Utc>>) -> String {
    match knows_from {
        None => "no time yet, so every load is staged: when the tool that filled the table has stopped, \
                 `ingester ledger knows-from now`"
            .to_owned(),
        Some(from) if from <= DateTime::UNIX_EPOCH => "every row of the table".to_owned(),
        Some(from) => {
            format!("rows received since {}; older ones load staged", from.format("%Y-%m-%d %H:%M:%S UTC"))
        }
    }
}

fn trouble_failed(trouble: &LoadFailure) -> (Exit, String) {
    (failed(trouble).exit(), trouble.to_string())
}

fn columns(config: &Config, schema: &Schema, live: Result<Vec<LiveColumn>, SqlFailure>) -> Outcome {
    let live = live.map_err(|failure| sql_failed(&failure))?;
    let wrong = |failure: Failure| (failure.exit(), failure.to_string());
    table::unloadable(&config.redshift.table, schema, &live, config).map_err(wrong)?;
    let differences = compare(schema, &live, &config.redshift.table_options());
    Ok(match differences.len() {
        0 => "as the schema wants them".to_owned(),
        several => format!("rows can be loaded; {several} differences, see `ingester ddl --diff`"),
    })
}

fn sql_failed(failure: &SqlFailure) -> (Exit, String) {
    let verdict = errors::judge(failure);
    let exit = match verdict.class {
        ErrorClass::Configuration => Exit::Config,
        _ => Exit::Unavailable,
    };
    let advice = match verdict.advice {
        "" => "is it running, and are redshift.host and redshift.port reachable from here?",
        advice => advice,
    };
    (exit, format!("{failure}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_speaks_for_is_said_with_what_to_do() {
        assert!(speaks(None).contains("every load is staged") && speaks(None).contains("knows-from now"));
        assert_eq!(speaks(Some(DateTime::UNIX_EPOCH)), "every row of the table");
        let from = "2026-03-02T14:00:00Z".parse().unwrap();
        assert!(speaks(Some(from)).contains("since 2026-03-02 14:00:00 UTC; older ones load staged"));
    }
}
