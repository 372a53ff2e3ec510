//! Opens connections: time limits, keep-alive, and TLS that checks chain and host name.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use shared::boxed::Boxed;
use shared::clock::Clock;
use shared::config::{Config, Tls};
use shared::exit::{Exit, Failure};
use shared::lock::locked;
use state::status::activity::Reporter;
use tokio::io::DuplexStream;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::redshift::answer::SqlFailure;
use crate::redshift::login::{Credential, Login};
use crate::redshift::session::Session;

/// The kernel notices a dead peer within a minute, also while a long COPY runs: after this silence it sends probes, and
/// it gives the connection up at the first probe due after [`UNANSWERED`] without an answer (with `TCP_USER_TIMEOUT` set
/// it does not count probes). The library's default is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const UNANSWERED: Duration = Duration::from_secs(45);

/// Opens a stream whose other end a simulation in this process answers.
pub type Dial = Arc<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>;

/// How to reach Redshift. No `Debug`: it holds the password.
#[derive(Clone)]
pub struct Connector {
    /// All clones have the same one.
    login: Arc<Mutex<Login>>,
    config: tokio_postgres::Config,
    /// Host and port, for messages.
    place: String,
    tls: Option<MakeRustlsConnect>,
    /// In the place of TCP.
    dial: Option<Dial>,
    connect_timeout: Duration,
    statement_timeout: Duration,
    clock: Clock,
    reporter: Option<Reporter>,
}

impl Connector {
    /// Prepares connections that Redshift shows under the name `application`. Nothing is sent yet. Fails when the
    /// certificates to trust cannot be read.
    pub fn new(config: &Config, application: &str, clock: Clock) -> Result<Self, Failure> {
        let (login, redshift) = (Arc::new(Mutex::new(Login::new(config, clock.clone()))), &config.redshift);
        let tls = match redshift.tls {
            Tls::Disable => None,
            Tls::VerifyFull => Some(MakeRustlsConnect::new(client_config(&redshift.ca_file)?)),
        };
        let mut config = tokio_postgres::Config::new();
        config
            .host(&redshift.host)
            .port(redshift.port)
            .dbname(&redshift.database)
            .application_name(application)
            // The library knows no `verify-full`; with `require` the rustls connector checks chain and name anyway.
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(redshift.connect_timeout.0)
            .tcp_user_timeout(UNANSWERED)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL);
        Ok(Self {
            login,
            config,
            place: format!("{}:{}", redshift.host, redshift.port),
            tls,
            dial: None,
            connect_timeout: redshift.connect_timeout.0,
            statement_timeout: redshift.statement_timeout.0,
            clock,
            reporter: None,
        })
    }

    /// Reaches by `dial` what stands for Redshift, without TCP and TLS.
    pub fn through(self, dial: Dial) -> Self {
        Self { dial: Some(dial), ..self }
    }

    /// With a place to show the connecting, and the statements of the sessions.
    pub fn reporting(self, reporter: Reporter) -> Self {
        Self { reporter: Some(reporter), ..self }
    }

    /// How a connection logs in now.
    pub(crate) fn login(&self) -> Login {
        locked(&self.login).clone()
    }

    /// Logs in as this from now on, in every clone. Sessions that are open stay.
    pub(crate) fn take_login(&self, login: Login) {
        *locked(&self.login) = login;
    }

    /// The credential that a connection would be opened with now.
    pub(crate) async fn credential(&self) -> Result<Credential, SqlFailure> {
        Ok(self.login().credential(self.connect_timeout).await?.0)
    }

    /// Opens a session, with its time limit set. Fails when Redshift does not answer within `redshift.connect_timeout`.
    pub fn open(&self) -> Boxed<'_, Result<Session, SqlFailure>> {
        Box::pin(async {
            if let Some(reporter) = &self.reporter {
                reporter.begins("connecting to Redshift");
            }
            let login = self.login();
            let (credential, fresh) = login.credential(self.connect_timeout).await?;
            let opened = self.open_as(&credential).await;
            match &opened {
                Err(refusal) if credential.life.is_some() && refusal.is_login() => {
                    login.refused(&credential).await;
                    if fresh {
                        return opened;
                    }
                    // It ended earlier than AWS said, or Redshift's clock is ahead.
                    tracing::info!(%refusal, "Redshift refused a password that AWS gave out earlier: asking for a new one");
                    let (credential, _) = login.credential(self.connect_timeout).await?;
                    self.open_as(&credential).await
                }
                _ => opened,
            }
        })
    }

    async fn open_as(&self, credential: &Credential) -> Result<Session, SqlFailure> {
        let opening = async {
            let limit = self.statement_timeout;
            let mut config = self.config.clone();
            config.user(&credential.user).password(credential.password.reveal());
            let (clock, reporter) = (self.clock.clone(), self.reporter.clone());
            let mut session = match (&self.dial, &self.tls) {
                (Some(dial), _) => {
                    let stream = dial().map_err(|error| SqlFailure::lost(error.to_string()))?;
                    let (client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await?;
                    Session::start(client, connection, None, limit, clock, reporter)
                }
                (None, Some(tls)) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    Session::start(client, connection, Some(tls.clone()), limit, clock, reporter)
                }
                (None, None) => {
                    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                    Session::start(client, connection, None, limit, clock, reporter)
                }
            };
            session.prepare().await?;
            Ok(session)
        };
        let limit = self.connect_timeout;
        let opened = tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            let limit = shared::human::duration(limit);
            Err(SqlFailure::lost(format!("no connection within {limit} (redshift.connect_timeout)")))
        });
        opened.map_err(|failure| match failure {
            SqlFailure::Lost(why) => SqlFailure::lost(format!(
                "cannot connect to Redshift at {} (redshift.host, redshift.port): {why}",
                self.place
            )),
            failure @ (SqlFailure::Refused { .. } | SqlFailure::NoPassword { .. }) => failure,
        })
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
    let fail = |what: &dyn Display| {
        Failure::new(Exit::Config, anyhow::anyhow!("redshift.ca_file: {}: {what}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fail(&error))? {
        roots.add(certificate.map_err(|error| fail(&error))?).map_err(|error| fail(&error))?;
    }
    if roots.is_empty() { Err(fail(&"holds no certificate (PEM)")) } else { Ok(roots) }
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
