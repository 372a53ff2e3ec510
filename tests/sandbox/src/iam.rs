//! The part of AWS that gives out passwords for Redshift: three actions behind signed requests. The Redshift stand-in
//! takes the password given out last, while it lives, and no other.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use chrono::{DateTime, NaiveDateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use redshift::Door;
use ring::{digest, hmac};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::s3::access::{Policy, key_of};
use crate::s3::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::standins::{DATABASE, USER};

/// The only cluster, and the only workgroup.
pub const NAME: &str = "sandbox-warehouse";
/// How every password begins that is given out.
pub const PASSWORD_MARK: &str = "given-out&<";

/// A question that was well signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was asked for.
    pub action: String,
    /// With what.
    pub parameters: BTreeMap<String, String>,
}

/// The running stand-in; dropping it stops it.
#[derive(Debug)]
pub struct Iam {
    endpoint: String,
    shared: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    door: Door,
    lifetime: Duration,
    refusals: VecDeque<(u16, &'static str)>,
    asked: Vec<Asked>,
}

fn locked(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Iam {
    /// Serves on a free port, for the door of a Redshift stand-in.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(door: Door) -> anyhow::Result<Self> {
        let lifetime = Duration::from_secs(900);
        let state = State { door, lifetime, refusals: VecDeque::new(), asked: Vec::new() };
        let shared = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("IAM cannot listen")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let answering = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = answering.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, shared.clone()));
                    let _ = Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self { endpoint, shared, accepting })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Passwords given out from now on live so long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        locked(&self.shared).lifetime = lifetime;
    }

    /// Refuses the next question.
    pub fn refuse(&self, status: u16, code: &'static str) {
        locked(&self.shared).refusals.push_back((status, code));
    }

    /// What was asked, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.shared).asked.clone()
    }
}

impl Drop for Iam {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Answer = Result<String, (u16, &'static str, String)>;

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        })
        .collect();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let json = headers.contains_key("x-amz-target");
    let answered = if head.method != "POST" || head.uri.path() != "/" || head.uri.query().is_some() {
        Err((404, "UnknownOperationException", format!("{} {}", head.method, head.uri)))
    } else {
        let service = if json { "redshift-serverless" } else { "redshift" };
        signed(&headers, &body, service)
            .map_err(|why| (403, "SignatureDoesNotMatch", why))
            .and_then(|()| read(&headers, &body))
            .and_then(|asked| give(&shared, asked))
    };
    let (status, text) = match answered {
        Ok(text) => (200, text),
        Err((status, code, message)) if json => (
            status,
            serde_json::json!({ "__type": format!("com.amazonaws#{code}"), "message": message }).to_string(),
        ),
        Err((status, code, message)) => {
            let error =
                format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            (status, format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"))
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

/// Signature Version 4, checked apart from the library that makes it:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
fn signed(headers: &BTreeMap<String, String>, body: &[u8], service: &str) -> Result<(), String> {
    let header = |name: &str| headers.get(name).ok_or_else(|| format!("no header {name}"));
    let rest = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("not AWS4-HMAC-SHA256")?;
    let part = |name: &str| {
        let found = rest.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("no {name} in the authorization"))
    };
    let at = header("x-amz-date")?;
    let time = NaiveDateTime::parse_from_str(at, "%Y%m%dT%H%M%SZ").map_err(|error| error.to_string())?;
    if (Utc::now().naive_utc() - time).num_seconds().abs() > 300 {
        return Err(format!("Signature expired: {at}"));
    }
    let day = &at[..8];
    let scope = format!("{day}/{REGION}/{service}/aws4_request");
    let key = [ACCESS_KEY.to_owned(), key_of("ingester", Some("run")), key_of("ingester", None)];
    if !key.iter().any(|key| part("Credential").is_ok_and(|given| given == format!("{key}/{scope}"))) {
        return Err(format!("the credential is {}", part("Credential")?));
    }
    let names = part("SignedHeaders")?;
    for wanted in ["host", "x-amz-date"] {
        if !names.split(';').any(|name| name == wanted) {
            return Err(format!("{wanted} is not signed"));
        }
    }
    let mut canonical = "POST\n/\n\n".to_owned();
    for name in names.split(';') {
        canonical += &format!("{name}:{}\n", header(name)?);
    }
    canonical += &format!("\n{names}\n{}", hex(digest::digest(&digest::SHA256, body).as_ref()));
    let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}");
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for step in [day, REGION, service, "aws4_request", &text] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes()).as_ref().to_vec();
    }
    if hex(&key) == part("Signature")? { Ok(()) } else { Err("another signature is right".to_owned()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(headers: &BTreeMap<String, String>, body: &[u8]) -> Result<Asked, (u16, &'static str, String)> {
    let content = headers.get("content-type").map_or("", String::as_str);
    if let Some(target) = headers.get("x-amz-target") {
        let invalid = |why: String| (400, "ValidationException", why);
        let action = target.strip_prefix("RedshiftServerless.").unwrap_or_default().to_owned();
        if content != "application/x-amz-json-1.1" {
            return Err(invalid(format!("content-type {content}")));
        }
        let body: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return Ok(Asked {
            action,
            parameters: body.into_iter().map(|(name, value)| (name, text(value))).collect(),
        });
    }
    if content != "application/x-www-form-urlencoded" {
        return Err((400, "InvalidParameterValue", format!("content-type {content}")));
    }
    let mut parameters: BTreeMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
    if parameters.remove("Version").as_deref() != Some("2012-12-01") {
        return Err((400, "InvalidParameterValue", "Version".to_owned()));
    }
    Ok(Asked { action: parameters.remove("Action").unwrap_or_default(), parameters })
}

/// Whether the policy of `deploy/` allows the action, on what it is for there:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html>.
fn allowed(action: &str) -> bool {
    let of = |what: &str| format!("arn:aws:redshift:eu-central-1:123456789012:{what}");
    let database = of("dbname:example/analytics");
    let (service, resources) = match action {
        "GetClusterCredentials" => ("redshift", vec![of("dbuser:example/livestream_loader"), database]),
        "GetClusterCredentialsWithIAM" => ("redshift", vec![database]),
        _ => {
            let workgroup = "workgroup/00000000-0000-0000-0000-000000000000";
            let workgroup = format!("arn:aws:redshift-serverless:eu-central-1:123456789012:{workgroup}");
            ("redshift-serverless", vec![workgroup])
        }
    };
    let policy = Policy::read("iam-redshift-login");
    resources.iter().all(|resource| policy.allows(&format!("{service}:{action}"), resource))
}

/// Gives out a password; parameters it does not know are refused.
fn give(shared: &Mutex<State>, asked: Asked) -> Answer {
    let mut state = locked(shared);
    if let Some((status, code)) = state.refusals.pop_front() {
        let who = format!("User: arn:aws:iam::123456789012:user/{ACCESS_KEY}");
        return Err((status, code, format!("{who} is refused by the script")));
    }
    let (known, missing) = match asked.action.as_str() {
        "GetClusterCredentials" => (
            &["AutoCreate", "ClusterIdentifier", "DbName", "DbUser", "DurationSeconds"][..],
            "ClusterNotFound",
        ),
        "GetClusterCredentialsWithIAM" => {
            (&["ClusterIdentifier", "DbName", "DurationSeconds"][..], "ClusterNotFound")
        }
        "GetCredentials" => {
            (&["dbName", "durationSeconds", "workgroupName"][..], "ResourceNotFoundException")
        }
        other => return Err((400, "UnknownOperationException", other.to_owned())),
    };
    if !allowed(&asked.action) {
        let why = format!("deploy/iam-redshift-login.json lacks {}", asked.action);
        return Err((403, "AccessDenied", why));
    }
    if let Some(odd) = asked.parameters.keys().find(|name| !known.contains(&name.as_str())) {
        return Err((400, "ValidationError", odd.clone()));
    }
    let parameter = |names: [&str; 2]| names.iter().find_map(|name| asked.parameters.get(*name)).cloned();
    let seconds = parameter(["DurationSeconds", "durationSeconds"]).and_then(|text| text.parse::<u32>().ok());
    if parameter(["ClusterIdentifier", "workgroupName"]).as_deref() != Some(NAME) {
        return Err((404, missing, "there is none of this name".to_owned()));
    }
    if !seconds.is_some_and(|seconds| (900..=3600).contains(&seconds)) {
        return Err((400, "ValidationError", "the duration must be 900 to 3600 seconds".to_owned()));
    }
    if parameter(["DbName", "dbName"]).as_deref() != Some(DATABASE) {
        return Err((400, "ValidationError", "the database".to_owned()));
    }
    let user = match asked.action.as_str() {
        "GetClusterCredentials" if asked.parameters.get("DbUser").map(String::as_str) != Some(USER) => {
            return Err((
                403,
                "AccessDenied",
                "not authorized to perform: redshift:GetClusterCredentials".to_owned(),
            ));
        }
        "GetClusterCredentials" => format!("IAM:{USER}"),
        _ => "IAMR:sandbox".to_owned(),
    };
    let action = asked.action.clone();
    state.asked.push(asked);
    let password = format!("{PASSWORD_MARK}{}", state.asked.len());
    let until = SystemTime::now() + state.lifetime;
    state.door.set_key(&user, &password, Some(until));
    let until = DateTime::<Utc>::from(until);
    if action == "GetCredentials" {
        let expiration = until.timestamp_millis() as f64 / 1000.0;
        let refresh = expiration - state.lifetime.as_secs_f64() / 2.0;
        let answer = serde_json::json!({
            "dbUser": user, "dbPassword": password, "expiration": expiration, "nextRefreshTime": refresh,
        });
        return Ok(answer.to_string());
    }
    let password = password.replace('&', "&amp;").replace('<', "&lt;");
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let fields =
        format!("<DbUser>{user}</DbUser><DbPassword>{password}</DbPassword><Expiration>{until}</Expiration>");
    Ok(format!(
        "<{action}Response xmlns=\"http://redshift.amazonaws.com/doc/2012-12-01/\"><{action}Result>{fields}</{action}Result>\
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    ))
}
