//! A bucket in memory, and the end of the SDK's connection to it: requests are answered in the process, in the SDK's own
//! protocol.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use aws_config::SdkConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::percent_decode_str;
use shared::object_store::crc32;

use crate::outside::{Fate, Later, Outside, World};

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Object>,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Bytes,
    written: DateTime<Utc>,
}

impl Object {
    fn etag(&self) -> String {
        format!("\"{}\"", crc32(&self.content).replace(['=', '+', '/'], "0"))
    }
}

/// A request that changes something.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put { key: String, content: Bytes },
    Copy { from: String, to: String },
    Delete { key: String },
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, .. } => write!(f, "PUT {}", shown(key)),
            Self::Copy { to, .. } => write!(f, "COPY {}", shown(to)),
            Self::Delete { key } => write!(f, "DELETE {}", shown(key)),
        }
    }
}

/// A combined manifest is named after the ids of its batches.
fn shown(key: &str) -> &str {
    if key.starts_with("Loads/") { "Loads/" } else { key }
}

impl Bucket {
    pub(crate) fn carry_out(&mut self, write: Write, now: DateTime<Utc>) {
        match write {
            Write::Put { key, content } => {
                self.objects.insert(key, Object { content, written: now });
            }
            Write::Copy { from, to } => {
                if let Some(object) = self.objects.get(&from).cloned() {
                    self.objects.insert(to, Object { written: now, ..object });
                }
            }
            Write::Delete { key } => {
                self.objects.remove(&key);
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key).map(|object| &object.content)
    }
}

/// One process's connection.
#[derive(Debug, Clone)]
struct Connection {
    world: World,
    whose: &'static str,
}

/// The SDK's configuration of a process. It does not retry: that would take real time.
pub(crate) fn sdk(world: &World, whose: &'static str) -> SdkConfig {
    let connection = Connection { world: world.clone(), whose };
    let client = http_client_fn(move |_, _| SharedHttpConnector::new(connection.clone()));
    let credential = Credentials::new("key", "secret", None, None, "simulation");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credential))
        .http_client(client)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

/// What the client hears.
enum Answer {
    Says(Box<HttpResponse>),
    Nothing,
    /// The client is gone.
    Never,
}

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match answer(&mut self.world.get(), self.whose, &request) {
            Answer::Says(response) => HttpConnectorFuture::ready(Ok(*response)),
            Answer::Nothing => HttpConnectorFuture::ready(Err(ConnectorError::io("connection reset".into()))),
            Answer::Never => HttpConnectorFuture::new(std::future::pending()),
        }
    }
}

/// What a request asks for.
enum Asked {
    Read { key: String, head: bool },
    List { prefix: String },
    Write { write: Write, if_none: bool },
}

fn asked(request: &HttpRequest) -> Asked {
    let uri = request.uri();
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let key = path.split_once('/').map(|(_, key)| decoded(key)).unwrap_or_default();
    let header = |name: &str| request.headers().get(name).map(str::to_owned);
    match request.method() {
        "GET" if key.is_empty() => {
            let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
            Asked::List { prefix: decoded(prefix.unwrap_or_default()) }
        }
        "GET" => Asked::Read { key, head: false },
        "HEAD" => Asked::Read { key, head: true },
        "DELETE" => Asked::Write { write: Write::Delete { key }, if_none: false },
        "PUT" => {
            let write = match header("x-amz-copy-source") {
                Some(from) => {
                    let from = decoded(from.trim_start_matches('/'));
                    let from = from.split_once('/').map(|(_, key)| key.to_owned()).unwrap_or_default();
                    Write::Copy { from, to: key }
                }
                None => {
                    let content = Bytes::copy_from_slice(request.body().bytes().expect("a body in memory"));
                    Write::Put { key, content }
                }
            };
            Asked::Write { write, if_none: header("if-none-match").is_some() }
        }
        other => panic!("S3 was sent {other} {uri}"),
    }
}

fn answer(outside: &mut Outside, whose: &'static str, request: &HttpRequest) -> Answer {
    let asked = asked(request);
    let what = match &asked {
        Asked::Read { key, head: false } => format!("GET {}", shown(key)),
        Asked::Read { key, head: true } => format!("HEAD {}", shown(key)),
        Asked::List { prefix } => format!("LIST {prefix}"),
        Asked::Write { write, .. } => write.to_string(),
    };
    if let (Asked::List { prefix }, "ingester") = (&asked, whose) {
        let at = outside.clock.steady();
        outside.listings.push((at, prefix.clone()));
    }
    if outside.s3_away {
        outside.note(format_args!("{whose} {what}: away"));
        return Answer::Nothing;
    }
    let decides =
        matches!(&asked, Asked::Write { write: Write::Put { key, .. }, .. } if key.ends_with("/batch.json"));
    let fate = outside.fate(decides);
    outside.note(format_args!("{whose} {what}: {fate:?}"));
    match fate {
        Fate::Fine => Answer::Says(Box::new(carry_out(outside, asked))),
        Fate::Refused(kind) => {
            let (name, status, code) = match kind {
                0 => ("S3 refuses: access denied", 403, "AccessDenied"),
                1 => ("S3 refuses: internal error", 500, "InternalError"),
                _ => ("S3 refuses: slow down", 503, "SlowDown"),
            };
            outside.met(name);
            Answer::Says(Box::new(refusal(status, code)))
        }
        Fate::LostBefore => {
            outside.met("S3 request lost");
            Answer::Nothing
        }
        Fate::LostAfter => {
            outside.met("S3 answer lost");
            carry_out(outside, asked);
            Answer::Nothing
        }
        Fate::Held => {
            outside.met("S3 request late");
            if let Asked::Write { write, if_none: false } = asked {
                outside.happens_later(Later::Write(write));
            }
            Answer::Nothing
        }
        Fate::KilledBefore => {
            outside.met("killed before an S3 request");
            outside.kill();
            Answer::Never
        }
        Fate::KilledAfter => {
            outside.met("killed after an S3 request");
            carry_out(outside, asked);
            outside.kill();
            Answer::Never
        }
    }
}

fn carry_out(outside: &mut Outside, asked: Asked) -> HttpResponse {
    let now = outside.clock.wall();
    let bucket = &mut outside.bucket;
    match asked {
        Asked::Read { key, head } => match bucket.objects.get(&key) {
            None => refusal(404, "NoSuchKey"),
            Some(object) => {
                let body = if head { Bytes::new() } else { object.content.clone() };
                let mut response = response(200, SdkBody::from(body));
                response.headers_mut().insert("etag", object.etag());
                response.headers_mut().insert("content-length", object.content.len().to_string());
                response.headers_mut().insert("x-amz-checksum-crc32", crc32(&object.content));
                response
            }
        },
        Asked::List { prefix } => response(200, SdkBody::from(list(bucket, &prefix))),
        Asked::Write { write: Write::Put { key, .. }, if_none: true }
            if bucket.objects.contains_key(&key) =>
        {
            refusal(412, "PreconditionFailed")
        }
        Asked::Write { write: Write::Copy { from, .. }, .. } if !bucket.objects.contains_key(&from) => {
            refusal(404, "NoSuchKey")
        }
        Asked::Write { write, .. } => {
            bucket.carry_out(write.clone(), now);
            match write {
                Write::Put { key, .. } => {
                    let mut response = response(200, SdkBody::empty());
                    response.headers_mut().insert("etag", bucket.objects[&key].etag());
                    response
                }
                Write::Copy { .. } => {
                    response(200, SdkBody::from("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"))
                }
                Write::Delete { .. } => response(204, SdkBody::empty()),
            }
        }
    }
}

fn list(bucket: &Bucket, prefix: &str) -> String {
    let mut xml = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    let below = bucket.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
    for (key, object) in below {
        let (etag, size) = (object.etag().replace('"', "&quot;"), object.content.len());
        let written = object.written.to_rfc3339_opts(SecondsFormat::Millis, true);
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>{written}</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents>"
        );
    }
    xml + "</ListBucketResult>"
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    response(status, SdkBody::from(format!("<Error><Code>{code}</Code><Message>simulated</Message></Error>")))
}

fn response(status: u16, body: SdkBody) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), body)
}
