//! What the services are configured with: small files and batches, so that a simulated day has many of them.

use std::path::Path;
use std::time::Duration;

use shared::config::{Config, Secrets};
use shared::schema::Schema;
use state::log::Settings;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// `ingester.retry_max`
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(300);
/// `ingester.list_interval`
pub(crate) const LIST_INTERVAL: Duration = HOUR;
/// The hours of `ingester.pause`.
pub(crate) const WINDOW: std::ops::Range<u32> = 2..3;

const SCHEMA: &str = r#"
[[column]]
name = "hitidlow"
path = "hitIdLow"
kind = "unsigned"
type = "decimal(20,0)"

[[column]]
name = "receivedtimegmt"
path = "receivedTimeGMT"
kind = "timestamp"
type = "timestamp"

[[column]]
name = "hitidhigh"
path = "hitIdHigh"
kind = "unsigned"
type = "decimal(20,0)"
"#;

pub(crate) fn schema() -> Schema {
    Schema::from_toml_on(&Schema::default(), SCHEMA, "simulation").unwrap()
}

/// The configuration of the pipeline as the service `name` has it, whose directory is `dir`.
pub(crate) fn config(dir: &Path, name: &str, held_back: bool) -> Config {
    let dir = dir.display();
    let load_interval = if held_back { "45m" } else { "0s" };
    let text = format!(
        r#"
[instance]
name = "{name}"
[adobe]
client_id = "c"
client_secret = "s"
stream_url = "https://livestream.adobe.net/api/1/stream/x"
[log]
dir = "{dir}/log"
cache = "1MiB"
[s3]
bucket = "b"
region = "eu-central-1"
endpoint = "http://127.0.0.1:9"
path_style = true
access_key_id = "k"
secret_access_key = "s"
uploads = 2
[redshift]
host = "127.0.0.1"
database = "d"
user = "u"
password = "p"
tls = "disable"
iam_role = "default"
table = "public.hits"
ledger = "public.ledger"
[ingester]
dir = "{dir}"
list_interval = "1h"
load_interval = "{load_interval}"
load_rows = 150
batches_per_copy = 3
pause = ["02:00-03:00"]
"#
    );
    Config::parse(&text, Path::new("simulation"), std::iter::empty(), Secrets::Unused).unwrap()
}

/// The log of a producer.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        commit_rows: 16,
        records_per_file: 30,
        min_file_bytes: 0,
        max_file_age: 2 * HOUR,
        files_per_batch: 2,
        min_batch_age: Duration::ZERO,
        max_batch_age: 4 * HOUR,
        max_bytes: 800,
        dedup_window: 6 * HOUR,
        dedup_hits: 250,
        ..Settings::of(config, &schema())
    }
}
