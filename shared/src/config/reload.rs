//! The configuration read again while a service runs. Everything is checked as at a start. What may change while it runs is
//! taken as a whole; what cannot keeps the value of the start, and is named. No value is told: some are secrets.

use std::collections::BTreeSet;

use crate::config::choices::Secrets;
use crate::config::keys::{Config, KEYS, Key, LISTS};
use crate::config::problems::Problems;
use crate::exit::{Exit, Failure};
use crate::schema::Schema;

/// A configuration that was read again, and what is other in it.
#[derive(Debug)]
pub struct Reloaded {
    /// What the service runs with from now on: new values of the keys that it takes, those of the start of all others.
    pub config: Config,
    /// The schema of now.
    pub schema: Schema,
    /// The keys whose new values are taken. A list such as `[[filter]]` is one key.
    pub taken: Vec<String>,
    /// The keys whose values in the file wait for a restart.
    pub waiting: Vec<String>,
}

impl Reloaded {
    /// Whether a key that is taken is in this section.
    pub fn takes(&self, section: &str) -> bool {
        self.taken.iter().any(|key| key.split('.').next() == Some(section))
    }
}

impl Config {
    /// Reads again what this configuration was read from. `schema` is the one that the service has. On failure the caller goes
    /// on with what it has.
    pub fn reload(&self, schema: &Schema) -> Result<Reloaded, Failure> {
        let used = self.source.used.unwrap_or(Secrets::Unused);
        let new = Self::load(&self.source.path, used)?;
        let waiting = self.changed(&new, used, false);
        let config = self.merged(new, used, &waiting)?;
        // By what is taken: a file of a secret may be another one since it was first read.
        let mut taken = self.changed(&config, used, true);
        let new_schema = config.schema.load()?;
        if new_schema != *schema && !taken.iter().any(|key| key.starts_with("schema.")) {
            taken.insert("schema.file".to_owned());
        }
        let [taken, waiting] = [taken, waiting].map(|keys| keys.into_iter().collect());
        Ok(Reloaded { config, schema: new_schema, taken, waiting })
    }

    /// The keys whose value is another in `new`: those that a running service takes, or the others.
    fn changed(&self, new: &Self, used: Secrets, reloads: bool) -> BTreeSet<String> {
        let (old, new) = (&self.source, &new.source);
        let of_keys = KEYS.iter().filter(|key| key.reloads == reloads && concerns(key.path, used));
        let of_keys = of_keys.filter(|key| match list_of(key) {
            Some(list) => old.table.get(list) != new.table.get(list),
            None => old.value(key.path) != new.value(key.path),
        });
        let names = of_keys.map(|key| list_of(key).unwrap_or(key.path).to_owned());
        let of_files = old.in_files.iter().chain(&new.in_files).map(|(key, _)| key);
        let of_files = of_files.filter(|key| reloads && concerns(key, used));
        let of_files = of_files.filter(|key| old.in_file(key) != new.in_file(key));
        // A secret of a target is named by the target, in quotation marks.
        let files = of_files.map(|key| match key.split_once(' ') {
            Some((list, _)) => list.to_owned(),
            None => format!("{key}_file"),
        });
        names.chain(files).collect()
    }

    /// The values of `new` where this running service takes them, and otherwise those of now: keys of the other service keep
    /// the values of the start, which fit each other. Heartbeats are read by both.
    fn merged(&self, new: Self, used: Secrets, waiting: &BTreeSet<String>) -> Result<Self, Failure> {
        let mut table = self.source.table.clone();
        let is_taken =
            |key: &&Key| key.reloads && (concerns(key.path, used) || key.path.starts_with("alerts."));
        for key in KEYS.iter().filter(is_taken) {
            let (section, name) = key.path.split_once('.').unwrap_or_default();
            if let Some(list) = list_of(key) {
                table.extend(new.source.table.get(list).map(|value| (list.to_owned(), value.clone())));
            } else if let Some(keys) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
                match new.source.value(key.path) {
                    Some(value) => drop(keys.insert(name.to_owned(), value.clone())),
                    None => drop(keys.remove(name)),
                }
            }
        }
        if table == new.source.table {
            // The way out is that of the environment, which does not change.
            return Ok(self.with_way_out(new));
        }
        let unfit = |failure: Failure| {
            let keys = waiting.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = "what may change while the service runs does not fit what may not: restart it to take";
            Failure::new(failure.exit(), anyhow::anyhow!("{what} {keys}: {failure}"))
        };
        let merged = Self::of_table(table, &self.source.path, used, Problems::default());
        let mut merged = merged.map_err(|error| unfit(Failure::new(Exit::Config, error)))?;
        merged.warnings = new.warnings;
        merged.read_files(used).map_err(unfit)?;
        Ok(self.with_way_out(merged))
    }

    fn with_way_out(&self, mut config: Self) -> Self {
        config.s3.egress = self.s3.egress.clone();
        config.adobe.egress = self.adobe.egress.clone();
        config
    }
}

/// The list of tables that a key belongs to.
fn list_of(key: &Key) -> Option<&'static str> {
    let section = key.path.split('.').next();
    LISTS.into_iter().find(|list| Some(*list) == section)
}

/// Whether the service that uses these secrets uses this key.
fn concerns(path: &str, used: Secrets) -> bool {
    let other = match used {
        Secrets::Producer => {
            ["redshift", "ingester", "quarantine", "metrics.ingester_listen", "alerts.ingester"]
        }
        Secrets::Ingester => ["adobe", "filter", "protect", "rejects", "batch"],
        _ => return true,
    };
    // The ingester follows the producer on its socket, and each page shows the other service too.
    let of_both = ["log.dir", "ingester.dir", "ingester.feed", "ingester.alert_after"];
    let of_log = used == Secrets::Ingester && path.starts_with("log.");
    let of_other = other.iter().any(|other| path.starts_with(other));
    let listens = used == Secrets::Ingester
        && (path == "metrics.producer_listen" || path.starts_with("alerts.producer"));
    of_both.contains(&path) || !(of_other || of_log || listens)
}
