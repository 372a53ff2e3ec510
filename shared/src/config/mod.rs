//! The one configuration file of both services: TOML, checked as a whole before anything is opened.

mod amazon_host;
mod check;
mod copy_options;
pub mod docs;
mod gone;
pub mod keys;
mod load;
pub mod pause;
mod sections;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::{Host, Url};

use crate::egress::Egress;
use crate::exit::{Exit, Failure};
use crate::schema::table_options::TableOptions;
use crate::schema::{EVENTS, Schema};
use crate::secret::Secret;

pub use copy_options::{CopyOptions, CopyValue};
pub use load::{ConfigError, ENV_PREFIX};
pub use sections::{
    Acl, Adobe, Archive, Auth, Batch, Encryption, FilterRule, Ingester, InstanceSection, InvalidText, Log,
    LogFormat, Logging, Login, Metrics, Quarantine, Redshift, Reset, S3, SchemaSection, Secrets,
    ShutdownSection, Tls,
};

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
        if secrets != Secrets::Unused {
            config.s3.egress.read_authorities()?;
            config.adobe.egress = config.s3.egress.clone();
        }
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
        let env: Vec<_> = env.collect();
        let (ours, others) = env.into_iter().partition::<Vec<_>, _>(|(name, _)| name.starts_with(ENV_PREFIX));
        let (table, warnings) = load::resolve(text, origin, ours.into_iter())?;
        let mut problems = load::Problems::default();
        let egress = Egress::of(&others).unwrap_or_else(|(name, rule)| {
            // Whoever sends no request needs no way out.
            if secrets != Secrets::Unused {
                problems.add(name, rule);
            }
            Egress::default()
        });
        let checked = check::sections(table, secrets, &mut problems);
        problems.end(origin, ())?;
        let complete = |mut config: Self| {
            (config.warnings, config.adobe.egress) = (warnings, egress.clone());
            config.s3.egress = egress;
            config
        };
        checked
            .map(complete)
            .ok_or_else(|| ConfigError { origin: origin.to_owned(), problems: vec!["unusable".to_owned()] })
    }

    /// Says what its owner should know, once a service's logging has started.
    pub fn warn(&self) {
        for warning in self.warnings.iter().chain(self.s3.egress.warnings()) {
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
            (secrets.s3(), &self.s3.session_token_file, &mut self.s3.session_token),
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

impl S3 {
    /// Where its requests go, by the names an operator knows.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let china = if self.region.starts_with("cn-") { ".cn" } else { "" };
        let amazons = |service: &str| format!("https://{service}.{}.amazonaws.com{china}", self.region);
        let or = |given: &str, amazons: String| if given.is_empty() { amazons } else { given.to_owned() };
        let mut addresses = vec![("S3", self.of_bucket(or(&self.endpoint, amazons("s3"))))];
        if !self.role_arn.is_empty() {
            addresses.push(("STS", or(&self.sts_endpoint, amazons("sts"))));
        }
        addresses
    }

    /// The address as the SDK makes it of a store's: with the bucket in front of the host, where TLS allows it (a dot in
    /// the bucket's name is no part of a certificate's wildcard).
    fn of_bucket(&self, store: String) -> String {
        let bucket = &self.bucket;
        let in_front = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.path_style || !bucket.chars().all(in_front) {
            return store;
        }
        let Ok(mut url) = Url::parse(&store) else { return store };
        let Some(Host::Domain(host)) = url.host() else { return store };
        let host = format!("{bucket}.{host}");
        if url.set_host(Some(&host)).is_ok() { url.to_string() } else { store }
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

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::Config,
        _ => crate::exit::io_exit(error),
    };
    Failure::new(exit, anyhow::anyhow!("cannot read the {what} file {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_s3_is_that_of_the_bucket_where_the_sdk_puts_it_in_front() {
        let example = include_str!("../../../deploy/pipeline.example.toml");
        let address = |lines: &str| {
            let text = example.replace("bucket = \"example-livestream\"\n", lines);
            let config = Config::parse(&text, Path::new("p"), std::iter::empty(), Secrets::Ingester);
            config.unwrap().s3.addresses()[0].1.clone()
        };
        let (amazons, bucket) = ("s3.eu-central-1.amazonaws.com", "bucket = \"b-1\"\n");
        let with = |line: &str| address(&format!("{bucket}{line}\n"));
        assert_eq!(with(""), format!("https://b-1.{amazons}/"));
        assert_eq!(with("path_style = true"), format!("https://{amazons}"));
        assert_eq!(address("bucket = \"with.dots\"\n"), format!("https://{amazons}"));
        let store = "endpoint = \"https://store.example:9000\"";
        assert_eq!(with(store), "https://b-1.store.example:9000/");
        assert_eq!(with("endpoint = \"http://127.0.0.1:9000\""), "http://127.0.0.1:9000");
    }
}
