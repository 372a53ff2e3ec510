//! Rejects on their way to S3, and `producer replay`: the real binary against the S3 stand-in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod rejects;
mod runs;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sandbox::config::{Shape, pipeline};
use sandbox::s3::{BUCKET, S3};
use sandbox::standins::Endpoints;
use shared::config::{Config, Secrets};
use shared::seal::Seal;
use state::log::RejectLine;
use tempfile::TempDir;

/// S3 and a configuration, nothing else.
pub(crate) struct World {
    _s3: S3,
    pub(crate) config: PathBuf,
    dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3::start(&dir.path().join("s3")).await.unwrap();
        let nobody = "http://127.0.0.1:9";
        let at = Endpoints {
            token_url: nobody.to_owned(),
            stream_url: nobody.to_owned(),
            redirect_host: "localhost".to_owned(),
            s3: s3.endpoint().to_owned(),
            redshift: SocketAddr::from(([127, 0, 0, 1], 9)),
            postgres: String::new(),
        };
        let config = dir.path().join("pipeline.toml");
        let shape = Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() };
        // Replays need nothing of Adobe's.
        let text = pipeline(dir.path(), &at, &shape).replace("client_secret =", "# client_secret =");
        fs::write(&config, text).unwrap();
        Self { _s3: s3, config, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.config, Secrets::Store).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // With the key of a replay, so that the store refuses what `deploy/iam-replay.json` does not allow.
        let args = [&["replay"], args].concat();
        let mut command = sandbox::service::command("producer", &args, &self.config).unwrap();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a replay to its end, which must have this code.
    #[track_caller]
    pub(crate) fn replay(&self, args: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Objects of the bucket below a prefix: their keys, in order.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let bucket = self.path("s3").join(BUCKET);
        let mut keys = Vec::new();
        walk(&bucket.join(prefix), &mut |path| {
            keys.push(path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
        });
        keys.sort();
        keys
    }

    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        let content = fs::read(self.path("s3").join(BUCKET).join(key)).unwrap();
        let zstd = [".zst"].iter().any(|end| key.ends_with(end));
        if zstd { zstd::stream::decode_all(&content[..]).unwrap() } else { content }
    }

    /// The rows of every published batch, each a line; what seals count must be there.
    pub(crate) fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for key in self.keys("ToIngest").iter().filter(|key| key.ends_with("/batch.json")) {
            let seal: Seal = serde_json::from_slice(&self.object(key)).unwrap();
            assert_eq!(seal.instance.to_string(), "sandbox-1-replay");
            let folder = key.trim_end_matches("batch.json");
            let files = seal.files.iter().map(|file| self.object(&format!("{folder}{}", file.name)));
            let text = String::from_utf8(files.collect::<Vec<_>>().concat()).unwrap();
            assert_eq!(text.lines().count() as u64, seal.rows);
            rows.extend(text.lines().map(str::to_owned));
        }
        rows
    }

    /// Every reject in S3, oldest first: what was received and why not taken.
    pub(crate) fn rejects(&self) -> Vec<RejectLine> {
        let mut lines = Vec::new();
        for key in self.keys("Rejected") {
            lines.extend_from_slice(&self.object(&key));
        }
        lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn walk(dir: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if !path.file_name().unwrap().to_str().unwrap().starts_with(".s3s") {
            found(&path);
        }
    }
}
