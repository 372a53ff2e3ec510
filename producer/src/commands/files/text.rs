//! The text of a configuration, key by key.

use std::fmt::{Display, Write};

use reqwest::Url;

#[derive(Debug)]
pub(crate) struct ConfigText(String);

impl ConfigText {
    /// Begins with a comment.
    pub(crate) fn new(comment: &str) -> Self {
        Self(format!("{comment}\n"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn section(&mut self, name: &str) {
        let _ = write!(self.0, "\n[{name}]\n");
    }

    /// A piece of TOML as it is.
    pub(crate) fn block(&mut self, toml: &str) {
        self.0.push_str(toml);
    }

    pub(crate) fn plain(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.plain(key, toml::Value::from(value));
    }

    pub(crate) fn set_if(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.set(key, value);
        }
    }

    /// A number, if there is one. Anything else is written as it is, and the check names the key.
    pub(crate) fn number(&mut self, key: &str, value: &str) {
        match value.parse::<i64>() {
            Ok(number) => self.plain(key, number),
            Err(_) => self.set_if(key, value),
        }
    }

    /// The stream's address, and its host among those that a redirect may lead to.
    pub(crate) fn stream_url(&mut self, address: &str) {
        self.set("stream_url", address);
        let host = Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned));
        if let Some(host) = host.filter(|host| !host.ends_with(".adobe.net")) {
            self.plain("redirect_hosts", format_args!("[\"*.adobe.net\", {}]", toml::Value::from(host)));
        }
    }
}
