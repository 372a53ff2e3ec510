//! Files, sockets, addresses, names and columns that follow from the keys. Host names of Amazon:
//! <https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-from-psql.html>,
//! <https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-connecting.html>.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use url::Host;
use url::Url;

use crate::config::keys::{Config, Redshift, S3, SchemaSection};
use crate::config::problems::unreadable;
use crate::exit::{Exit, Failure};
use crate::schema::{EVENTS, Schema};

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

    /// Where the ingester answers questions about its load store.
    pub fn ingester_socket(&self) -> PathBuf {
        self.ingester.dir.join("feed.sock")
    }
}

impl S3 {
    /// Where its requests go, by the names an operator knows.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = vec![("S3", self.of_bucket(self.address()))];
        if !self.role_arn.is_empty() {
            addresses.push(("STS", self.or_amazons(&self.sts_endpoint, "sts")));
        }
        addresses
    }

    /// The address of the store, whatever the bucket.
    pub(crate) fn address(&self) -> String {
        self.or_amazons(&self.endpoint, "s3")
    }

    fn or_amazons(&self, given: &str, service: &str) -> String {
        let china = if self.region.starts_with("cn-") { ".cn" } else { "" };
        if given.is_empty() {
            format!("https://{service}.{}.amazonaws.com{china}", self.region)
        } else {
            given.to_owned()
        }
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

impl SchemaSection {
    /// The events that are columns of the built-in schema, from `"1..1000"`; None if it is no such range.
    pub fn event_range(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self.events.split_once("..")?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1 <= first && first <= last && last <= 1000).then_some(first..=last)
    }

    /// The columns of the table: those of `schema.file`, or the built-in ones, or both.
    pub fn load(&self) -> Result<Schema, Failure> {
        let built_in = Schema::built_in(self.event_range().unwrap_or(EVENTS));
        if self.file.as_os_str().is_empty() {
            return Ok(built_in);
        }
        let text =
            std::fs::read_to_string(&self.file).map_err(|error| unreadable("schema", &self.file, &error))?;
        Schema::from_toml_on(&built_in, &text, &self.file.display().to_string())
            .map_err(|error| Failure::new(Exit::Config, error))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct AmazonHost<'h> {
    name: &'h str,
    region: &'h str,
    serverless: bool,
}

impl<'h> AmazonHost<'h> {
    fn parse(host: &'h str) -> Option<Self> {
        let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
        let [name, _, region, service, "amazonaws", "com", rest @ ..] = labels.as_slice() else {
            return None;
        };
        let serverless = match *service {
            "redshift" => false,
            "redshift-serverless" => true,
            _ => return None,
        };
        matches!(rest, [] | ["cn"]).then_some(Self { name, region, serverless })
    }
}

impl Redshift {
    fn named(&self, given: &str, serverless: bool) -> Option<String> {
        if !given.is_empty() {
            return Some(given.to_owned());
        }
        let host = AmazonHost::parse(&self.host).filter(|host| host.serverless == serverless)?;
        Some(host.name.to_owned())
    }

    /// The identifier of the cluster, if it is known.
    pub fn cluster(&self) -> Option<String> {
        self.named(&self.cluster, false)
    }

    /// The name of the workgroup, if it is known.
    pub fn workgroup(&self) -> Option<String> {
        self.named(&self.workgroup, true)
    }

    /// The region of the cluster or workgroup; `otherwise` where nothing tells it.
    pub fn region<'r>(&'r self, otherwise: &'r str) -> &'r str {
        if !self.region.is_empty() {
            return &self.region;
        }
        AmazonHost::parse(&self.host).map_or(otherwise, |host| host.region)
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

#[cfg(test)]
mod amazon_host_tests {
    use super::*;

    #[test]
    fn amazons_names_tell_cluster_or_workgroup_and_region() {
        let parsed = |host| AmazonHost::parse(host).map(|host| (host.name, host.region, host.serverless));
        assert_eq!(
            parsed("example.abc123.eu-central-1.redshift.amazonaws.com"),
            Some(("example", "eu-central-1", false))
        );
        assert_eq!(
            parsed("wg.123456789012.us-east-1.redshift-serverless.amazonaws.com"),
            Some(("wg", "us-east-1", true))
        );
        assert_eq!(
            parsed("example.abc123.cn-north-1.redshift.amazonaws.com.cn"),
            Some(("example", "cn-north-1", false))
        );
        for other in [
            "localhost",
            "warehouse.example.com",
            "a.b.c.rds.amazonaws.com",
            "a.b.c.redshift.amazonaws.com.evil",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
