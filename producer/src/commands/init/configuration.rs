//! The configuration and the schema file, from answers and places.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use toml::{Table, Value};

use crate::commands::files::ConfigText;
use crate::commands::init::questions::{Answers, Flags};

/// The file of the one pipeline that the plain units run; any other is an instance of the template units.
pub(super) const ONE_PIPELINE: &str = "pipeline";
/// Ports of the figures of producer and ingester, unless another configuration beside this one has them.
const PORTS: (u16, u16) = (9464, 9465);
/// Longest name of an instance.
const MAX_NAME: usize = 64;

/// The filter of deploy/pipeline.example.toml, and what else a new configuration has besides answers.
const FILTER: &str = r#"
# Drops hits that Adobe leaves out of reports. Remove this to load them.
[[filter]]
name = "excluded"
field = "exclude.value"
equals = ["yes"]
"#;

pub(super) const SCHEMA: &str = r#"# Adds to the built-in columns, or takes some out (docs/SCHEMA.md). `producer schema` prints the result; `producer schema
# --explain FILE` shows what becomes of a record. Run `ingester ddl` after a change.
mode = "extend"

# drop = ["event501..event1000"]

# [[column]]
# name = "evar1..evar50"
# paths = ["evars.evars.eVar{n}", "evars.evars.evar{n}"]
# kind = "text"
# type = "varchar(100)"
"#;

/// Where everything of a pipeline lies. What belongs to `web-1.toml` has `web-1` in its name.
#[derive(Debug)]
pub(super) struct Places {
    /// The configuration, with its whole path.
    pub(super) file: PathBuf,
    /// Its name without the ending, which names an instance of the template units.
    pub(super) name: String,
    /// The default of `instance.name`.
    pub(super) instance: String,
    pub(super) schema: PathBuf,
    /// Grants and policies with the names filled in.
    pub(super) setup: PathBuf,
    /// None: the secrets come from the environment.
    pub(super) secrets: Option<SecretFiles>,
    state_dir: PathBuf,
    log_dir: PathBuf,
    ports: (u16, u16),
}

#[derive(Debug)]
pub(super) struct SecretFiles {
    pub(super) adobe: PathBuf,
    pub(super) redshift: PathBuf,
}

impl Places {
    pub(super) fn new(file: PathBuf, flags: &Flags, host: &str) -> io::Result<Self> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
        let plain = name == ONE_PIPELINE;
        let beside = |what: &str| dir.join(if plain { what.to_owned() } else { format!("{name}.{what}") });
        let below = |top: &str| if plain { PathBuf::from(top) } else { Path::new(top).join(&name) };
        let (state_dir, log_dir) = match &flags.state_dir {
            Some(dir) => (absolute(dir)?, absolute(dir)?.join("logs")),
            None => (below("/var/lib/livestream"), below("/var/log/livestream")),
        };
        let or_beside =
            |given: &Option<PathBuf>, what| given.as_ref().map_or_else(|| Ok(beside(what)), absolute);
        let secrets = SecretFiles {
            adobe: or_beside(&flags.client_secret_file, "client_secret")?,
            redshift: or_beside(&flags.redshift_password_file, "redshift_password")?,
        };
        let secrets = (!flags.secrets_in_environment).then_some(secrets);
        Ok(Self {
            instance: legal_name(if plain { host } else { &name }),
            schema: beside("schema.toml"),
            setup: beside("setup"),
            secrets,
            state_dir,
            log_dir,
            ports: free_ports(&configurations_beside(&file)),
            file,
            name,
        })
    }

    #[cfg(test)]
    pub(super) fn example(file: &str) -> Self {
        use clap::{Args, Command, FromArgMatches};
        let command = Flags::augment_args(Command::new("init"));
        let flags = Flags::from_arg_matches(&command.get_matches_from(["init"])).unwrap();
        Self::new(PathBuf::from(file), &flags, "host-7").unwrap()
    }
}

/// The text as a name of an instance.
fn legal_name(text: &str) -> String {
    let name: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(MAX_NAME).collect();
    if name.is_empty() { "producer-1".to_owned() } else { name }
}

/// The other configurations of this machine.
fn configurations_beside(file: &Path) -> Vec<Table> {
    let entries = file.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten();
    let others = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path != file);
    let texts = others
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .filter_map(|path| fs::read_to_string(path).ok());
    // A schema has no instance.
    texts
        .filter_map(|text| text.parse::<Table>().ok())
        .filter(|table| table.contains_key("instance"))
        .collect()
}

/// The first pair of ports that none of the configurations has.
fn free_ports(others: &[Table]) -> (u16, u16) {
    let port = |table: &Table, key: &str, default: u16| {
        let listen = table.get("metrics").and_then(|metrics| metrics.get(key)).and_then(Value::as_str);
        listen.map_or(Some(default), |listen| listen.rsplit_once(':')?.1.parse().ok())
    };
    let taken: BTreeSet<u16> = others
        .iter()
        .flat_map(|table| [port(table, "producer_listen", PORTS.0), port(table, "ingester_listen", PORTS.1)])
        .flatten()
        .collect();
    let mut pairs = (0..1_000).map(|n| (PORTS.0 + 2 * n, PORTS.1 + 2 * n));
    pairs.find(|(first, second)| !taken.contains(first) && !taken.contains(second)).unwrap_or(PORTS)
}

/// The configuration.
pub(super) fn text(answers: &Answers, places: &Places) -> String {
    let answer = |flag: &str| answers.get(flag).map(String::as_str).unwrap_or_default();
    let mut text = ConfigText::new(
        "# Written by `producer init`. docs/CONFIGURATION.md explains every key; those that are missing here have a default\n\
         # that suits most sites.",
    );
    text.section("instance");
    text.set("name", answer("instance"));
    text.section("adobe");
    text.set("client_id", answer("client-id"));
    if let Some(secrets) = &places.secrets {
        text.set("client_secret_file", &shown(&secrets.adobe));
    }
    text.stream_url(answer("stream-url"));
    text.section("schema");
    text.set("file", &shown(&places.schema));
    text.block(FILTER);
    text.section("log");
    text.set("dir", &shown(&places.state_dir.join("producer")));
    text.section("s3");
    text.set("bucket", answer("bucket"));
    text.set("region", answer("region"));
    let prefix = answer("prefix").trim_matches('/');
    if !prefix.is_empty() {
        for (key, folder) in [
            ("to_ingest", "ToIngest"),
            ("ingested", "Ingested"),
            ("loads", "Loads"),
            ("rejected", "Rejected"),
            ("quarantine", "Quarantine"),
        ] {
            text.set(key, &format!("{prefix}/{folder}/"));
        }
    }
    redshift(&mut text, &answer, places);
    text.section("ingester");
    text.set("dir", &shown(&places.state_dir.join("ingester")));
    if places.ports != PORTS {
        text.section("metrics");
        text.set("producer_listen", &format!("127.0.0.1:{}", places.ports.0));
        text.set("ingester_listen", &format!("127.0.0.1:{}", places.ports.1));
    }
    text.section("logging");
    text.set("format", "json");
    text.set("dir", &shown(&places.log_dir));
    text.as_str().to_owned()
}

fn redshift<'a>(text: &mut ConfigText, answer: &impl Fn(&str) -> &'a str, places: &Places) {
    let (auth, table) = (answer("auth"), answer("table"));
    text.section("redshift");
    text.set("host", answer("redshift-host"));
    text.number("port", answer("redshift-port"));
    text.set("database", answer("database"));
    text.set("auth", auth);
    text.set_if("user", answer("user"));
    if let Some(secrets) = places.secrets.as_ref().filter(|_| auth == "password") {
        text.set("password_file", &shown(&secrets.redshift));
    }
    text.set("table", table);
    // Where the user may make tables. A second table has a ledger of its own.
    let (schema, name) = table.split_once('.').map_or(("", table), |(schema, name)| (schema, name));
    let dot = if schema.is_empty() { "" } else { "." };
    text.set("ledger", &format!("{schema}{dot}{name}_ledger"));
    text.set("iam_role", answer("iam-role"));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use shared::schema::Schema;

    use super::*;

    #[test]
    fn the_schema_file_is_the_built_in_schema_and_its_examples_can_be_taken_in() {
        let built_in = Schema::built_in(1..=1000);
        assert_eq!(Schema::from_toml_on(&built_in, SCHEMA, "schema").unwrap(), built_in);
        let examples: String = SCHEMA
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| line.contains([' ', '['])).unwrap_or(line))
            .skip(2)
            .fold(String::new(), |text, line| text + line + "\n");
        let altered = Schema::from_toml_on(&built_in, &examples, "schema").unwrap();
        assert_eq!(altered.columns.len(), built_in.columns.len() - 500, "{examples}");
    }

    #[test]
    fn instances_of_one_machine_have_places_and_ports_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Places::example(&dir.path().join(name).display().to_string());
        let answers = Answers::from([("table", "public.livestream".to_owned())]);
        let dirs = |places: &Places| {
            let table: Table = text(&answers, places).parse().unwrap();
            [("log", "dir"), ("ingester", "dir"), ("logging", "dir")]
                .map(|(section, key)| table[section][key].as_str().unwrap().to_owned())
        };
        let first = at("pipeline.toml");
        assert_eq!((first.instance.as_str(), first.ports), ("host-7", PORTS));
        let wanted = ["/var/lib/livestream/producer", "/var/lib/livestream/ingester", "/var/log/livestream"];
        assert_eq!(dirs(&first), wanted);
        fs::write(&first.file, text(&answers, &first)).unwrap();
        fs::write(&first.schema, SCHEMA).unwrap();
        let second = at("web-1.toml");
        assert_eq!((second.instance.as_str(), second.ports), ("web-1", (9466, 9467)));
        let wanted = [
            "/var/lib/livestream/web-1/producer",
            "/var/lib/livestream/web-1/ingester",
            "/var/log/livestream/web-1",
        ];
        assert_eq!(dirs(&second), wanted);
        assert_eq!(second.schema, dir.path().join("web-1.schema.toml"));
        assert_eq!(at("pipeline.toml").ports, PORTS, "its own ports are no obstacle");
        fs::write(&second.file, text(&answers, &second)).unwrap();
        assert_eq!(at("web-2.toml").ports, (9468, 9469));
    }
}
