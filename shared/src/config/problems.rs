//! What is wrong with a configuration: one complaint a key, all of them in one run.

use std::fmt;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use crate::config::keys::ENV_PREFIX;
use crate::exit::{Exit, Failure};

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the configuration came from.
    pub origin: PathBuf,
    /// One complaint a line, each beginning with its key.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {}", self.origin.display())?;
        match &self.problems[..] {
            [one] => write!(f, ": {one}"),
            many => many.iter().try_for_each(|problem| write!(f, "\n  {problem}")),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Gathers complaints, so that one run shows all of them.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, key: &str, rule: impl fmt::Display) {
        self.0.push(format!("{key}: {rule}"));
    }

    pub(super) fn name(&self, key: &str) -> bool {
        self.0.iter().any(|problem| problem.starts_with(&format!("{key}: ")))
    }

    /// A secret is set in one place, and a program that uses it has it.
    pub(super) fn one_source(&mut self, key: &str, given: bool, file: &Path, needed: bool) {
        let in_file = !file.as_os_str().is_empty();
        if given && in_file {
            self.add(key, format_args!("is set twice: here and in {key}_file; remove one"));
        } else if needed && !given && !in_file {
            let variable = format!("{}{}", ENV_PREFIX, key.to_uppercase().replace('.', "__"));
            self.add(key, format_args!("is missing: set it, {key}_file or the variable {variable}"));
        }
    }

    /// As [`unusable`] says, with the address if it is none.
    pub(super) fn check_url(&mut self, key: &str, address: &str) {
        match (Url::parse(address), unusable(address)) {
            (Err(error), _) => self.add(key, format_args!("{address:?} is not an address: {error}")),
            (Ok(_), Some(rule)) => self.add(key, rule),
            (Ok(_), None) => {}
        }
    }

    pub(super) fn end<T>(self, origin: &Path, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ConfigError { origin: origin.to_owned(), problems: self.0 })
        }
    }
}

/// Why an address is not to be used, without it: it may be a secret. Addresses must be https; plain http is for stand-ins
/// on this machine's loopback.
pub(super) fn unusable(address: &str) -> Option<&'static str> {
    match Url::parse(address) {
        Ok(url) if url.scheme() == "https" && url.has_host() => None,
        Ok(url) if url.scheme() == "http" && is_loopback(&url) => None,
        Ok(url) if url.scheme() == "http" => {
            Some("must be https; http is accepted only towards this machine's loopback")
        }
        Ok(_) => Some("must be an https address"),
        Err(_) => Some("is not an address: write it whole, https:// included"),
    }
}

pub(super) fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::Config,
        _ => crate::exit::io_exit(error),
    };
    Failure::new(exit, anyhow::anyhow!("cannot read the {what} file {}: {error}", path.display()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_loopback_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What is wrong with the ARN of a role, where `allowed` is.
pub(super) fn role_fault(arn: &str, allowed: &str) -> Option<String> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let [_, _, "iam", "", account, name] = parts[..] else { return Some(format!("must be {allowed}")) };
    if !arn.starts_with("arn:aws") || name.strip_prefix("role/").is_none_or(str::is_empty) {
        return Some(format!("must be {allowed}"));
    }
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (!is_account).then(|| format!("the account id in an ARN has 12 digits, not {account:?}"))
}
