//! The client for what is not of AWS: Adobe, and whom alerts are sent to.

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};

use crate::egress::environment::Egress;

impl Egress {
    /// A client of HTTP/1.1 that takes this way out, follows no redirect and says nothing of where it came from.
    pub fn http_client(&self) -> reqwest::Result<ClientBuilder> {
        // reqwest must not search for proxies itself: every client of the product takes the same way out.
        let mut builder = Client::builder().no_proxy();
        if let Some((address, direct)) = self.proxy() {
            let direct = NoProxy::from_string(direct);
            builder = builder.proxy(Proxy::https(address.reveal())?.no_proxy(direct));
        }
        if let Some(certificates) = self.certificates() {
            let certificates = certificates.iter().map(|der| Certificate::from_der(der));
            builder = builder.tls_certs_only(certificates.collect::<reqwest::Result<Vec<_>>>()?);
        }
        Ok(builder.http1_only().redirect(Policy::none()).referer(false))
    }
}
