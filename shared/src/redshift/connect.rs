//! Opens connections: time limits, keep-alive, and TLS that checks chain and host name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Redshift, Tls};
use crate::exit::{Exit, Failure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::{Session, SqlFailure};

/// A dead peer is noticed after this silence and a few probes: within a minute, also while a COPY runs and nothing
/// is said for long. The library's default is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const UNANSWERED: Duration = Duration::from_secs(60);

/// How to reach Redshift. No `Debug`: it holds the password.
#[derive(Clone)]
pub struct Connector {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    connect_timeout: Duration,
    statement_timeout: Duration,
}

impl Connector {
    /// Prepares connections as `application` says it is. Nothing is sent yet.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read.
    pub fn new(redshift: &Redshift, application: &str) -> Result<Self, Failure> {
        let tls = match redshift.tls {
            Tls::Disable => None,
            Tls::VerifyFull => Some(MakeRustlsConnect::new(client_config(&redshift.ca_file)?)),
        };
        let mut config = tokio_postgres::Config::new();
        config
            .host(&redshift.host)
            .port(redshift.port)
            .dbname(&redshift.database)
            .user(&redshift.user)
            .password(redshift.password.reveal())
            .application_name(application)
            // The library knows no `verify-full`; with `require` the rustls connector checks chain and name anyway.
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(redshift.connect_timeout.0)
            .tcp_user_timeout(UNANSWERED)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        Ok(Self {
            config,
            tls,
            connect_timeout: redshift.connect_timeout.0,
            statement_timeout: redshift.statement_timeout.0,
        })
    }

    /// Opens a session, with its time limit set.
    ///
    /// # Errors
    /// When it cannot be had within the time for connecting, or Redshift refuses it.
    pub async fn open(&self) -> Result<Session, SqlFailure> {
        let opening = async {
            let limit = self.statement_timeout;
            let session = match &self.tls {
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    Session::start(client, connection, Some(tls.clone()), limit)
                }
                None => {
                    let (client, connection) = self.config.connect(tokio_postgres::NoTls).await?;
                    Session::start(client, connection, None, limit)
                }
            };
            session.run(&format!("SET statement_timeout TO {}", limit.as_millis())).await?;
            Ok(session)
        };
        match tokio::time::timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                let limit = crate::human::duration(self.connect_timeout);
                Err(SqlFailure::lost(format!("no connection within {limit} (redshift.connect_timeout)")))
            }
        }
    }
}

fn client_config(ca_file: &Path) -> Result<ClientConfig, Failure> {
    let roots = if ca_file.as_os_str().is_empty() { system_roots()? } else { roots_of(ca_file)? };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots_of(file: &Path) -> Result<RootCertStore, Failure> {
    let fail = |what: String| {
        Failure::new(Exit::Config, anyhow::anyhow!("redshift.ca_file: {}: {what}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fail(error.to_string()))? {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() { Err(fail("holds no certificate (PEM)".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    // A system's store may hold certificates that rustls does not take; the others are still good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let text = "this system has no certificates to trust: install them (package ca-certificates), or name a file \
                    of them in redshift.ca_file";
        return Err(Failure::new(Exit::Config, anyhow::anyhow!(text)));
    }
    Ok(roots)
}
