//! The one configuration file of a run.

use std::path::Path;

use crate::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};
use crate::standins::{CLIENT_ID, CLIENT_SECRET, DATABASE, Endpoints, PASSWORD, ROLE, USER};

/// How the file begins: by it a demo knows its own folder.
pub const MARK: &str = "# Written by the sandbox";

/// What differs between runs.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Age at which a file closes.
    pub max_file_age: &'static str,
    /// Age at which a batch seals.
    pub max_batch_age: &'static str,
    /// Rows of a file.
    pub records_per_file: u32,
    /// Files of a batch.
    pub files_per_batch: u32,
    /// Compression of the files.
    pub compression: &'static str,
}

impl Default for Shape {
    /// Batches as the product makes them, but with ages of seconds, so that a short run ends soon.
    fn default() -> Self {
        Self {
            max_file_age: "1s",
            max_batch_age: "2s",
            records_per_file: 1000,
            files_per_batch: 10,
            compression: "zstd",
        }
    }
}

/// The text of `pipeline.toml` for services that keep their files below `dir`. Files have the rows that the shape says, however
/// small that makes them: a run counts them.
#[must_use]
pub fn pipeline(dir: &Path, at: &Endpoints, shape: &Shape) -> String {
    let (host, port) = (at.redshift.ip(), at.redshift.port());
    let dir = dir.display();
    let Shape { max_file_age, max_batch_age, records_per_file, files_per_batch, compression } = shape;
    format!(
        r#"{MARK}: stand-ins for Adobe, S3 and Redshift on this machine.

[instance]
name = "sandbox-1"

[adobe]
token_url = "{token_url}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
stream_url = "{stream_url}"
redirect_hosts = ["{redirect_host}"]

[[filter]]
name = "excluded"
field = "exclude.value"
equals = ["yes"]

[log]
dir = "{dir}/producer"

[batch]
records_per_file = {records_per_file}
min_file_bytes = "0B"
max_file_age = "{max_file_age}"
files_per_batch = {files_per_batch}
min_batch_age = "0s"
max_batch_age = "{max_batch_age}"
compression = "{compression}"

[s3]
bucket = "{BUCKET}"
region = "{REGION}"
endpoint = "{s3}"
path_style = true
access_key_id = "{ACCESS_KEY}"
secret_access_key = "{SECRET_KEY}"

[redshift]
host = "{host}"
port = {port}
database = "{DATABASE}"
user = "{USER}"
password = "{PASSWORD}"
tls = "disable"
iam_role = "{ROLE}"

[ingester]
dir = "{dir}/ingester"
list_interval = "5s"
retry_max = "10s"

[metrics]
producer_listen = ""
ingester_listen = ""

[logging]
dir = "{dir}/logs"
"#,
        token_url = at.token_url,
        stream_url = at.stream_url,
        redirect_host = at.redirect_host,
        s3 = at.s3,
    )
}
