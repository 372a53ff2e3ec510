//! What people do meanwhile: they pause, replay, adopt, trim, count, look, give all services another schema, and start another version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::process::Signal;
use sandbox::judge::LEDGER;
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use shared::ids::BatchId;
use shared::layout;
use tokio::task::JoinSet;

use crate::world::{STOP, World};

/// Commands under way at once.
const AT_ONCE: usize = 2;
/// Columns that are added, one after the other.
const COLUMNS: u32 = 12;
/// Asked wrongly, which would be a fault of this test; and a fault of the program itself.
const NEVER: [i32; 2] = [64, 70];

/// Commands, as the report calls them.
const COMMANDS: [(&str, &str, &[&str]); 9] = [
    ("paused", "ingester", &["pause", "--for", "3s", "--reason", "campaign"]),
    ("resumed", "ingester", &["resume"]),
    ("replayed", "ingester", &["replay", "--all"]),
    ("trimmed", "ingester", &["ledger", "trim", "--older-than", "400d", "--yes"]),
    ("reconciled", "ingester", &["reconcile"]),
    ("audited", "ingester", &["audit", "--since", "1d"]),
    ("checked", "ingester", &["check"]),
    ("dumped", "state", &["dump"]),
    ("verified", "state", &["verify"]),
];
/// The rest of what an operator does.
const SCHEMA: &str = "given another schema";
const VERSION: &str = "stopped and started as by an update";
const ADOPTED: &str = "adopted";
/// What `adopt` is told before the batch: the folder is new, and its producer is not there.
const ADOPT: [&str; 5] = ["adopt", "--yes", "--young", "--instance", "lost"];

/// Everything that an operator does.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).chain([SCHEMA, VERSION, ADOPTED])
}

pub(super) struct Operator {
    /// One for each ingester and producer; commands go to any of them.
    configs: Vec<PathBuf>,
    columns: u32,
    /// Folders of a producer that is gone.
    left: Vec<BatchId>,
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
        Self { configs, columns: 0, left: Vec::new(), running: JoinSet::new(), done: BTreeMap::new() }
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
            3 | 4 => match leave_folder(world).await {
                Some(batch) => {
                    self.count(ADOPTED);
                    self.left.push(batch);
                    self.command(random, "ingester", adopt(batch)).await
                }
                None => Ok(()),
            },
            _ => {
                let (name, program, args) = COMMANDS[random.usize(..COMMANDS.len())];
                self.count(name);
                self.command(random, program, args.iter().map(ToString::to_string).collect()).await
            }
        }
    }

    /// Begins a command, which may end with anything but a fault of its own.
    async fn command(
        &mut self,
        random: &mut Rng,
        program: &'static str,
        args: Vec<String>,
    ) -> Result<(), String> {
        while self.running.len() >= AT_ONCE {
            self.running.join_next().await.unwrap().unwrap()?;
        }
        let config = self.configs[random.usize(..self.configs.len())].clone();
        self.running.spawn_blocking(move || match run(program, &args, &config)? {
            (Some(code), _) if !NEVER.contains(&code) && code < 100 => Ok(()),
            (code, said) => Err(format!("{program} {} ended with {code:?}: {said}", args.join(" "))),
        });
        Ok(())
    }

    /// Waits for the commands that are under way, and adopts what could not be adopted before, each folder with the schema that its
    /// rows were made with. Nothing fails any more.
    pub(super) async fn end(&mut self, world: &World) -> Result<(), String> {
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap()?;
        }
        for batch in &self.left {
            let mut ended = (None, String::new());
            for columns in (0..=self.columns).rev() {
                fs::write(world.path("schema.toml"), schema(columns)).unwrap();
                let (args, config) = (adopt(*batch), self.configs[0].clone());
                ended =
                    tokio::task::spawn_blocking(move || run("ingester", &args, &config)).await.unwrap()?;
                if ended.0 == Some(0) {
                    break;
                }
            }
            fs::write(world.path("schema.toml"), schema(self.columns)).unwrap();
            if ended.0 != Some(0) {
                return Err(format!("{batch} is not adopted: {ended:?}"));
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str) {
        *self.done.entry(name.to_owned()).or_default() += 1;
    }
}

fn adopt(batch: BatchId) -> Vec<String> {
    ADOPT.iter().map(ToString::to_string).chain([batch.to_string()]).collect()
}

/// A folder as a producer leaves it that read the same hits and is gone for good: its rows are in the table already. None if no
/// batch was loaded whole yet.
async fn leave_folder(world: &World) -> Option<BatchId> {
    let whole = format!(
        "SELECT batch_id FROM {LEDGER} AND rows_loaded > 0 AND rows_quarantined = 0 AND coalesce(rows_known, 0) = 0 ORDER BY random() LIMIT 1"
    );
    let loaded: BatchId =
        world.judge.query_opt(&whole, &[]).await.unwrap()?.get::<_, &str>(0).parse().unwrap();
    let bucket = world.path("s3").join(BUCKET);
    let files = fs::read_dir(bucket.join(layout::folder("Ingested/", loaded))).ok()?;
    let rows = files.map(|file| file.unwrap().path()).find(|path| {
        path.file_name()
            .and_then(|name| layout::parse_file_name(name.to_str()?))
            .is_some_and(|(number, _)| number == 0)
    })?;
    let batch = BatchId::new();
    let folder = bucket.join(layout::folder("ToIngest/", batch));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&rows, folder.join(rows.file_name().unwrap())).unwrap();
    Some(batch)
}

/// What a command ended with, and what it said.
fn run(program: &str, args: &[String], config: &Path) -> Result<(Option<i32>, String), String> {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let output = service::run(program, &args, config).map_err(|error| told(&error))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn told(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
