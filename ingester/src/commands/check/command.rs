//! The steps of the check, in the order in which a start meets them.

use std::io::Write;
use std::path::Path;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::human::counted;
use shared::object_store::ObjectStore;
use shared::report::{Report, Step, failed};
use shared::{admin, telemetry};
use state::loads::LoadDatabase;
use state::status::feed;
use state::store::{Kind, StoreError};

use crate::commands::check::copy_trial::CopyTrial;
use crate::commands::check::objects::s3;
use crate::commands::check::warehouse::redshift;
use crate::redshift::ddl::TableOptions;
use crate::redshift::{Target, login_address};

/// Checks the configuration, S3 and Redshift, in this order. Loads nothing and leaves nothing behind.
pub async fn check(config: &Config, path: &Path, clock: &Clock, out: &mut impl Write) -> Result<(), Failure> {
    let mut report = Report::new(out);
    let schema = config.schema.load()?;
    TableOptions::checked(&config.redshift, &schema)?;
    let target = Target::new(config, &schema, "ingester check".to_owned());
    let columns = counted(schema.columns.len() as u64, "column", "columns");
    let mut text = format!("{}, {columns}, schema {}", path.display(), target.fingerprint);
    for warning in &config.warnings {
        text += &format!("; {warning}");
    }
    report.line("configuration", Ok(text))?;
    let dir = state::store::try_dir(&config.ingester.dir, Kind::Ingester);
    report.line("ingester directory", dir.map_err(failed))?;
    report.step("load store", load_store(&config.ingester.dir))?;
    report.step("log files", telemetry::try_dir(&config.logging, "ingester", clock))?;
    report.step("metrics", metrics_port(config).await)?;
    // The connection to Redshift itself is always direct.
    let passwords = login_address(config).map(|address| ("passwords of Redshift", address));
    let addresses = config.s3.addresses().into_iter().chain(passwords);
    report.line("network", Ok(config.s3.egress.report(addresses)))?;
    let store = ObjectStore::connect(&config.s3).await;
    let writable = s3(config, &store, &mut report).await?;
    let trial = CopyTrial::new(config, &store, writable);
    redshift(config, &schema, &target, &trial, clock, &mut report).await?;
    report.end()
}

/// Whether `ingester run` would take the load store.
fn load_store(dir: &Path) -> Step {
    if state::in_use(dir).unwrap_or(false) {
        return Step::Skipped("it is in use: an ingester runs".to_owned());
    }
    match LoadDatabase::open_to_read(dir) {
        Ok(_) => Step::Tried(Ok("it can be read".to_owned())),
        Err(StoreError::Missing(_)) => Step::Skipped("there is none yet".to_owned()),
        Err(error) => Step::Tried(Err(failed(error))),
    }
}

async fn metrics_port(config: &Config) -> Step {
    let running = feed::running(&config.ingester_socket()).await.unwrap_or_default();
    let (key, prefix) = ("metrics.ingester_listen", "livestream_ingester");
    admin::try_listen((key, &config.metrics.ingester_listen), prefix, running).await
}
