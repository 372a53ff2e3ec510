//! The one configuration file of both services: TOML, checked as a whole before anything is opened.

mod amazon_host;
mod check;
mod copy_options;
pub mod docs;
mod gone;
pub mod keys;
mod load;
pub mod pause;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ddl::{Encodings, TableOptions};
use crate::exit::{Exit, Failure};
use crate::human::{Size, Span};
use crate::ids::Instance;
use crate::layout::Compression;
use crate::schema::{EVENTS, Schema};
use crate::secret::Secret;
use crate::sql::TableName;

pub use copy_options::CopyOptions;
pub use load::{ConfigError, ENV_PREFIX};

/// The whole configuration. Each field is a section; [`keys::KEYS`] says what each key means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "documented once, in keys.rs")]
pub struct Config {
    pub instance: InstanceSection,
    pub adobe: Adobe,
    pub schema: SchemaSection,
    #[serde(rename = "filter")]
    pub filters: Vec<FilterRule>,
    pub log: Log,
    pub batch: Batch,
    pub s3: S3,
    pub redshift: Redshift,
    pub ingester: Ingester,
    pub quarantine: Quarantine,
    pub metrics: Metrics,
    pub logging: Logging,
    pub shutdown: ShutdownSection,
    /// What its owner should know, a line each: keys that went.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "documented once, in keys.rs")]
        pub struct $name { $($(#[$attr])* pub $field: $kind,)* }
    };
}

section!(
    /// `[instance]`
    InstanceSection { name: Instance, }
);
section!(
    /// `[adobe]`
    Adobe {
        auth: Auth,
        token_url: String,
        client_id: String,
        client_secret: Secret,
        client_secret_file: PathBuf,
        scopes: Vec<String>,
        jwt_organization: String,
        jwt_technical_account: String,
        jwt_key: Secret,
        jwt_key_file: PathBuf,
        jwt_metascopes: Vec<String>,
        token_cache: PathBuf,
        stream_url: String,
        redirect_hosts: Vec<String>,
        max_connections: u8,
        connections: u8,
        smoothing: bool,
        smoothing_bucket_size: u16,
        reset: Reset,
        connect_timeout: Span,
        idle_timeout: Span,
        retry_max: Span,
        max_record_bytes: Size,
        invalid_text: InvalidText,
    }
);
section!(
    /// `[schema]`
    SchemaSection { file: PathBuf, events: String, }
);
section!(
    /// One `[[filter]]`
    FilterRule {
        name: String,
        field: String,
        exists: Option<bool>,
        equals: Vec<String>,
        not_equals: Vec<String>,
        contains: Vec<String>,
        starts_with: Vec<String>,
        ends_with: Vec<String>,
        matches: Vec<String>,
        greater: Option<f64>,
        less: Option<f64>,
    }
);
section!(
    /// `[log]`
    Log {
        dir: PathBuf,
        commit_rows: u32,
        commit_interval: Span,
        max_bytes: Size,
        keep_uploaded: Size,
        cache: Size,
        dedup_window: Span,
        dedup_hits: usize,
        gap_tolerance: Span,
    }
);
section!(
    /// `[batch]`
    Batch {
        records_per_file: u32,
        max_file_bytes: Size,
        max_file_age: Span,
        files_per_batch: u32,
        max_batch_age: Span,
        compression: Compression,
    }
);
section!(
    /// `[s3]`
    S3 {
        bucket: String,
        region: String,
        endpoint: String,
        path_style: bool,
        access_key_id: String,
        secret_access_key: Secret,
        secret_access_key_file: PathBuf,
        to_ingest: String,
        ingested: String,
        loads: String,
        rejected: String,
        quarantine: String,
        uploads: usize,
        timeout: Span,
    }
);
section!(
    /// `[redshift]`
    Redshift {
        host: String,
        port: u16,
        database: String,
        auth: Login,
        user: String,
        password: Secret,
        password_file: PathBuf,
        cluster: String,
        workgroup: String,
        region: String,
        api_endpoint: String,
        tls: Tls,
        ca_file: PathBuf,
        #[serde(deserialize_with = "table_name")]
        table: TableName,
        #[serde(deserialize_with = "table_name")]
        ledger: TableName,
        iam_role: String,
        copy_options: CopyOptions,
        sortkey: Vec<String>,
        distkey: String,
        encodings: Encodings,
        connect_timeout: Span,
        lock_timeout: Span,
        statement_timeout: Span,
    }
);
section!(
    /// `[ingester]`
    Ingester {
        dir: PathBuf,
        feed: PathBuf,
        list_interval: Span,
        list_all_interval: Span,
        batches_per_copy: usize,
        rows_per_copy: u64,
        bytes_per_copy: Size,
        alert_after: u32,
        retry_first: Span,
        retry_max: Span,
        pause: pause::Windows,
        archive: Archive,
        reconcile_interval: Span,
    }
);
section!(
    /// `[quarantine]`
    Quarantine { max_share: f64, }
);
section!(
    /// `[metrics]`
    Metrics { producer_listen: String, ingester_listen: String, }
);
section!(
    /// `[logging]`
    Logging { level: String, format: LogFormat, dir: PathBuf, keep_days: usize, }
);
section!(
    /// `[shutdown]`
    ShutdownSection { timeout: Span, }
);

/// Which secrets a program uses: those it does not use need not be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Adobe's and S3's: the producer knows nothing of Redshift.
    Producer,
    /// Redshift's and S3's.
    Ingester,
    /// S3's.
    Store,
    /// None.
    Unused,
}

impl Secrets {
    fn adobe(self) -> bool {
        self == Self::Producer
    }

    fn s3(self) -> bool {
        self != Self::Unused
    }

    fn redshift(self) -> bool {
        self == Self::Ingester
    }
}

/// Kind of the credential at Adobe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// OAuth server-to-server.
    Oauth,
    /// Service account: a signed JWT is exchanged for a token.
    Jwt,
}

impl Auth {
    /// Where Adobe gives out tokens for credentials of this kind.
    #[must_use]
    pub fn token_url(self) -> &'static str {
        match self {
            Self::Oauth => "https://ims-na1.adobelogin.com/ims/token/v3",
            Self::Jwt => "https://ims-na1.adobelogin.com/ims/exchange/jwt",
        }
    }
}

/// Where reading starts after a disconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// The oldest data Adobe still holds.
    Smallest,
    /// The newest.
    Largest,
    /// As Adobe decides: from the point of disconnection if that was some minutes ago at most.
    None,
}

/// What becomes of a record with bytes that are no UTF-8, or with raw control characters in its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidText {
    /// U+FFFD takes the place of the bytes; control characters are taken as they are.
    Replace,
    /// It is a reject.
    Reject,
}

/// How the ingester logs in to Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// As `redshift.user`, with its password.
    Password,
    /// As `redshift.user`, with a temporary password for a cluster.
    Iam,
    /// As the user of the caller's IAM identity, with a temporary password for a cluster.
    IamIdentity,
    /// As the user of the caller's IAM identity, with a temporary password for a workgroup.
    Serverless,
}

impl Login {
    /// The action of AWS that gives out the password, if it is one of AWS's.
    #[must_use]
    pub fn action(self) -> Option<&'static str> {
        match self {
            Self::Password => None,
            Self::Iam => Some("GetClusterCredentials"),
            Self::IamIdentity => Some("GetClusterCredentialsWithIAM"),
            Self::Serverless => Some("GetCredentials"),
        }
    }

    /// Whether the user is named by `redshift.user`.
    #[must_use]
    pub fn needs_user(self) -> bool {
        matches!(self, Self::Password | Self::Iam)
    }
}

/// How the connection to Redshift is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Chain and host name are checked.
    VerifyFull,
    /// No TLS; towards loopback only.
    Disable,
}

/// What happens to the folder of a loaded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// Moved below `s3.ingested`.
    Move,
    /// Left where it is.
    Keep,
    /// Deleted.
    Delete,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads, checks and completes the configuration in `path`, with overrides from this process's environment. Of the
    /// secrets only those the caller uses must be given, and only their files are read.
    ///
    /// # Errors
    /// Exit 78 with every complaint, each naming its key; 77 or 74 when a file cannot be read.
    pub fn load(path: &Path, secrets: Secrets) -> Result<Self, Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|error| unreadable("configuration", path, &error))?;
        let mut config = Self::parse(&text, path, load::environment(), secrets)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        config.read_secret_files(secrets)?;
        Ok(config)
    }

    /// Checks and completes a configuration without touching any file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        text: &str,
        origin: &Path,
        env: impl Iterator<Item = (String, String)>,
        secrets: Secrets,
    ) -> Result<Self, ConfigError> {
        let (table, warnings) = load::resolve(text, origin, env)?;
        let mut problems = load::Problems::default();
        let checked = check::sections(table, secrets, &mut problems);
        problems.end(origin, ())?;
        checked
            .map(|config| Self { warnings, ..config })
            .ok_or_else(|| ConfigError { origin: origin.to_owned(), problems: vec!["unusable".to_owned()] })
    }

    /// Says what its owner should know, once a service's logging has started.
    pub fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("configuration: {warning}");
        }
    }

    fn read_secret_files(&mut self, secrets: Secrets) -> Result<(), Failure> {
        let jwt = secrets.adobe() && self.adobe.auth == Auth::Jwt;
        let password = secrets.redshift() && self.redshift.auth == Login::Password;
        let files = [
            (secrets.adobe(), &self.adobe.client_secret_file, &mut self.adobe.client_secret),
            (jwt, &self.adobe.jwt_key_file, &mut self.adobe.jwt_key),
            (secrets.s3(), &self.s3.secret_access_key_file, &mut self.s3.secret_access_key),
            (password, &self.redshift.password_file, &mut self.redshift.password),
        ];
        for (used, file, secret) in files {
            if used && !file.as_os_str().is_empty() {
                let text = std::fs::read_to_string(file).map_err(|e| unreadable("secret", file, &e))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    let error = anyhow::anyhow!("the secret file {} is empty", file.display());
                    return Err(Failure::new(Exit::Config, error));
                }
                *secret = Secret::new(text);
            }
        }
        Ok(())
    }

    /// Where the producer keeps its token across restarts.
    #[must_use]
    pub fn token_cache(&self) -> PathBuf {
        if self.adobe.token_cache.as_os_str().is_empty() {
            self.log.dir.join("token.json")
        } else {
            self.adobe.token_cache.clone()
        }
    }

    /// Where the producer answers questions about its log.
    #[must_use]
    pub fn producer_socket(&self) -> PathBuf {
        if self.ingester.feed.as_os_str().is_empty() {
            self.log.dir.join("feed.sock")
        } else {
            self.ingester.feed.clone()
        }
    }

    /// Where the ingester answers questions about its bookkeeping.
    #[must_use]
    pub fn ingester_socket(&self) -> PathBuf {
        self.ingester.dir.join("feed.sock")
    }
}

impl Redshift {
    /// How the table is to be laid out.
    #[must_use]
    pub fn table_options(&self) -> TableOptions {
        let distkey = Some(self.distkey.clone()).filter(|column| !column.is_empty());
        TableOptions { sortkey: self.sortkey.clone(), distkey, encodings: self.encodings }
    }

    /// As [`Redshift::table_options`], if a table of this schema can have them.
    ///
    /// # Errors
    /// Exit 78, naming the key and the column.
    pub fn checked_options(&self, schema: &Schema) -> Result<TableOptions, Failure> {
        let options = self.table_options();
        let checked = options.validate(schema);
        checked.map_err(|error| Failure::new(Exit::Config, anyhow::anyhow!("redshift.{error}")))?;
        Ok(options)
    }
}

impl SchemaSection {
    /// The events that are columns of the built-in schema, from `"1..1000"`; None if it is no such range.
    #[must_use]
    pub fn event_range(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self.events.split_once("..")?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1 <= first && first <= last && last <= 1000).then_some(first..=last)
    }

    /// The columns of the table: those of `schema.file`, or the built-in ones, or both.
    ///
    /// # Errors
    /// When the file cannot be read, or breaks a rule of [`Schema`].
    pub fn load(&self) -> Result<Schema, Failure> {
        let built_in = Schema::built_in(self.event_range().unwrap_or(EVENTS));
        if self.file.as_os_str().is_empty() {
            return Ok(built_in);
        }
        let text =
            std::fs::read_to_string(&self.file).map_err(|error| unreadable("schema", &self.file, &error))?;
        Schema::from_toml_on(&built_in, &text, &self.file.display().to_string())
            .map_err(|error| Failure::new(Exit::Config, error))
    }
}

fn table_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TableName, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::Config,
        _ => crate::exit::io_exit(error),
    };
    Failure::new(exit, anyhow::anyhow!("cannot read the {what} file {}: {error}", path.display()))
}
