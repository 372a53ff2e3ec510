//! The one TLS implementation of the process: rustls with ring.

/// Makes ring the provider of every TLS client. `main` calls it before anything connects.
pub fn install() {
    // The error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
