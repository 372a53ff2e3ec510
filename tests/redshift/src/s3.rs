//! The S3 a COPY reads from.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::{Builder, tls};

use crate::Options;

/// A bucket and a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl Location {
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (bucket, key) = url.strip_prefix("s3://")?.split_once('/')?;
        let whole = !bucket.is_empty() && !key.is_empty();
        whole.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// S3 said no. `Display` is Redshift's wording of it.
#[derive(Debug, Clone)]
pub(crate) struct S3Error {
    status: u16,
    code: String,
    message: String,
    request: String,
}

impl S3Error {
    pub(crate) fn is_missing(&self) -> bool {
        self.status == 404 && self.code != "NoSuchBucket"
    }

    /// The body of an answer ended early.
    pub(crate) fn broken(why: &str) -> Self {
        Self { status: 200, code: "Curl".to_owned(), message: why.to_owned(), request: "0".to_owned() }
    }

    /// What a request to a bucket in another region gets.
    pub(crate) fn wrong_region(bucket: &str, region: &str) -> Self {
        Self {
            status: 301,
            code: "PermanentRedirect".to_owned(),
            message: format!(
                "The bucket {bucket} you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint. Its region is {region}."
            ),
            request: "0".to_owned(),
        }
    }
}

impl std::fmt::Display for S3Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, code, message, request } = self;
        write!(
            f,
            "S3ServiceException:{message},Status {status},Error {code},Rid {request},ExtRid 0,CanRetry 1"
        )
    }
}

impl<E> From<SdkError<E>> for S3Error
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let request = error.request_id().unwrap_or("0").to_owned();
        let (code, message) = match error.as_service_error() {
            Some(said) => {
                let code = said.code().unwrap_or("Unknown");
                // An S3 that says less than Amazon's is given Amazon's words.
                let usual = match code {
                    "NoSuchKey" => "The specified key does not exist.",
                    "NoSuchBucket" => "The specified bucket does not exist",
                    "AccessDenied" => "Access Denied",
                    "SlowDown" => "Please reduce your request rate.",
                    _ => "Unknown",
                };
                (code, said.message().unwrap_or(usual).to_owned())
            }
            None => ("Curl", aws_sdk_s3::error::DisplayErrorContext(&error).to_string()),
        };
        Self { status, code: code.to_owned(), message, request }
    }
}

/// A client of the S3 stand-in. It does not retry, so that S3's faults come through.
pub(crate) fn client(options: &Options) -> Client {
    let credentials =
        Credentials::new(&options.s3_access_key, &options.s3_secret_key, None, None, "redshift");
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(&options.s3_endpoint)
        .region(Region::new(options.s3_region.clone()))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// Starts to read an object.
pub(crate) async fn get(client: &Client, at: &Location) -> Result<ByteStream, S3Error> {
    let answer = client.get_object().bucket(&at.bucket).key(&at.key).send().await?;
    Ok(answer.body)
}

/// The keys with a prefix, in order.
pub(crate) async fn list(client: &Client, prefix: &Location) -> Result<Vec<Location>, S3Error> {
    let mut found = Vec::new();
    let mut pages =
        client.list_objects_v2().bucket(&prefix.bucket).prefix(&prefix.key).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page?.contents.unwrap_or_default() {
            let key = object.key.unwrap_or_default();
            found.push(Location { bucket: prefix.bucket.clone(), key });
        }
    }
    Ok(found)
}
