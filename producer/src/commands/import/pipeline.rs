//! The daemon's keys, one by one, as keys of ours.

use std::fmt::{Display, Write};
use std::path::Path;

use reqwest::Url;
use shared::config::Auth;
use shared::ids::Instance;
use shared::secret::Secret;
use toml::Value;

use crate::commands::import::daemon::{ADMIN, Daemon, PARAMETERS};

/// Keys that are understood.
const ADMIN_KEYS: &[&str] = &[
    "org_id",
    "api_key",
    "tech_id",
    "secret",
    "pathToKey",
    "livestreamEndpoint",
    "tokenEndpoint",
    "AdobeStreamEndpoint",
];
const PARAMETER_KEYS: &[&str] = &[
    "maxConnections",
    "reset",
    "smoothing",
    "smoothingBucketSize",
    "BATCH_RECORDS",
    "BATCH_FILES",
    "copy_command_approach",
    "S3_base_path",
    "S3_bucket_name",
    "S3_region_name",
    "Redshift_staging_table_name",
    "Redshift_columns",
    "Redshift_dbname",
    "Redshift_host",
    "Redshift_port",
    "Redshift_user",
    "Redshift_password",
    "IAM_Role",
];

/// A secret on its way from the daemon's files to a file of its own.
pub(super) struct SecretFile {
    pub(super) name: &'static str,
    pub(super) value: Secret,
    /// Where it stands in the daemon's files.
    pub(super) origin: &'static str,
}

/// A configuration of ours.
pub(super) struct Imported {
    pub(super) text: String,
    pub(super) secrets: Vec<SecretFile>,
    /// What a person should know: what has no counterpart, and what is not as before.
    pub(super) notes: Vec<String>,
}

/// The text of a TOML file that grows.
struct Toml(String);

impl Toml {
    fn section(&mut self, name: &str) {
        let _ = write!(self.0, "\n[{name}]\n");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, Value::from(value));
    }

    /// A value the daemon may not have set: then our default holds.
    fn text_if(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// A number the daemon may not have set. What is no number is written as it is, and the check complains by key.
    fn number_if(&mut self, key: &str, value: &str) {
        match value.parse::<i64>() {
            _ if value.is_empty() => {}
            Ok(number) => self.plain(key, number),
            Err(_) => self.text(key, value),
        }
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }
}

/// Maps every key; the secrets are to lie in the folder `beside`.
pub(super) fn pipeline(daemon: &Daemon, instance: &Instance, beside: &Path) -> Imported {
    let mut toml = Toml("# Imported from the Python daemon by `producer import-config`.\n".to_owned());
    let mut notes = Vec::new();
    let mut secrets = Vec::new();
    toml.section("instance");
    toml.text("name", &instance.to_string());
    adobe(daemon, beside, &mut toml, &mut secrets, &mut notes);
    toml.section("batch");
    toml.number_if("records_per_file", &daemon.parameter("BATCH_RECORDS"));
    toml.number_if("files_per_batch", &daemon.parameter("BATCH_FILES"));
    s3(daemon, &mut toml, &mut notes);
    redshift(daemon, beside, &mut toml, &mut secrets, &mut notes);
    for (file, key) in daemon.unknown(ADMIN_KEYS, PARAMETER_KEYS) {
        notes.push(format!("{file}: {key} is no key of the daemon's and was left out"));
    }
    Imported { text: toml.0, secrets, notes }
}

fn adobe(
    daemon: &Daemon,
    beside: &Path,
    toml: &mut Toml,
    secrets: &mut Vec<SecretFile>,
    notes: &mut Vec<String>,
) {
    let mut file = |name, value, origin| {
        secrets.push(SecretFile { name, value, origin });
        beside.join(name).display().to_string()
    };
    toml.section("adobe");
    // The daemon knows service accounts only, but its token endpoint may have been changed since.
    let token_url = daemon.admin("tokenEndpoint").trim_end_matches('/').to_owned();
    let auth = if token_url.contains("/ims/token/") { Auth::Oauth } else { Auth::Jwt };
    if token_url.is_empty() {
        notes.push(format!("{ADMIN}: tokenEndpoint is not set; Adobe's is taken"));
    } else if token_url != auth.token_url() {
        toml.text("token_url", &token_url);
    }
    toml.text("client_id", &daemon.admin("api_key"));
    let secret = Secret::new(daemon.admin("secret"));
    toml.text("client_secret_file", &file("client_secret", secret, "`secret` of config_admin.json"));
    match auth {
        Auth::Oauth => notes.push(format!(
            "{ADMIN}: org_id, tech_id and pathToKey are of no use with OAuth server-to-server and were left out"
        )),
        Auth::Jwt => {
            toml.text("auth", "jwt");
            toml.text("jwt_organization", &daemon.admin("org_id"));
            toml.text("jwt_technical_account", &daemon.admin("tech_id"));
            match &daemon.key {
                Some(key) => {
                    let key = file("technical_account.pem", key.clone(), "the private key of `pathToKey`");
                    toml.text("jwt_key_file", &key);
                }
                None => {
                    let path = beside.join("technical_account.pem");
                    toml.text("jwt_key_file", &path.display().to_string());
                    notes.push(format!("{ADMIN}: the key of pathToKey is not there: put it into {}", path.display()));
                }
            }
            notes.push(
                "Adobe ended service accounts (JWT): migrate the credential to OAuth Server-to-Server in the Adobe Developer \
                 Console, then remove adobe.auth and the adobe.jwt_ keys; client id and secret stay"
                    .to_owned(),
            );
        }
    }
    let stream_url = daemon.admin("livestreamEndpoint") + &daemon.admin("AdobeStreamEndpoint");
    toml.text("stream_url", &stream_url);
    let host = Url::parse(&stream_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    if let Some(host) = host.filter(|host| !host.ends_with(".adobe.net")) {
        toml.plain("redirect_hosts", format_args!("[\"*.adobe.net\", {}]", Value::from(host)));
    }
    toml.number_if("max_connections", &daemon.parameter("maxConnections"));
    let reset = daemon.parameter("reset");
    toml.text_if("reset", &reset);
    if reset == "largest" {
        notes.push(
            "adobe.reset is \"largest\" as the daemon's was: what Adobe held during a disconnect is lost. With \"smallest\", \
             the default, it is read again and what is known is dropped"
                .to_owned(),
        );
    }
    if matches!(daemon.parameter("smoothing").to_lowercase().as_str(), "1" | "true") {
        toml.plain("smoothing", true);
        toml.number_if("smoothing_bucket_size", &daemon.parameter("smoothingBucketSize"));
    }
}

fn s3(daemon: &Daemon, toml: &mut Toml, notes: &mut Vec<String>) {
    toml.section("s3");
    toml.text("bucket", &daemon.parameter("S3_bucket_name"));
    toml.text("region", &daemon.parameter("S3_region_name"));
    match daemon.parameter("S3_base_path").trim_matches('/') {
        "" => notes.push(format!("{PARAMETERS}: S3_base_path is the bucket itself; ToIngest/ is taken")),
        prefix => {
            toml.text("to_ingest", &format!("{prefix}/"));
            notes.push(format!(
                "s3.to_ingest is {prefix}/ as before: let the daemon stop first, and load or remove what it left there"
            ));
        }
    }
}

fn redshift(
    daemon: &Daemon,
    beside: &Path,
    toml: &mut Toml,
    secrets: &mut Vec<SecretFile>,
    notes: &mut Vec<String>,
) {
    toml.section("redshift");
    toml.text("host", &daemon.parameter("Redshift_host"));
    toml.number_if("port", &daemon.parameter("Redshift_port"));
    toml.text("database", &daemon.parameter("Redshift_dbname"));
    toml.text("user", &daemon.parameter("Redshift_user"));
    let password = Secret::new(daemon.parameter("Redshift_password"));
    toml.text("password_file", &beside.join("redshift_password").display().to_string());
    secrets.push(SecretFile {
        name: "redshift_password",
        value: password,
        origin: "`Redshift_password` of producer_parameters.json",
    });
    let table = daemon.parameter("Redshift_staging_table_name");
    toml.text_if("table", &table);
    // Where the user may make tables.
    if let Some((schema, _)) = table.split_once('.') {
        toml.text("ledger", &format!("{schema}.livestream_ledger"));
    }
    toml.text("iam_role", &daemon.parameter("IAM_Role"));
    notes.push(format!(
        "{PARAMETERS}: Redshift_columns has no counterpart: the columns are those of the schema (schema.file, or the \
         built-in one). Compare `ingester ddl` with the table"
    ));
    if !daemon.parameter("copy_command_approach").is_empty() {
        notes.push(format!(
            "{PARAMETERS}: copy_command_approach has no counterpart: a batch is always loaded as a whole"
        ));
    }
}
