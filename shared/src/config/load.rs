//! Reads the configuration file, the environment and the files of secrets.

use std::path::Path;

use crate::config::check;
use crate::config::choices::{Auth, Login, Secrets};
use crate::config::keys::Config;
use crate::config::keys::ENV_PREFIX;
use crate::config::problems::{ConfigError, Problems, unreadable};
use crate::config::resolve;
use crate::egress::Egress;
use crate::exit::{Exit, Failure};
use crate::secret::Secret;

impl Config {
    /// Reads, checks and completes the configuration in `path`. Only the secrets that the caller uses must be set.
    pub fn load(path: &Path, secrets: Secrets) -> Result<Self, Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|error| unreadable("configuration", path, &error))?;
        let mut config = Self::parse(&text, path, resolve::environment(), secrets)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        config.read_secret_files(secrets)?;
        if secrets != Secrets::Unused {
            config.s3.egress.read_authorities()?;
            config.adobe.egress = config.s3.egress.clone();
        }
        Ok(config)
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
}
