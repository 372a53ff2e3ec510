//! What people do meanwhile: they pause, replay, trim, count, look, give all services another schema, and start another version.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use fastrand::Rng;
use rustix::process::Signal;
use sandbox::service::{self, Service};
use tokio::task::JoinSet;

use crate::world::{STOP, World};

/// Commands under way at once.
const AT_ONCE: usize = 2;
/// Columns that are added, one after the other.
const COLUMNS: u32 = 12;
/// A fault of the program itself.
const FAULT: i32 = 70;

/// Commands, as the report calls them.
const COMMANDS: [(&str, &str, &[&str]); 9] = [
    ("paused", "ingester", &["pause", "--for", "3s", "--reason", "campaign"]),
    ("resumed", "ingester", &["resume"]),
    ("replayed", "ingester", &["replay", "--all"]),
    ("trimmed", "ingester", &["ledger", "trim", "--older-than", "400d", "--yes"]),
    ("reconciled", "ingester", &["reconcile"]),
    ("audited", "ingester", &["audit"]),
    ("checked", "ingester", &["check"]),
    ("dumped", "state", &["dump"]),
    ("verified", "state", &["verify"]),
];
/// The rest of what an operator does.
const SCHEMA: &str = "given another schema";
const VERSION: &str = "stopped and started as by an update";

/// Everything that an operator does.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).chain([SCHEMA, VERSION])
}

pub(super) struct Operator {
    /// One for each ingester and producer; commands go to any of them.
    configs: Vec<PathBuf>,
    columns: u32,
    running: JoinSet<Result<(), String>>,
    pub(super) done: BTreeMap<String, u64>,
}

/// The schema that all services share at first.
pub(super) fn with_schema(config: &str) -> String {
    let dir =
        config.split_once("[log]\ndir = \"").and_then(|(_, rest)| rest.split_once("/producer\"")).unwrap().0;
    let file = format!("{dir}/schema.toml");
    fs::write(&file, schema(0)).unwrap();
    config.replace("[redshift]\n", "[redshift]\non_schema_change = \"add_columns\"\n")
        + &format!("\n[schema]\nevents = \"1..10\"\nfile = \"{file}\"\n")
}

fn schema(columns: u32) -> String {
    let column = |n| {
        format!(
            "[[column]]\nname = \"copy_{n}\"\npath = \"pageName\"\nkind = \"text\"\ntype = \"varchar(255)\"\n"
        )
    };
    (0..columns).map(column).fold("mode = \"extend\"\n".to_owned(), |text, column| text + &column)
}

impl Operator {
    pub(super) fn new(configs: Vec<PathBuf>) -> Self {
        Self { configs, columns: 0, running: JoinSet::new(), done: BTreeMap::new() }
    }

    /// Does one thing.
    pub(super) async fn act(
        &mut self,
        random: &mut Rng,
        world: &World,
        services: Vec<&mut Service>,
    ) -> Result<(), String> {
        match random.u32(..20) {
            0 if self.columns < COLUMNS => {
                self.columns += 1;
                fs::write(world.path("schema.toml"), schema(self.columns)).unwrap();
                self.count(SCHEMA);
                services
                    .iter()
                    .try_for_each(|service| service.signal(Signal::HUP))
                    .map_err(|error| told(&error))
            }
            1 | 2 => {
                self.count(VERSION);
                let at = random.usize(..services.len());
                let service = services.into_iter().nth(at).unwrap();
                service.stop(STOP).await.map_err(|error| told(&error))?;
                service.start_again().map_err(|error| told(&error))
            }
            _ => {
                while self.running.len() >= AT_ONCE {
                    self.running.join_next().await.unwrap().unwrap()?;
                }
                let (name, program, args) = COMMANDS[random.usize(..COMMANDS.len())];
                self.count(name);
                let config = self.configs[random.usize(..self.configs.len())].clone();
                self.running.spawn_blocking(move || {
                    let output = service::run(program, args, &config).map_err(|error| told(&error))?;
                    match output.status.code() {
                        Some(code) if code != FAULT && code < 100 => Ok(()),
                        code => {
                            let said = String::from_utf8_lossy(&output.stderr);
                            Err(format!("{program} {} ended with {code:?}: {said}", args.join(" ")))
                        }
                    }
                });
                Ok(())
            }
        }
    }

    /// Waits for the commands that are under way.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap()?;
        }
        Ok(())
    }

    fn count(&mut self, name: &str) {
        *self.done.entry(name.to_owned()).or_default() += 1;
    }
}

fn told(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
