//! Redshift: login, tables, lock, staging and COPY.

use std::io::Write;

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::config::{Config, Tls};
use shared::exit::{Exit, Failure};
use shared::human::{counted, time};
use shared::object_store::ObjectStore;
use shared::report::{Outcome, Report, failed};
use shared::schema::Schema;
use state::loads::ErrorClass;

use crate::commands::check::copy_trial::CopyTrial;
use crate::commands::check::new_columns;
use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::redshift::ddl::{LiveColumn, TableOptions, compare};
use crate::redshift::{
    Connector, Rows, Session, SqlFailure, Target, catalog, errors, ledger_mark, lock, stage,
};

/// What a schema cannot have without these columns.
const NOT_COMPARABLE: &str = "NOT promised: the schema lacks hitIdHigh, hitIdLow or receivedTimeGMT, so a hit that two \
    producers, or a producer and its log's successor, both received is there twice";

pub(super) async fn redshift<W: Write>(
    config: &Config,
    schema: &Schema,
    target: &Target,
    trial: &CopyTrial<'_>,
    clock: &Clock,
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    let redshift = &config.redshift;
    let connector = Connector::new(config, "livestream ingester check", clock.clone())?;
    let credential = match connector.credential().await {
        Ok(credential) => credential,
        Err(failure) => {
            report.line("Redshift login", Err(sql_failed(&failure)))?;
            return report.skipped("Redshift connect, table, ledger, lock, COPY", "there is no login");
        }
    };
    let life = credential
        .life
        .map_or_else(String::new, |life| format!(": {} until {}", credential.user, time(life.expires)));
    report.line("Redshift login", Ok(format!("{}{life}", connector.login())))?;
    let opened = connector.open().await;
    let tls = match redshift.tls {
        Tls::Disable => "without TLS".to_owned(),
        Tls::VerifyFull if redshift.ca_file.as_os_str().is_empty() => {
            format!("TLS, trusting {}", config.s3.egress.trusted())
        }
        Tls::VerifyFull => format!("TLS, trusting {}", redshift.ca_file.display()),
    };
    let place =
        format!("{}:{}/{} as {}, {tls}", redshift.host, redshift.port, redshift.database, credential.user);
    report.line("Redshift connect", done(&opened, place))?;
    let Ok(session) = opened else {
        return report.skipped("Redshift table, ledger, lock, COPY", "there is no connection");
    };

    let version = session.run("SELECT version()").await;
    let text = version.as_ref().ok().and_then(Rows::single).unwrap_or_default().to_owned();
    report.line("Redshift version", done(&version, text))?;
    let live = catalog::fetch(&session, &target.table).await;
    let lacking = live.as_ref().map_or_else(|_| Vec::new(), |live| target.lacking(live));
    // What the table will be given is not there yet: the steps try the columns that are.
    let (there, now) = new_columns::without(config, schema, target, &lacking);
    let table = session.run(&now.check_table()).await;
    let text = format!("{} with its {}", now.table, counted(now.columns.len() as u64, "column", "columns"));
    let found = report.line("Redshift table", done(&table, text))?;
    report.line("Redshift columns", columns(config, schema, live.as_deref()))?;
    if found {
        new_columns::step(config, &session, target, &lacking, report).await?;
    }
    let ledger = session.run(&target.check_ledger()).await;
    if report.line("Redshift ledger", done(&ledger, target.ledger.to_string()))? {
        let locked = lock::begin(&session, target).await;
        session.roll_back().await;
        let text = format!("{} taken and rolled back", target.lock);
        report.line("Redshift ledger lock", locked.map(|()| text).map_err(failed))?;
        exactly_once(config, &session, (target, &now), report).await?;
    }
    if !found {
        return report.skipped("Redshift COPY", "the table cannot be read");
    }
    trial.run(&session, &now, &there, report).await
}

fn done<T>(result: &Result<T, SqlFailure>, text: String) -> Outcome {
    result.as_ref().map(|_| text).map_err(sql_failed)
}

/// What it takes so that no row is there twice, whoever sent it. `now` has the columns that are there.
async fn exactly_once<W: Write>(
    config: &Config,
    session: &Session,
    (target, now): (&Target, &Target),
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    if target.comparable().is_none() {
        report.skipped("comparing hits", NOT_COMPARABLE)?;
    } else {
        let probed = match stage::not_null(session, target).await {
            Ok(not_null) => stage::probe(session, &Target { not_null, ..now.clone() }).await,
            Err(failure) => Err(failure),
        };
        let text = "a temporary table like it was made and dropped".to_owned();
        report.line("Redshift staging", done(&probed, text))?;
    }
    let mark = match ledger_mark::read(session, target).await {
        Ok(Some(mark)) => mark,
        none => {
            let text = "the ledger has no mark yet; the first `ingester run` makes it".to_owned();
            return report.line("pipeline", done(&none, text)).map(drop);
        }
    };
    report.line("the ledger speaks for", Ok(speaks(mark.knows_from)))?;
    let identity = Identity::new(config, ObjectStore::connect(&config.s3).await);
    let pipeline = &mark.pipeline;
    let ours = match identity.free_prefixes(&mark).await {
        Ok(free) if free.is_empty() => Ok(format!("{pipeline}; table, ledger and prefixes belong together")),
        Ok(free) => {
            let free = free.join(", ");
            Ok(format!(
                "{pipeline}; no pipeline has claimed {free} yet, the first `ingester run` claims it for this one"
            ))
        }
        Err(why) => Err(failed(LoadFailure::from(why))),
    };
    report.line("pipeline", ours).map(drop)
}

fn speaks(knows_from: Option<DateTime<Utc>>) -> String {
    match knows_from {
        None => "no time yet, so every load is staged: when the tool that filled the table has stopped, \
                 `ingester ledger knows-from now`"
            .to_owned(),
        Some(from) if from <= DateTime::UNIX_EPOCH => "every row of the table".to_owned(),
        Some(from) => format!("rows received since {}; older ones load staged", time(from)),
    }
}

fn columns(config: &Config, schema: &Schema, live: Result<&[LiveColumn], &SqlFailure>) -> Outcome {
    let live = live.map_err(sql_failed)?;
    catalog::unloadable(config, schema, live).map_err(failed)?;
    let differences = compare(schema, live, &TableOptions::of(&config.redshift));
    Ok(match differences.len() {
        0 => "as the schema wants them".to_owned(),
        several => {
            let several = counted(several as u64, "difference", "differences");
            format!("rows can be loaded; {several}, see `ingester ddl --diff`")
        }
    })
}

pub(super) fn sql_failed(failure: &SqlFailure) -> (Exit, String) {
    let verdict = errors::judge(failure);
    let exit = match verdict.class {
        ErrorClass::Configuration => Exit::Config,
        _ => Exit::Unavailable,
    };
    let advice = match verdict.advice {
        "" => {
            "check redshift.host and redshift.port, that the cluster is available, and that its security group lets this \
               machine in"
        }
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
