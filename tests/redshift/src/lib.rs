//! A stand-in for Amazon Redshift: its wire protocol, its refusals, its COPY from S3 and its error texts, in
//! front of a private PostgreSQL that holds the tables.
//!
//! It is for tests and demonstrations. It shows how a loader behaves towards Redshift's rules (constraints that
//! are not enforced, snapshot isolation, load errors, lost connections), not how fast Redshift is. What it does
//! not know it refuses loudly.

mod backend;
mod copy;
mod ddl;
mod door;
mod errors;
mod faults;
mod judge;
mod layout;
mod postgres;
mod recorder;
mod relayout;
mod rewrite;
mod s3;
mod session;
mod statement;
mod subquery;
mod temporary;
mod types;
mod ways;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use door::{Ask, Door, Entered};
pub use faults::{Failure, Fault, Faults, Kind, OrphanEnd, Seen};
pub use judge::Judge;
use postgres::Postgres;
use session::Shared;
pub use ways::{Grant, Ways};

/// How to set up the stand-in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients connect; port 0 picks a free one.
    pub listen: SocketAddr,
    /// PostgreSQL's cluster: created if absent or empty, reused if there is one.
    pub data_dir: PathBuf,
    /// The S3 that COPY reads from, as `http://127.0.0.1:9000`; addressed in path style.
    pub s3_endpoint: String,
    /// The region of its buckets.
    pub s3_region: String,
    /// Access key id, in place of the role.
    pub s3_access_key: String,
    /// Secret key, in place of the role.
    pub s3_secret_key: String,
    /// The only user.
    pub user: String,
    /// Their password.
    pub password: String,
    /// The only database.
    pub database: String,
}

/// A running stand-in. Dropping it ends its sessions and its PostgreSQL at once; `stop` does so in order.
pub struct Redshift {
    addr: SocketAddr,
    faults: Faults,
    door: Door,
    ways: Ways,
    accepting: JoinHandle<()>,
    direct: tokio_postgres::Config,
    url: String,
    postgres: Option<Postgres>,
}

impl Redshift {
    /// Starts PostgreSQL and listens.
    pub fn start(options: Options) -> BoxFuture<'static, anyhow::Result<Self>> {
        // Behind a pointer, so that it is compiled here and not in each crate that starts one.
        Box::pin(Self::starting(options))
    }

    async fn starting(options: Options) -> anyhow::Result<Self> {
        let data_dir = options.data_dir.clone();
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&data_dir)).await??;
        postgres.bootstrap(&options.user, &options.database).await?;
        let direct = postgres.config(&options.user, &options.database);
        let url = format!(
            "host={} user={} dbname={}",
            quoted(&postgres.socket_dir().display().to_string()),
            quoted(&options.user),
            quoted(&options.database)
        );
        let admin = postgres::connect(&direct).await?;
        let s3 = s3::client(&options);
        let (faults, ways) = (Faults::default(), Ways::default());
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("the Redshift stand-in cannot listen on {}", options.listen))?;
        let addr = listener.local_addr()?;
        let door = Door::new(&options.user, &options.password);
        let shared = Arc::new(Shared::new(
            options,
            direct.clone(),
            admin,
            s3,
            (faults.clone(), ways.clone(), door.clone()),
        ));
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Self { addr, faults, ways, door, accepting, direct, url, postgres: Some(postgres) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connection string of the private PostgreSQL, for a judge who looks past the stand-in.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        &self.url
    }

    /// The same as a configuration.
    #[must_use]
    pub fn postgres_config(&self) -> tokio_postgres::Config {
        self.direct.clone()
    }

    /// The faults to come, and the log of statements.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How clients come in.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// In which of its ways it behaves.
    #[must_use]
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Cuts all sessions and stops PostgreSQL in order.
    pub async fn stop(mut self) {
        self.accepting.abort();
        if let Some(postgres) = self.postgres.take() {
            let _ = tokio::task::spawn_blocking(move || postgres.stop()).await;
        }
    }
}

impl Drop for Redshift {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Aborting this task drops the set, and with it every session.
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    sessions.spawn(session::serve(socket, Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the Redshift stand-in could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}
