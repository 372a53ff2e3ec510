//! Which files a COPY reads: those of a manifest, or those under a prefix.
//!
//! <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>

use aws_sdk_s3::Client;
use serde::Deserialize;

use super::options::CopyStatement;
use crate::errors::{SqlError, Where};
use crate::s3::{self, Location, S3Error};

#[derive(Deserialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    url: String,
    #[serde(default)]
    mandatory: bool,
}

/// A file to load.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) at: Location,
    pub(crate) mandatory: bool,
}

/// The files in the order in which they are read. One listed twice loads twice.
pub(crate) async fn find(
    s3: &Client,
    copy: &CopyStatement,
    query: i64,
    pid: i32,
) -> Result<Vec<File>, SqlError> {
    let failed = |message: String, context: &str| {
        SqlError::block(message, &Where { code: 8001, context, query, location: "s3_utility.cpp:672", pid })
    };
    if copy.manifest {
        let whole = Location::parse(&copy.from).filter(|at| !at.key.ends_with('/'));
        let at = whole.ok_or_else(|| {
            failed("COPY with MANIFEST parameter requires full path of an S3 object.".to_owned(), "")
        })?;
        let context = format!("Reading manifest {at}");
        let bytes = read(s3, &at)
            .await
            .map_err(|why| failed(format!("Problem reading manifest file - {why}"), &context))?;
        return parse_manifest(&bytes)
            .map_err(|why| failed(format!("Problem reading manifest file - {why}"), &context));
    }
    // The key is a prefix, and may be none at all.
    let (bucket, key) =
        copy.from.trim_start_matches("s3://").split_once('/').unwrap_or((&copy.from[5..], ""));
    let prefix = Location { bucket: bucket.to_owned(), key: key.to_owned() };
    let context = format!("Listing bucket={bucket} prefix={key}");
    let found = s3::list(s3, &prefix).await.map_err(|why| failed(why.to_string(), &context))?;
    if found.is_empty() {
        return Err(failed(format!("The specified S3 prefix '{key}' does not exist"), &context));
    }
    Ok(found.into_iter().map(|at| File { at, mandatory: true }).collect())
}

async fn read(s3: &Client, at: &Location) -> Result<Vec<u8>, S3Error> {
    let body = s3::get(s3, at).await?;
    let bytes = body.collect().await.map_err(|error| S3Error::broken(&error.to_string()))?;
    Ok(bytes.to_vec())
}

/// Exactly one JSON object.
fn parse_manifest(bytes: &[u8]) -> Result<Vec<File>, String> {
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| format!("Invalid JSON structure found: {error}"))?;
    if manifest.entries.is_empty() {
        return Err("The manifest has no entries".to_owned());
    }
    let files = manifest.entries.into_iter().map(|entry| {
        let at = Location::parse(&entry.url).ok_or_else(|| format!("Invalid URL {}", entry.url))?;
        Ok(File { at, mandatory: entry.mandatory })
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_one_object_and_mandatory_defaults_to_false() {
        let files = parse_manifest(
            br#"{"entries":[{"url":"s3://b/k/0.csv","mandatory":true},{"url":"s3://b/x","meta":{"content_length":9}}]}"#,
        );
        let files = files.unwrap();
        assert_eq!((files[0].at.key.as_str(), files[0].mandatory), ("k/0.csv", true));
        assert!(!files[1].mandatory);
        for bad in
            ["", "[]", r#"{"entries":[]}{}"#, r#"{"entries":[{"url":"http://b/k"}]}"#, r#"{"files":[]}"#]
        {
            assert!(parse_manifest(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
