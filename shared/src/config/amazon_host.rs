//! What the host names tell that Amazon gives to clusters and workgroups:
//! <https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-from-psql.html>,
//! <https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-connecting.html>.

use crate::config::keys::Redshift;

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
