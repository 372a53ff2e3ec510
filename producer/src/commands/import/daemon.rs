//! The files of the Python daemon as they are: two JSON objects and a private key.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};
use shared::exit::{Exit, Failure, io_exit};
use shared::secret::Secret;

/// Credential and addresses.
pub(super) const ADMIN: &str = "config_admin.json";
/// Everything else.
pub(super) const PARAMETERS: &str = "producer_parameters.json";
/// The key's usual name.
const KEY: &str = "pkey.key";

/// What the files say. Keys are taken out as they are understood, so that the rest can be told.
pub(super) struct Daemon {
    admin: Map<String, Value>,
    parameters: Map<String, Value>,
    /// The private key as PEM, if there is one.
    pub(super) key: Option<Secret>,
}

impl Daemon {
    /// Reads the files in `dir`, or in `dir/data`, as they lie in the daemon's own folder.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let data = if dir.join(ADMIN).exists() { dir.to_path_buf() } else { dir.join("data") };
        let admin = object(&data.join(ADMIN))?;
        let parameters = object(&data.join(PARAMETERS))?;
        // The path in the file begins at the daemon's own folder, the parent of `data`.
        let named =
            admin.get("pathToKey").and_then(Value::as_str).unwrap_or_default().trim_start_matches('/');
        let file = Path::new(named).file_name().unwrap_or(KEY.as_ref());
        let places =
            [data.parent().unwrap_or(&data).join(named), data.join(named), data.join(file), data.join(KEY)];
        let key = match places.iter().find(|place| place.is_file()) {
            Some(place) => Some(Secret::new(read(place)?)),
            None => None,
        };
        Ok(Self { admin, parameters, key })
    }

    /// A value of `config_admin.json` as text.
    pub(super) fn admin(&self, key: &str) -> String {
        text(self.admin.get(key))
    }

    /// A value of `producer_parameters.json` as text.
    pub(super) fn parameter(&self, key: &str) -> String {
        text(self.parameters.get(key))
    }

    /// Keys that are in neither list, each with the name of its file.
    pub(super) fn unknown<'d>(
        &'d self,
        admin: &'d [&str],
        parameters: &'d [&str],
    ) -> impl Iterator<Item = (&'static str, &'d str)> {
        let of = |file, map: &'d Map<String, Value>, known: &'d [&str]| {
            map.keys().filter(|key| !known.contains(&key.as_str())).map(move |key| (file, key.as_str()))
        };
        of(ADMIN, &self.admin, admin).chain(of(PARAMETERS, &self.parameters, parameters))
    }
}

/// Numbers stand there as numbers or as text.
fn text(value: Option<&Value>) -> String {
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
        let error = anyhow::anyhow!("{}: not a JSON object (line {line}, column {column})", path.display());
        Failure::new(Exit::Data, error)
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NoInput } else { io_exit(&error) };
        let advice = "name the folder that holds config_admin.json and producer_parameters.json";
        Failure::new(exit, anyhow::anyhow!("{}: {error}; {advice}", path.display()))
    })
}
