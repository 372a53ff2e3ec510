//! The whole way, from a Livestream to objects in S3, beside its limits: `cargo bench --workspace --bench whole`, after
//! `cargo build --release --workspace --bins`.
//!
//! In one run, in turns, with the same compressed bytes: bare inflation; our threads before the log; the real program,
//! with several numbers of connections, between stand-ins in another process; and a loop in Python that does with each
//! record what a daemon does. `-- 20000` takes so many records, and draws no picture.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

mod stand_ins;
mod livestream;
mod limits;
mod program;
mod threads;
mod daemon;
mod way;
mod table;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::machine::Usage;
use bench::{schema_file, schema_of_75};
use livestream::Body;
use shared::schema::Schema;
use way::{Kind, Taken, Way};

/// Turns; the middle one counts.
const TURNS: usize = 5;
const RECORDS: u64 = 100_000;
const CONNECTIONS: [u64; 3] = [1, 2, 4];
/// Records that the Python loop gets, with 75 columns and with all: seconds of its time.
const FOR_PYTHON: [u64; 2] = [20_000, 5_000];
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images/whole.svg");

/// The ways of one schema.
pub(crate) struct Compared {
    columns: usize,
    ways: Vec<Way>,
    /// Cores that something else had meanwhile.
    others: f64,
}

/// The stream, as each number of connections brings it.
struct Streams {
    records: u64,
    /// The body of a single connection, and the file that holds it.
    single: Body,
    file: PathBuf,
    /// The files of each number of connections.
    files: Vec<(u64, Vec<PathBuf>)>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == stand_ins::STAND_INS) {
        let bodies: Vec<PathBuf> = args[at + 2..].iter().map(PathBuf::from).collect();
        return stand_ins::run(Path::new(&args[at + 1]), &bodies);
    }
    let asked = args.iter().find_map(|arg| arg.parse().ok());
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let streams = Streams::make(dir.path(), asked.unwrap_or(RECORDS));
    println!(
        "{} records of {} bytes, gzip {:.1}:1; {} cores; the middle of {TURNS} turns; syncs and PUTs of 1,000 records",
        streams.records,
        streams.single.text_bytes / streams.records,
        streams.single.text_bytes as f64 / streams.single.gzip.len() as f64,
        std::thread::available_parallelism().unwrap()
    );
    let schemas = [schema_of_75().unwrap(), Schema::default()];
    let all = schemas.iter().zip(FOR_PYTHON).map(|(schema, for_python)| {
        let compared = compare(&streams, schema, for_python.min(streams.records));
        table::print(&compared);
        compared
    });
    let all: Vec<Compared> = all.collect();
    if asked.is_none() {
        fs::write(PICTURE, plot::svg(&all)).unwrap();
    }
}

impl Streams {
    fn make(dir: &Path, records: u64) -> Self {
        let mut single = None;
        let mut files = Vec::new();
        for connections in CONNECTIONS {
            let bodies = livestream::make(records, connections);
            let write = |(number, body): (usize, &Body)| {
                let file = dir.join(format!("{connections}-{number}.gz"));
                fs::write(&file, &body.gzip).unwrap();
                file
            };
            files.push((connections, bodies.iter().enumerate().map(write).collect()));
            single = single.or_else(|| bodies.into_iter().next());
        }
        let (single, file) = (single.unwrap(), dir.join("1-0.gz"));
        Self { records, single, file, files }
    }

    fn setup<'a>(&'a self, connections: u64, schema: Option<&'a str>) -> program::Setup<'a> {
        let (_, bodies) = self.files.iter().find(|(number, _)| *number == connections).unwrap();
        program::Setup { records: self.records, text_bytes: self.single.text_bytes, schema, bodies }
    }
}

fn compare(streams: &Streams, schema: &Schema, for_python: u64) -> Compared {
    let file = (*schema != Schema::default()).then(|| schema_file(schema));
    let take = |kind: Kind| -> Taken {
        match kind {
            Kind::Inflation => limits::inflate(&streams.single, streams.records),
            Kind::Decoding => limits::decode(&streams.single, streams.records, schema),
            Kind::Producer(connections) => {
                program::turn(&streams.setup(connections, file.as_deref()), false).0
            }
            Kind::Python => daemon::turn(&streams.file, schema, for_python),
        }
    };
    let ours = CONNECTIONS.map(Kind::Producer);
    let kinds = [Kind::Inflation, Kind::Decoding].into_iter().chain(ours).chain([Kind::Python]);
    let mut ways: Vec<Way> = kinds.map(Way::new).collect();
    let before = Usage::now();
    for turn in 0..TURNS {
        // Each turn begins with another way.
        for way in 0..ways.len() {
            let way = (way + turn * 2) % ways.len();
            let taken = take(ways[way].kind);
            ways[way].turns.push(taken);
        }
    }
    let others = Usage::now().cores_of_others(&before);
    if Command::new("strace").arg("-V").output().is_ok() {
        for way in &mut ways {
            let Kind::Producer(connections) = way.kind else { continue };
            let (_, syncs) = program::turn(&streams.setup(connections, file.as_deref()), true);
            way.syncs = syncs as f64 * 1e3 / streams.records as f64;
        }
    }
    Compared { columns: schema.columns.len(), ways, others }
}
