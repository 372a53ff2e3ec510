//! The authorities that are trusted in place of the system's: SSL_CERT_FILE and SSL_CERT_DIR.

use std::path::PathBuf;
use std::sync::Arc;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine;
use rustls::RootCertStore;

use crate::exit::{Exit, Failure};

#[derive(Debug, Clone, Default)]
pub(super) struct Authorities {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    read: Option<Arc<Read>>,
}

/// Certificates, in the forms that the HTTP clients take.
#[derive(Debug)]
struct Read {
    der: Vec<Vec<u8>>,
    context: TlsContext,
}

impl Authorities {
    pub(super) fn new(file: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Self { file, dir, read: None }
    }

    /// Which are named, for an operator. None for the system's.
    pub(super) fn told(&self) -> Option<String> {
        let named = [("SSL_CERT_FILE", &self.file), ("SSL_CERT_DIR", &self.dir)];
        let told: Vec<_> = named
            .iter()
            .filter_map(|(name, path)| path.as_ref().map(|path| format!("{name} {}", path.display())))
            .collect();
        (!told.is_empty()).then(|| format!("those of {}", told.join(" and ")))
    }

    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let Some(told) = self.told() else { return Ok(()) };
        let found = rustls_native_certs::load_certs_from_paths(self.file.as_deref(), self.dir.as_deref());
        // One that rustls does not take is left out, as it is of the system's: the others are still good.
        let usable = |der: &Vec<u8>| RootCertStore::empty().add(der.as_slice().into()).is_ok();
        let der: Vec<_> = found.certs.iter().map(|found| found.as_ref().to_vec()).filter(usable).collect();
        if der.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
            let error = anyhow::anyhow!("no usable certificate (PEM) among {told}{why}");
            return Err(Failure::new(Exit::Config, error));
        }
        let text: String = der.iter().map(|der| pem(der)).collect();
        let trust = TrustStore::empty().with_pem_certificate(text);
        // Built here, where it can fail: a client without it would trust the system's authorities.
        let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("the HTTP client does not take {told}: {error}"))
        })?;
        self.read = Some(Arc::new(Read { der, context }));
        Ok(())
    }

    pub(super) fn certificates(&self) -> Option<&[Vec<u8>]> {
        self.read.as_ref().map(|read| read.der.as_slice())
    }

    pub(super) fn context(&self) -> Option<&TlsContext> {
        self.read.as_ref().map(|read| &read.context)
    }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem + "-----END CERTIFICATE-----\n"
}
