//! Schemas, protections and a log as sites have them, and the limit of all: for what is counted here and for the benchmarks.

use std::path::Path;
use std::time::Duration;

use flate2::{Decompress, FlushDecompress};
use producer::Transform;
use shared::config::{Config, Secrets};
use shared::ids::Instance;
use shared::layout::Compression;
use shared::schema::Schema;
use state::log::Settings;

/// The first `general` columns of the built-in schema, eVars 1 to `evars` and props 1 to `props`.
///
/// # Errors
/// Never, as long as the built-in schema is legal.
pub fn schema(general: usize, evars: u32, props: u32) -> anyhow::Result<Schema> {
    let all = Schema::default().columns;
    let chosen = |prefix: &str, max: u32| {
        let number = |name: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok());
        let chosen = all.iter().filter(|column| number(&column.name).is_some_and(|n| n <= max));
        chosen.cloned().collect::<Vec<_>>()
    };
    let mut columns: Vec<_> = all.iter().take(general).cloned().collect();
    columns.extend(chosen("evar", evars));
    columns.extend(chosen("prop", props));
    Ok(Schema::new(columns, "benchmark")?)
}

/// 75 columns, as many sites load: 38 general ones, 25 eVars, 12 props.
///
/// # Errors
/// As [`schema`].
pub fn schema_of_75() -> anyhow::Result<Schema> {
    schema(38, 25, 12)
}

/// Fields that a site would protect: an address, two URLs, an id and a text, and all of them in most records.
pub const FIVE: &str = "mask_ip = [\"ip\"]\nmask_query = [\"$.pageURL\", \"$.referrer\"]\npseudonym = [\"evar1\"]\n\
                        drop = [\"useragent\"]";

/// A transform for rows of this schema that protects what these lines of `[protect]` say.
///
/// # Errors
/// When the lines cannot be used.
pub fn protecting(schema: &Schema, lines: &str) -> anyhow::Result<Transform> {
    let example = include_str!("../../../deploy/pipeline.example.toml");
    let key = "pseudonym_key = \"0123456789abcdef0123456789abcdef\"";
    let text = format!("{example}\n[protect]\n{lines}\n{key}\n");
    let config = Config::parse(&text, Path::new("example"), std::iter::empty(), Secrets::Unused)?;
    Ok(Transform::new(schema, &[])?.with_protection(&config.protect, schema)?)
}

/// Inflates a gzip member until so many bytes of text came, with the same inflater as the producer's, and does nothing else.
///
/// # Errors
/// When it is no gzip.
pub fn inflate(gzip: &[u8], text_bytes: u64) -> anyhow::Result<()> {
    let mut piece = vec![0; producer::PIECE_BYTES];
    let mut inflater = Decompress::new_gzip(15);
    let mut rest = gzip;
    while inflater.total_out() < text_bytes {
        let before = (inflater.total_in(), inflater.total_out());
        inflater.decompress(rest, &mut piece, FlushDecompress::None)?;
        rest = rest.get(usize::try_from(inflater.total_in() - before.0)?..).unwrap_or_default();
        anyhow::ensure!((inflater.total_in(), inflater.total_out()) != before, "it ends too early");
    }
    Ok(())
}

/// The settings of a log in `dir`, as the configuration has them by default.
///
/// # Errors
/// Never, as long as the name of the instance is legal.
pub fn log_settings(dir: &Path) -> anyhow::Result<Settings> {
    Ok(Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("bench".to_owned())?,
        schema: "0123456789abcdef".to_owned(),
        columns: Vec::new(),
        compression: Compression::Zstd,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 10_000,
        commit_interval: Duration::from_secs(60),
        records_per_file: 1_000,
        min_file_bytes: 0,
        max_file_bytes: 64 << 20,
        max_file_age: Duration::from_secs(60),
        files_per_batch: 10,
        min_batch_age: Duration::ZERO,
        max_batch_age: Duration::from_secs(300),
        max_bytes: 20 << 30,
        cache: 32 << 20,
        dedup_window: Duration::from_secs(7200),
        dedup_hits: 5_000_000,
        gap_tolerance: Duration::from_secs(60),
        connections: 1,
        pseudonym_key: None,
        pseudonym_spelling: None,
    })
}
