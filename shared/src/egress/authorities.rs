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
    pub(super) fn named(&self) -> Option<String> {
        let variables = [("SSL_CERT_FILE", &self.file), ("SSL_CERT_DIR", &self.dir)];
        let set = variables.iter().filter_map(|(name, path)| Some((name, path.as_ref()?.display())));
        let set: Vec<_> = set.map(|(name, path)| format!("{name} {path}")).collect();
        (!set.is_empty()).then(|| format!("those of {}", set.join(" and ")))
    }

    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let Some(named) = self.named() else { return Ok(()) };
        let found = rustls_native_certs::load_certs_from_paths(self.file.as_deref(), self.dir.as_deref());
        // Skip one that rustls does not take, as is done with the system's: the others are still good.
        let usable = |der: &Vec<u8>| RootCertStore::empty().add(der.as_slice().into()).is_ok();
        let der: Vec<_> = found.certs.iter().map(|found| found.as_ref().to_vec()).filter(usable).collect();
        if der.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
            let error = anyhow::anyhow!("no usable certificate (PEM) among {named}{why}");
            return Err(Failure::new(Exit::Config, error));
        }
        let text: String = der.iter().map(|der| pem(der)).collect();
        let trust = TrustStore::empty().with_pem_certificate(text);
        // Built here, where it can fail: a client without it would trust the system's authorities.
        let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("the HTTP client does not take {named}: {error}"))
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
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_certificate_reads_back_from_its_one_line() {
        let der: Vec<u8> = (0..3_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = pem(&der) + &pem(&der);
        let read = CertificateDer::pem_slice_iter(text.as_bytes()).map(|found| found.unwrap().to_vec());
        assert_eq!(read.collect::<Vec<_>>(), [der.clone(), der]);
    }
}
