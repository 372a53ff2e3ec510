//! What people do meanwhile: they pause, replay, adopt, trim, count, look, give all services another schema, widen a column, and
//! restart services in order, as the package does at an upgrade. What another version left behind is for `upgrade.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use sandbox::judge::LEDGER;
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::{PASSWORD, USER, session};
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
/// What is stored is damaged, or does not add up.
const DAMAGED: i32 = 65;
/// A ledger row is older than what `trimmed` asks for, once it has aged.
const AGED: &str = "500 days";

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
const RESTARTED: &str = "stopped and started in order";
const ADOPTED: &str = "adopted";
const WIDENED: &str = "widened a column";
/// What `adopt` is told before the batch: the folder is new, and its producer is not there.
const ADOPT: [&str; 5] = ["adopt", "--yes", "--young", "--instance", "lost"];

/// Everything that an operator does.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).chain([SCHEMA, RESTARTED, ADOPTED, WIDENED])
}

pub(super) struct Operator {
    /// One for each service; a command is given one of those of its program, and `state` any.
    producers: Vec<PathBuf>,
    ingesters: Vec<PathBuf>,
    /// Whether ledger rows become so old meanwhile that they are trimmed.
    trims: bool,
    columns: u32,
    /// Folders of a producer that is gone.
    left: Vec<BatchId>,
    /// Each ends with its name if it did what it is for.
    running: JoinSet<Result<Option<&'static str>, String>>,
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
    pub(super) fn new(producers: Vec<PathBuf>, ingesters: Vec<PathBuf>, trims: bool) -> Self {
        let (left, running, done) = (Vec::new(), JoinSet::new(), BTreeMap::new());
        Self { producers, ingesters, trims, columns: 0, left, running, done }
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
                let at = random.usize(..services.len());
                let service = services.into_iter().nth(at).unwrap();
                service.stop(STOP).await.map_err(|error| told(&error))?;
                self.count(RESTARTED);
                service.start_again().map_err(|error| told(&error))
            }
            3 | 4 => match leave_folder(world).await {
                Some(batch) => {
                    self.left.push(batch);
                    self.command(random, ADOPTED, "ingester", adopt(batch)).await
                }
                None => Ok(()),
            },
            _ => {
                let (name, program, args) = COMMANDS[random.usize(..COMMANDS.len())];
                if self.trims && args.contains(&"trim") {
                    age(world).await;
                }
                self.command(random, name, program, args.iter().map(ToString::to_string).collect()).await
            }
        }
    }

    /// Begins a command, which may end with anything but a fault of its own or damage.
    async fn command(
        &mut self,
        random: &mut Rng,
        name: &'static str,
        program: &'static str,
        args: Vec<String>,
    ) -> Result<(), String> {
        while self.running.len() >= AT_ONCE {
            let ended = self.running.join_next().await.unwrap().unwrap();
            self.note(ended)?;
        }
        let both = [&self.producers[..], &self.ingesters].concat();
        let configs = if program == "ingester" { &self.ingesters } else { &both };
        let config = configs[random.usize(..configs.len())].clone();
        self.running.spawn_blocking(move || match run(program, &args, &config)? {
            (Some(0), _) => Ok(Some(name)),
            (Some(DAMAGED), said) if program == "state" => Err(format!("{program} {args:?}: {said}")),
            (Some(code), _) if !NEVER.contains(&code) && code < 100 => Ok(None),
            (code, said) => Err(format!("{program} {} ended with {code:?}: {said}", args.join(" "))),
        });
        Ok(())
    }

    /// The table takes what it refused, so that a replay may load it. Faults strike whoever does this, too.
    pub(super) async fn widen(&mut self, world: &World) {
        let wide = "ALTER TABLE public.livestream ALTER COLUMN pagename TYPE varchar(255)";
        let try_it = async || {
            let client = session(world.standins.redshift.addr(), USER, PASSWORD).await.ok()?;
            client.simple_query(wide).await.ok()
        };
        while try_it().await.is_none() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.count(WIDENED);
    }

    fn note(&mut self, ended: Result<Option<&'static str>, String>) -> Result<(), String> {
        if let Some(name) = ended? {
            self.count(name);
        }
        Ok(())
    }

    /// Waits for the commands that are under way, and adopts what could not be adopted before, each folder with the schema that its
    /// rows were made with. Nothing fails any more.
    pub(super) async fn end(&mut self, world: &World) -> Result<(), String> {
        while let Some(ended) = self.running.join_next().await {
            self.note(ended.unwrap())?;
        }
        for batch in &self.left {
            let mut ended = (None, String::new());
            for columns in (0..=self.columns).rev() {
                fs::write(world.path("schema.toml"), schema(columns)).unwrap();
                let (args, config) = (adopt(*batch), self.ingesters[0].clone());
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

    /// When all has settled, every row that was refused is replayed, nothing that is stored is damaged, and log, S3 and ledger
    /// agree.
    pub(super) async fn agree(&self) -> Result<(), String> {
        let ingester = &self.ingesters[0];
        let commands: [(&str, &[&str], &PathBuf); 3] = [
            ("ingester", &["replay", "--all"], ingester),
            ("ingester", &["audit", "--since", "1d"], ingester),
            ("ingester", &["reconcile"], ingester),
        ];
        let verify: &[&str] = &["verify"];
        let services = self.producers.iter().chain(&self.ingesters).map(|config| ("state", verify, config));
        for (program, args, config) in commands.into_iter().chain(services) {
            let args: Vec<_> = args.iter().map(ToString::to_string).collect();
            let (config, told) = (config.clone(), format!("{program} {}", args.join(" ")));
            let (code, said) =
                tokio::task::spawn_blocking(move || run(program, &args, &config)).await.unwrap()?;
            if code != Some(0) {
                return Err(format!("when all has settled, {told} ends with {code:?}: {said}"));
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str) {
        *self.done.entry(name.to_owned()).or_default() += 1;
    }
}

/// Time goes by for some batches of the ledger.
async fn age(world: &World) {
    let aged = format!("UPDATE {LEDGER} AND random() < 0.1");
    let aged = aged.replace(" WHERE", &format!(" SET loaded_at = loaded_at - interval '{AGED}' WHERE"));
    world.judge.batch_execute(&aged).await.unwrap();
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
    Ok((output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

fn told(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
