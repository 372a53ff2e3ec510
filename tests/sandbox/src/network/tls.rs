//! TLS in front of a stand-in that speaks none, by certificates of an authority of our own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An authority, and the servers' certificates that it signs.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// An authority of this name.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(vec![])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// What a client must trust.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server of these names, whose certificate ends with the beginning of that year.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[&str], until_year: i32) -> anyhow::Result<Arc<ServerConfig>> {
        let mut params = CertificateParams::new(vec![])?;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}

/// Speaks TLS in front of a neighbour. Dropping it takes in nobody any more.
#[derive(Debug)]
pub struct Terminator {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Terminator {
    /// Speaks TLS in front of whoever listens there.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(neighbour: SocketAddr, tls: Arc<ServerConfig>) -> std::io::Result<Self> {
        let (listener, tls) = (TcpListener::bind("127.0.0.1:0").await?, TlsAcceptor::from(tls));
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let tls = tls.clone();
                tokio::spawn(async move {
                    let _ = client.set_nodelay(true);
                    let mut inside = tls.accept(client).await?;
                    let mut behind = TcpStream::connect(neighbour).await?;
                    behind.set_nodelay(true)?;
                    copy_bidirectional(&mut inside, &mut behind).await
                });
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
