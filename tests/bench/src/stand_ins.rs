//! S3, Redshift and IMS in a process of their own, so that what they take is not counted as the programs'.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use adobe::Adobe;
use redshift::Redshift;
use sandbox::s3::S3;
use sandbox::standins::{self, CLIENT_ID, CLIENT_SECRET, Endpoints};

const ENDPOINTS: &str = "endpoints.json";

/// In the process: the running stand-ins.
pub struct StandIns {
    /// The store.
    pub s3: S3,
    /// The warehouse.
    pub redshift: Redshift,
    /// For its tokens. Its Livestream generates and compresses while it sends, which would measure the stand-in.
    ims: Adobe,
}

impl StandIns {
    /// Starts them, with their files below `dir`.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let s3 = S3::start(&dir.join("s3")).await?;
        let redshift = standins::redshift(dir, s3.endpoint()).await?;
        let (client_id, client_secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
        let ims = Adobe::start(adobe::Options { client_id, client_secret, ..adobe::Options::default() })?;
        Ok(Self { s3, redshift, ims })
    }

    /// Where they are, and the Livestream at `stream`.
    #[must_use]
    pub fn endpoints(&self, stream: SocketAddr) -> Endpoints {
        Endpoints {
            token_url: self.ims.token_url(),
            stream_url: format!("http://{stream}/api/1/stream/bench"),
            redirect_host: self.ims.redirect_host().to_owned(),
            s3: self.s3.endpoint().to_owned(),
            redshift: self.redshift.addr(),
            postgres: self.redshift.postgres_url().to_owned(),
        }
    }

    /// Stops them in order.
    pub async fn stop(self) {
        self.ims.stop();
        self.redshift.stop().await;
    }
}

/// In the process: leaves in `dir` where everything is. Once it says that it is ready, the benchmark looks there.
///
/// # Errors
/// When it cannot be written.
pub fn announce(dir: &Path, endpoints: &Endpoints) -> anyhow::Result<()> {
    Ok(fs::write(dir.join(ENDPOINTS), serde_json::to_vec(endpoints)?)?)
}

/// In the benchmark: what was announced.
///
/// # Errors
/// When nothing was.
pub fn announced(dir: &Path) -> anyhow::Result<Endpoints> {
    Ok(serde_json::from_slice(&fs::read(dir.join(ENDPOINTS))?)?)
}
