//! Files, sockets and addresses that follow from the keys.

use std::path::PathBuf;

use url::{Host, Url};

use crate::config::keys::{Config, S3};

impl Config {
    /// Where the producer keeps its token across restarts.
    pub fn token_cache(&self) -> PathBuf {
        if self.adobe.token_cache.as_os_str().is_empty() {
            self.log.dir.join("token.json")
        } else {
            self.adobe.token_cache.clone()
        }
    }

    /// Where the producer answers questions about its log.
    pub fn producer_socket(&self) -> PathBuf {
        if self.ingester.feed.as_os_str().is_empty() {
            self.log.dir.join("feed.sock")
        } else {
            self.ingester.feed.clone()
        }
    }

    /// Where the ingester answers questions about its bookkeeping.
    pub fn ingester_socket(&self) -> PathBuf {
        self.ingester.dir.join("feed.sock")
    }
}

impl S3 {
    /// Where its requests go, by the names an operator knows.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let china = if self.region.starts_with("cn-") { ".cn" } else { "" };
        let amazons = |service: &str| format!("https://{service}.{}.amazonaws.com{china}", self.region);
        let or = |given: &str, amazons: String| if given.is_empty() { amazons } else { given.to_owned() };
        let mut addresses = vec![("S3", self.of_bucket(or(&self.endpoint, amazons("s3"))))];
        if !self.role_arn.is_empty() {
            addresses.push(("STS", or(&self.sts_endpoint, amazons("sts"))));
        }
        addresses
    }

    /// The SDK puts the bucket in front of the host unless its name has a dot, which no wildcard certificate covers.
    fn of_bucket(&self, store: String) -> String {
        let bucket = &self.bucket;
        let in_front = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.path_style || !bucket.chars().all(in_front) {
            return store;
        }
        let Ok(mut url) = Url::parse(&store) else { return store };
        let Some(Host::Domain(host)) = url.host() else { return store };
        let host = format!("{bucket}.{host}");
        if url.set_host(Some(&host)).is_ok() { url.to_string() } else { store }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::choices::Secrets;

    #[test]
    fn the_address_of_s3_is_that_of_the_bucket_where_the_sdk_puts_it_in_front() {
        let example = include_str!("../../../deploy/pipeline.example.toml");
        let address = |lines: &str| {
            let text = example.replace("bucket = \"example-livestream\"\n", lines);
            let config = Config::parse(&text, Path::new("p"), std::iter::empty(), Secrets::Ingester);
            config.unwrap().s3.addresses()[0].1.clone()
        };
        let (amazons, bucket) = ("s3.eu-central-1.amazonaws.com", "bucket = \"b-1\"\n");
        let with = |line: &str| address(&format!("{bucket}{line}\n"));
        assert_eq!(with(""), format!("https://b-1.{amazons}/"));
        assert_eq!(with("path_style = true"), format!("https://{amazons}"));
        assert_eq!(address("bucket = \"with.dots\"\n"), format!("https://{amazons}"));
        let store = "endpoint = \"https://store.example:9000\"";
        assert_eq!(with(store), "https://b-1.store.example:9000/");
        assert_eq!(with("endpoint = \"http://127.0.0.1:9000\""), "http://127.0.0.1:9000");
    }
}
