//! Reads the configuration file, the environment and the files of secrets.

use std::io::ErrorKind;
use std::path::Path;

use toml::Table;

use crate::config::check;
use crate::config::choices::{Auth, Login, Secrets};
use crate::config::keys::{Alerts, Config, ENV_PREFIX};
use crate::config::problems::{ConfigError, Problems, unreadable, unusable};
use crate::config::protected;
use crate::config::resolve;
use crate::config::source::Source;
use crate::egress::Egress;
use crate::exit::{Exit, Failure, io_exit};
use crate::secret::Secret;

const PSEUDONYM_KEY: &str = "protect.pseudonym_key";

impl Config {
    /// Reads, checks and completes the configuration in `path`. Only the secrets that the caller uses must be set.
    pub fn load(path: &Path, secrets: Secrets) -> Result<Self, Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|error| unreadable("configuration", path, &error))?;
        let mut config = Self::parse(&text, path, resolve::environment(), secrets)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        config.read_files(secrets)?;
        if secrets != Secrets::Unused {
            config.s3.egress.read_authorities()?;
            config.adobe.egress = config.s3.egress.clone();
        }
        Ok(config)
    }

    /// Reads and checks the files that a parsed configuration names, but for that of the schema.
    pub(super) fn read_files(&mut self, secrets: Secrets) -> Result<(), Failure> {
        let path = self.source.path.clone();
        self.source.used = Some(secrets);
        self.read_secret_files(secrets, &path)?;
        self.check_secret_addresses(&path)
    }

    /// Checks and completes a configuration without touching any file.
    pub fn parse(
        text: &str,
        origin: &Path,
        env: impl Iterator<Item = (String, String)>,
        secrets: Secrets,
    ) -> Result<Self, ConfigError> {
        let env: Vec<_> = env.collect();
        let (ours, others) = env.into_iter().partition::<Vec<_>, _>(|(name, _)| name.starts_with(ENV_PREFIX));
        let (table, warnings) = resolve::resolve(text, origin, ours.into_iter())?;
        let mut problems = Problems::default();
        let egress = Egress::of(&others).unwrap_or_else(|(name, rule)| {
            // Whoever sends no request needs no way out.
            if secrets != Secrets::Unused {
                problems.add(name, rule);
            }
            Egress::default()
        });
        let mut config = Self::of_table(table, origin, secrets, problems)?;
        (config.warnings, config.adobe.egress) = (warnings, egress.clone());
        config.s3.egress = egress;
        Ok(config)
    }

    /// Checks a table of every key. `problems` are those met before.
    pub(super) fn of_table(
        table: Table,
        origin: &Path,
        secrets: Secrets,
        mut problems: Problems,
    ) -> Result<Self, ConfigError> {
        let checked = check::sections(table.clone(), secrets, &mut problems);
        problems.end(origin, ())?;
        let unusable = || ConfigError { origin: origin.to_owned(), problems: vec!["unusable".to_owned()] };
        let mut config = checked.ok_or_else(unusable)?;
        config.source = Source { path: origin.to_owned(), table, ..Source::default() };
        Ok(config)
    }

    /// Says what its owner should know, once a service's logging has started.
    pub fn warn(&self) {
        for warning in self.warnings.iter().chain(self.s3.egress.warnings()) {
            tracing::warn!("configuration: {warning}");
        }
    }

    /// Reads the files of the secrets that are used. `origin` is the configuration, for messages.
    fn read_secret_files(&mut self, secrets: Secrets, origin: &Path) -> Result<(), Failure> {
        let jwt = secrets.adobe() && self.adobe.auth == Auth::Jwt;
        let password = secrets.redshift() && self.redshift.auth == Login::Password;
        let in_files = &mut self.source.in_files;
        let (adobe, s3, redshift) = (&mut self.adobe, &mut self.s3, &mut self.redshift);
        let (metrics, alerts, protect) = (&mut self.metrics, &mut self.alerts, &mut self.protect);
        let producer = ("alerts.producer_heartbeat", &alerts.producer_heartbeat_file);
        let ingester = ("alerts.ingester_heartbeat", &alerts.ingester_heartbeat_file);
        let fixed = [
            (secrets.adobe(), ("adobe.client_secret", &adobe.client_secret_file), &mut adobe.client_secret),
            (jwt, ("adobe.jwt_key", &adobe.jwt_key_file), &mut adobe.jwt_key),
            (secrets.s3(), ("s3.secret_access_key", &s3.secret_access_key_file), &mut s3.secret_access_key),
            (secrets.s3(), ("s3.session_token", &s3.session_token_file), &mut s3.session_token),
            (password, ("redshift.password", &redshift.password_file), &mut redshift.password),
            (
                secrets.adobe() || secrets.redshift(),
                ("metrics.token", &metrics.token_file),
                &mut metrics.token,
            ),
            (secrets.pseudonyms(), (PSEUDONYM_KEY, &protect.pseudonym_key_file), &mut protect.pseudonym_key),
            (secrets.alerts(), producer, &mut alerts.producer_heartbeat),
            (secrets.alerts(), ingester, &mut alerts.ingester_heartbeat),
        ];
        let fixed = fixed.map(|(used, (key, file), secret)| (used, key.to_owned(), file, secret));
        let of_targets = self.alert_targets.iter_mut().flat_map(|target| {
            let key = |key: &str| format!("alert_target {:?}: {key}", target.name);
            let keys = (key("url"), key("routing_key"));
            [
                (secrets.alerts(), keys.0, &target.url_file, &mut target.url),
                (secrets.alerts(), keys.1, &target.routing_key_file, &mut target.routing_key),
            ]
        });
        for (used, key, file, secret) in fixed.into_iter().chain(of_targets) {
            if used && !file.as_os_str().is_empty() {
                let about = |exit, what: &str| {
                    let place = format!("configuration {}: {key}_file", origin.display());
                    Failure::new(exit, anyhow::anyhow!("{place}: the secret file {} {what}", file.display()))
                };
                let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => about(
                        Exit::Config,
                        "does not exist: write the secret into it, mode 0600, or name another file",
                    ),
                    ErrorKind::PermissionDenied => {
                        about(Exit::Permission, "may not be read: let the user of this program read it")
                    }
                    _ => about(io_exit(&error), &format!("cannot be read: {error}")),
                })?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    return Err(about(Exit::Config, "is empty: write the secret into it"));
                }
                *secret = Secret::new(text);
                in_files.push((key.clone(), secret.clone()));
                if key == "metrics.token" && !check::is_token(secret) {
                    return Err(about(Exit::Config, check::TOKEN_RULE));
                }
                if key == PSEUDONYM_KEY && !protected::is_key(secret) {
                    return Err(about(Exit::Config, protected::KEY_RULE));
                }
            }
        }
        Ok(())
    }

    /// Checks addresses that came from files. They are secrets, so no message shows them.
    fn check_secret_addresses(&self, origin: &Path) -> Result<(), Failure> {
        let Alerts { producer_heartbeat, ingester_heartbeat, .. } = &self.alerts;
        let heartbeats = [
            ("alerts.producer_heartbeat".to_owned(), producer_heartbeat),
            ("alerts.ingester_heartbeat".to_owned(), ingester_heartbeat),
        ];
        let targets = self.alert_targets.iter();
        let targets = targets.map(|target| (format!("alert_target {:?}: url", target.name), &target.url));
        for (key, address) in heartbeats.into_iter().chain(targets) {
            if let Some(rule) = unusable(address.reveal()).filter(|_| !address.is_empty()) {
                let text = format!("configuration {}: {key} {rule}", origin.display());
                return Err(Failure::new(Exit::Config, anyhow::anyhow!(text)));
            }
        }
        Ok(())
    }
}
