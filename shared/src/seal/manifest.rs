//! The manifest that COPY reads.

use serde::{Deserialize, Serialize};

/// Redshift's manifest: exactly one JSON object, UTF-8, never compressed.
/// <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files, each loaded once; one that is listed twice would load twice.
    pub entries: Vec<ManifestEntry>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// `s3://bucket/key`.
    pub url: String,
    /// Always true here: without it COPY passes over a file that is missing.
    pub mandatory: bool,
}

impl Manifest {
    /// The manifest of these keys in `bucket`, every one of them mandatory.
    pub fn of<'k>(bucket: &str, keys: impl IntoIterator<Item = &'k str>) -> Self {
        let entry = |key| ManifestEntry { url: format!("s3://{bucket}/{key}"), mandatory: true };
        Self { entries: keys.into_iter().map(entry).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_a_manifest_is_mandatory() {
        let manifest = Manifest::of("b", ["k/0.csv", "k/1.csv"]);
        let json = serde_json::to_string(&manifest).unwrap();
        let entry = |n| format!(r#"{{"url":"s3://b/k/{n}.csv","mandatory":true}}"#);
        assert_eq!(json, format!(r#"{{"entries":[{},{}]}}"#, entry(0), entry(1)));
    }
}
