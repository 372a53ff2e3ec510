//! The one TLS implementation of the process: rustls with ring.

/// Makes ring the provider of every TLS client in this process; calling it again changes nothing. `main` calls it
/// before anything connects, because the HTTP client is built without a provider of its own.
pub fn install() {
    // The error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
