//! What to run after `producer init`.

use std::io::{self, Write};
use std::path::Path;

use shared::config::{Config, Login};

use crate::commands::init::configuration::{ONE_PIPELINE, Places};

/// Where the units of the package look for configurations.
const OF_UNITS: &str = "/etc/livestream";

pub(super) fn print(config: &Config, places: &Places, out: &mut impl Write) -> io::Result<()> {
    let (file, setup) = (places.file.display(), places.setup.display());
    let redshift = &config.redshift;
    let psql = format!(
        "psql \"host={} port={} dbname={} user=OWNER\"",
        redshift.host, redshift.port, redshift.database
    );
    writeln!(out, "\nNext:")?;
    writeln!(out, "1. In AWS, give the policies of {setup} to the identities of the services, and those of")?;
    match redshift.iam_role.as_str() {
        "default" => writeln!(out, "   iam-copy-role*.json to the default role of Redshift.")?,
        role => writeln!(out, "   iam-copy-role*.json to {role}.")?,
    }
    writeln!(out, "2. As OWNER of the schema in Redshift:")?;
    writeln!(out, "   ingester ddl --config {file} | {psql}")?;
    match redshift.auth {
        Login::Password => writeln!(out, "   Put the password as MD5 into {setup}/grants.sql, then:")?,
        Login::Iam => {}
        Login::IamIdentity | Login::Serverless => {
            writeln!(out, "   Put the name of the ingester's role into {setup}/grants.sql, then:")?;
        }
    }
    writeln!(out, "   {psql} -f {setup}/grants.sql")?;
    let installed = places.file.parent() == Some(Path::new(OF_UNITS));
    let user = if installed { "sudo -u livestream " } else { "" };
    writeln!(out, "3. {user}producer check --config {file}")?;
    writeln!(out, "   {user}ingester check --config {file}")?;
    if installed {
        let at = if places.name == ONE_PIPELINE { String::new() } else { format!("@{}", places.name) };
        writeln!(out, "4. systemctl enable --now livestream-producer{at} livestream-ingester{at}")?;
        writeln!(out, "   {user}state dump --config {file}")?;
    } else {
        writeln!(out, "4. producer run --config {file}")?;
        writeln!(out, "   ingester run --config {file}")?;
    }
    Ok(())
}
