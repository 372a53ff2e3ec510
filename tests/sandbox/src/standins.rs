//! The three stand-ins together, and what a client must know of them.

use std::net::SocketAddr;
use std::path::Path;

use adobe::{Adobe, Plan};
use redshift::Redshift;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::s3::{self, S3};

/// User of the Redshift stand-in.
pub const USER: &str = "demo";
/// Its password.
pub const PASSWORD: &str = "demo-password";
/// Its database.
pub const DATABASE: &str = "demo";
/// The role that it can assume for COPY.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/sandbox";
/// Livestream's client id.
pub const CLIENT_ID: &str = "client-id";
/// Its secret.
pub const CLIENT_SECRET: &str = "client-secret-that-must-not-print";

/// Environment variable: the file that keeps what Redshift was asked, for `make independent`.
const STATEMENTS: &str = "SANDBOX_STATEMENTS";

/// The running stand-ins.
pub struct Standins {
    /// IMS and Livestream.
    pub adobe: Adobe,
    /// The store.
    pub s3: S3,
    /// The warehouse.
    pub redshift: Redshift,
}

/// Where they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// IMS.
    pub token_url: String,
    /// Livestream's front.
    pub stream_url: String,
    /// The host it redirects to.
    pub redirect_host: String,
    /// The store.
    pub s3: String,
    /// The warehouse.
    pub redshift: SocketAddr,
    /// The private PostgreSQL behind it, for the judge.
    pub postgres: String,
}

/// A session of the Redshift stand-in that stands there.
///
/// # Errors
/// When it lets nobody in.
pub async fn session(at: SocketAddr, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
    let mut warehouse = tokio_postgres::Config::new();
    warehouse.host(at.ip().to_string()).port(at.port()).user(user).password(password).dbname(DATABASE);
    let (client, connection) = warehouse.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Standins {
    /// Starts all three, with their files below `dir`.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start(dir: &Path, adobe: adobe::Options) -> anyhow::Result<Self> {
        let s3 = S3::start(&dir.join("s3")).await?;
        let redshift = redshift(dir, s3.endpoint()).await?;
        let adobe = Adobe::start(adobe::Options {
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            ..adobe
        })?;
        Ok(Self { adobe, s3, redshift })
    }

    /// Where they are.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            token_url: self.adobe.token_url(),
            stream_url: self.adobe.stream_url(),
            redirect_host: self.adobe.redirect_host().to_owned(),
            s3: self.s3.endpoint().to_owned(),
            redshift: self.redshift.addr(),
            postgres: self.redshift.postgres_url().to_owned(),
        }
    }

    /// Stops all three in order.
    pub async fn stop(self) {
        self.adobe.stop();
        self.redshift.stop().await;
    }
}

/// The warehouse alone, on the files it left below `dir`.
///
/// # Errors
/// When it cannot start.
pub async fn redshift(dir: &Path, s3: &str) -> anyhow::Result<Redshift> {
    let warehouse = Redshift::start(redshift::Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: dir.join("postgres"),
        s3_endpoint: s3.to_owned(),
        s3_region: s3::REGION.to_owned(),
        s3_access_key: s3::access::COPY_KEY.to_owned(),
        s3_secret_key: s3::SECRET_KEY.to_owned(),
        user: USER.to_owned(),
        password: PASSWORD.to_owned(),
        database: DATABASE.to_owned(),
    })
    .await?;
    warehouse.ways().attach_role(ROLE);
    if let Some(file) = std::env::var_os(STATEMENTS) {
        warehouse.faults().record(Path::new(&file))?;
    }
    Ok(warehouse)
}

/// The stream of a demo: mostly hits, and a few per mille of everything that may go wrong with one.
#[must_use]
pub fn plan(seed: u64, hits: u64, start_epoch: i64) -> Plan {
    Plan {
        seed,
        hits,
        duplicates_per_mille: 5,
        excluded_per_mille: 5,
        malformed_per_mille: 3,
        start_epoch,
        ..Plan::default()
    }
}
