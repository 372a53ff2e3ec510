//! The files of the Python daemon as they are: two JSON objects and a private key.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::anyhow;
use serde_json::{Map, Value};
use shared::exit::{Exit, Failure, io_exit};
use shared::secret::Secret;

pub(super) const ADMIN: &str = "config_admin.json";
pub(super) const PARAMETERS: &str = "producer_parameters.json";
/// The key's usual name.
const KEY: &str = "pkey.key";

/// What the files say. A key is removed when it is read, so that the unknown ones are left.
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
    pub(super) fn admin(&mut self, key: &str) -> String {
        text(self.admin.remove(key))
    }

    pub(super) fn parameter(&mut self, key: &str) -> String {
        text(self.parameters.remove(key))
    }

    /// The keys that nobody has read, each with the name of its file.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&'static str, &String)> {
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
