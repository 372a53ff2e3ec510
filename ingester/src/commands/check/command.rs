//! The steps of the check, in the order in which a start meets them.

use std::io::Write;
use std::path::Path;

use serde_json::Value;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::object_store::ObjectStore;
use shared::report::{Report, Step, failed};
use shared::{admin, telemetry};
use state::status::feed;
use state::store::Kind;

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
    let columns = schema.columns.len();
    let mut text = format!("{}, {columns} columns, schema {}", path.display(), target.fingerprint);
    for warning in &config.warnings {
        text += &format!("; {warning}");
    }
    report.line("configuration", Ok(text))?;
    let dir = state::store::try_dir(&config.ingester.dir, Kind::Ingester);
    report.line("ingester directory", dir.map_err(failed))?;
    report.step("log files", telemetry::try_dir(&config.logging, "ingester", clock))?;
    report.step("metrics", metrics_port(config).await)?;
    // The connection to Redshift itself is always direct.
    let passwords = login_address(config).map(|address| ("passwords of Redshift", address));
    let addresses = config.s3.addresses().into_iter().chain(passwords);
    report.line("network", Ok(config.s3.egress.report(addresses)))?;
    let store = ObjectStore::connect(&config.s3).await;
    let writable = s3(config, &store, &mut report).await?;
    let trial = CopyTrial::new(config, &store, &target, writable);
    redshift(config, &schema, &target, &trial, clock, &mut report).await?;
    report.end()
}

async fn metrics_port(config: &Config) -> Step {
    let running = feed::snapshot::<Value>(&config.ingester_socket()).await.ok().map(|answer| answer.pid);
    let (key, prefix) = ("metrics.ingester_listen", "livestream_ingester");
    admin::try_listen((key, &config.metrics.ingester_listen), prefix, running).await
}
