//! The daemon's keys, one by one, as keys of ours.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::anyhow;
use serde_json::{Map, Value};
use shared::config::Auth;
use shared::exit::{Exit, Failure, io_exit};
use shared::ids::Instance;
use shared::secret::Secret;

use crate::commands::files::ConfigText;

/// A secret on its way from the daemon's files to a file of its own.
pub(super) struct SecretFile {
    pub(super) name: &'static str,
    pub(super) value: Secret,
    /// Where it stands in the daemon's files.
    pub(super) origin: &'static str,
}

pub(super) struct Imported {
    pub(super) text: ConfigText,
    pub(super) secrets: Vec<SecretFile>,
    /// What has no counterpart, and what is not as before.
    pub(super) notes: Vec<String>,
}

/// Maps every key; the secrets are to lie in the folder `beside`.
pub(super) fn pipeline(mut daemon: Daemon, instance: &Instance, beside: &Path) -> Imported {
    let mut imported = Imported {
        text: ConfigText::new("# Imported from the Python daemon by `producer import-config`."),
        secrets: Vec::new(),
        notes: Vec::new(),
    };
    imported.text.section("instance");
    imported.text.set("name", &instance.to_string());
    imported.token(&mut daemon, beside);
    imported.stream(&mut daemon);
    imported.text.section("batch");
    imported.text.number("records_per_file", &daemon.parameter("BATCH_RECORDS"));
    imported.text.number("files_per_batch", &daemon.parameter("BATCH_FILES"));
    imported.s3(&mut daemon);
    imported.redshift(&mut daemon, beside);
    for (file, key) in daemon.unknown() {
        imported.note(format!("{file}: {key} is no key of the daemon's and was left out"));
    }
    imported
}

impl Imported {
    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A secret, which goes to a file `name` in the folder `beside`.
    fn secret(&mut self, key: &str, value: Secret, beside: &Path, name: &'static str, origin: &'static str) {
        self.secrets.push(SecretFile { name, value, origin });
        self.text.set(key, &beside.join(name).display().to_string());
    }

    fn token(&mut self, daemon: &mut Daemon, beside: &Path) {
        self.text.section("adobe");
        let token_url = daemon.admin("tokenEndpoint").trim_end_matches('/').to_owned();
        // The daemon knows service accounts only, but its token endpoint may have been changed since.
        let auth = if token_url.contains("/ims/token/") { Auth::Oauth } else { Auth::Jwt };
        if token_url.is_empty() {
            self.note(format!("{ADMIN}: tokenEndpoint is not set; Adobe's is taken"));
        } else if token_url != auth.token_url() {
            self.text.set("token_url", &token_url);
        }
        self.text.set("client_id", &daemon.admin("api_key"));
        let secret = Secret::new(daemon.admin("secret"));
        let origin = "`secret` of config_admin.json";
        self.secret("client_secret_file", secret, beside, "client_secret", origin);
        let (organization, account) = (daemon.admin("org_id"), daemon.admin("tech_id"));
        if auth == Auth::Oauth {
            return self.note(format!(
                "{ADMIN}: org_id, tech_id and pathToKey are of no use with OAuth server-to-server and were left out"
            ));
        }
        self.text.set("auth", "jwt");
        self.text.set("jwt_organization", &organization);
        self.text.set("jwt_technical_account", &account);
        let (key, name) = ("jwt_key_file", "technical_account.pem");
        match daemon.key.take() {
            Some(pem) => self.secret(key, pem, beside, name, "the private key of `pathToKey`"),
            None => {
                let path = beside.join(name).display().to_string();
                self.text.set(key, &path);
                self.note(format!("{ADMIN}: the key of pathToKey is not there: put it into {path}"));
            }
        }
        self.note(
            "Adobe ended service accounts (JWT): migrate the credential to OAuth Server-to-Server in the Adobe Developer \
             Console, then remove adobe.auth and the adobe.jwt_ keys; client id and secret stay",
        );
    }

    fn stream(&mut self, daemon: &mut Daemon) {
        let stream_url = daemon.admin("livestreamEndpoint") + &daemon.admin("AdobeStreamEndpoint");
        self.text.stream_url(&stream_url);
        self.text.number("max_connections", &daemon.parameter("maxConnections"));
        let reset = daemon.parameter("reset");
        self.text.set_if("reset", &reset);
        if reset == "largest" {
            self.note(
                "adobe.reset is \"largest\" as the daemon's was: what Adobe held during a disconnect is lost. With \
                 \"smallest\", the default, it is read again and what is known is dropped",
            );
        }
        let bucket_size = daemon.parameter("smoothingBucketSize");
        if matches!(daemon.parameter("smoothing").to_lowercase().as_str(), "1" | "true") {
            self.text.plain("smoothing", true);
            self.text.number("smoothing_bucket_size", &bucket_size);
        }
    }

    fn s3(&mut self, daemon: &mut Daemon) {
        self.text.section("s3");
        self.text.set("bucket", &daemon.parameter("S3_bucket_name"));
        self.text.set("region", &daemon.parameter("S3_region_name"));
        match daemon.parameter("S3_base_path").trim_matches('/') {
            "" => self.note(format!("{PARAMETERS}: S3_base_path is the bucket itself; ToIngest/ is taken")),
            prefix => {
                self.text.set("to_ingest", &format!("{prefix}/"));
                self.note(format!(
                    "s3.to_ingest is {prefix}/ as before: let the daemon stop first, and load or remove what it left there"
                ));
            }
        }
    }

    fn redshift(&mut self, daemon: &mut Daemon, beside: &Path) {
        self.text.section("redshift");
        self.text.set("host", &daemon.parameter("Redshift_host"));
        self.text.number("port", &daemon.parameter("Redshift_port"));
        self.text.set("database", &daemon.parameter("Redshift_dbname"));
        self.text.set("user", &daemon.parameter("Redshift_user"));
        let password = Secret::new(daemon.parameter("Redshift_password"));
        let origin = "`Redshift_password` of producer_parameters.json";
        self.secret("password_file", password, beside, "redshift_password", origin);
        let table = daemon.parameter("Redshift_staging_table_name");
        self.text.set_if("table", &table);
        // Where the user may make tables.
        if let Some((schema, _)) = table.split_once('.') {
            self.text.set("ledger", &format!("{schema}.livestream_ledger"));
        }
        self.text.set("iam_role", &daemon.parameter("IAM_Role"));
        daemon.parameter("Redshift_columns");
        self.note(format!(
            "{PARAMETERS}: Redshift_columns has no counterpart: the columns are those of the schema (schema.file, or the \
             built-in one). Compare `ingester ddl` with the table"
        ));
        if !daemon.parameter("copy_command_approach").is_empty() {
            self.note(format!(
                "{PARAMETERS}: copy_command_approach has no counterpart: a batch is always loaded as a whole"
            ));
        }
    }
}

/// Which key of the daemon becomes which of ours.
const ORIGINS: [(&str, &str, &str); 23] = [
    ("adobe.token_url", ADMIN, "tokenEndpoint"),
    ("adobe.client_id", ADMIN, "api_key"),
    ("adobe.client_secret", ADMIN, "secret"),
    ("adobe.jwt_organization", ADMIN, "org_id"),
    ("adobe.jwt_technical_account", ADMIN, "tech_id"),
    ("adobe.jwt_key", ADMIN, "pathToKey"),
    ("adobe.stream_url", ADMIN, "livestreamEndpoint and AdobeStreamEndpoint"),
    ("adobe.redirect_hosts", ADMIN, "livestreamEndpoint"),
    ("adobe.max_connections", PARAMETERS, "maxConnections"),
    ("adobe.connections", PARAMETERS, "maxConnections"),
    ("adobe.reset", PARAMETERS, "reset"),
    ("adobe.smoothing_bucket_size", PARAMETERS, "smoothingBucketSize"),
    ("batch.records_per_file", PARAMETERS, "BATCH_RECORDS"),
    ("batch.files_per_batch", PARAMETERS, "BATCH_FILES"),
    ("s3.bucket", PARAMETERS, "S3_bucket_name"),
    ("s3.region", PARAMETERS, "S3_region_name"),
    ("s3.to_ingest", PARAMETERS, "S3_base_path"),
    ("redshift.host", PARAMETERS, "Redshift_host"),
    ("redshift.port", PARAMETERS, "Redshift_port"),
    ("redshift.database", PARAMETERS, "Redshift_dbname"),
    ("redshift.user", PARAMETERS, "Redshift_user"),
    ("redshift.table", PARAMETERS, "Redshift_staging_table_name"),
    ("redshift.iam_role", PARAMETERS, "IAM_Role"),
];

/// A complaint about the imported configuration, by the daemon's file and key.
pub(super) fn in_words_of_the_daemon(problem: &str) -> String {
    let Some((key, rule)) = problem.split_once(": ") else { return problem.to_owned() };
    match ORIGINS.iter().find(|(ours, ..)| *ours == key) {
        Some((_, file, theirs)) => format!("{file}: {theirs}: {rule} ({key})"),
        None => problem.to_owned(),
    }
}

const ADMIN: &str = "config_admin.json";
const PARAMETERS: &str = "producer_parameters.json";
const KEY: &str = "pkey.key";

/// Two JSON objects and a private key. A key is removed when it is read, so that the unknown ones are left.
pub(super) struct Daemon {
    admin: Map<String, Value>,
    parameters: Map<String, Value>,
    key: Option<Secret>,
}

impl Daemon {
    /// Reads the files in `dir`, or in `dir/data`, as they lie in the daemon's own folder.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let data = if dir.join(ADMIN).exists() { dir.to_path_buf() } else { dir.join("data") };
        let mut admin = object(&data.join(ADMIN))?;
        let parameters = object(&data.join(PARAMETERS))?;
        // The path in the file begins at the daemon's own folder, the parent of `data`.
        let named = admin.remove("pathToKey");
        let named = named.as_ref().and_then(Value::as_str).unwrap_or_default().trim_start_matches('/');
        let file = Path::new(named).file_name().unwrap_or(KEY.as_ref());
        let places =
            [data.parent().unwrap_or(&data).join(named), data.join(named), data.join(file), data.join(KEY)];
        let place = places.iter().find(|place| place.is_file());
        let key = place.map(|place| read(place).map(Secret::new)).transpose()?;
        Ok(Self { admin, parameters, key })
    }

    /// A value of `config_admin.json` as text; empty if it is not set.
    fn admin(&mut self, key: &str) -> String {
        text(self.admin.remove(key))
    }

    fn parameter(&mut self, key: &str) -> String {
        text(self.parameters.remove(key))
    }

    /// The keys that nobody has read, each with the name of its file.
    fn unknown(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let of = |file, map| Map::keys(map).map(move |key| (file, key));
        of(ADMIN, &self.admin).chain(of(PARAMETERS, &self.parameters))
    }
}

/// The daemon writes numbers as numbers or as text.
fn text(value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => other.to_string(),
    }
}

fn object(path: &Path) -> Result<Map<String, Value>, Failure> {
    // Not the parser's whole error: it may show a secret.
    serde_json::from_str(&read(path)?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let error = anyhow!("{}: not a JSON object (line {line}, column {column})", path.display());
        Failure::new(Exit::Data, error)
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NoInput } else { io_exit(&error) };
        let advice = "name the folder that holds config_admin.json and producer_parameters.json";
        Failure::new(exit, anyhow!("{}: {error}; {advice}", path.display()))
    })
}
