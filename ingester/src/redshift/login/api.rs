//! A user and a password, and the three actions of AWS that give one out: what is asked, and what the answers say.
//!
//! <https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html>,
//! <https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentialsWithIAM.html>,
//! <https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_GetCredentials.html>

use std::fmt;
use std::time::Duration;

use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use shared::config::{Config, Login, Redshift, S3};
use shared::secret::Secret;
use tokio::sync::OnceCell;

use super::signed::{Api, Reply};
use crate::redshift::answer::SqlFailure;

/// Seconds a password is asked for: the least that AWS gives, and its default.
const SECONDS: u32 = 900;

/// A password is not used when less than this is left of it: opening a connection takes a moment, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The user, as it is sent: AWS puts `IAM:` or `IAMA:` before the name.
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// How long a password of AWS is good; None for a configured one.
    pub(crate) life: Option<Life>,
}

/// How long a password of AWS is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) expires: DateTime<Utc>,
    /// When AWS begins to give out a new one, if AWS says so.
    pub(crate) refresh: Option<DateTime<Utc>>,
}

impl Life {
    /// Whether to ask for a new password: when AWS has one, and a minute before the end. For a password that lives for
    /// less than four minutes from `given`, its last quarter takes the place of the minute.
    pub(super) fn due(self, given: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let margin = MARGIN.min((self.expires - given) / 4);
        now >= self.expires - margin || self.refresh.is_some_and(|refresh| now >= refresh)
    }
}

pub(super) struct PasswordApi {
    s3: S3,
    auth: Login,
    action: &'static str,
    user: String,
    database: String,
    /// The cluster, or the workgroup.
    of: String,
    region: String,
    endpoint: String,
    /// Made with the first request: the AWS chain may have to look for its credentials.
    api: OnceCell<Api>,
}

impl PasswordApi {
    pub(super) fn new(config: &Config) -> Self {
        let redshift = &config.redshift;
        let of = if redshift.auth == Login::Serverless { redshift.workgroup() } else { redshift.cluster() };
        let region = redshift.region(&config.s3.region).to_owned();
        Self {
            s3: config.s3.clone(),
            auth: redshift.auth,
            action: action(redshift.auth).unwrap_or_default(),
            user: redshift.user.clone(),
            database: redshift.database.clone(),
            of: of.unwrap_or_default(),
            endpoint: endpoint(redshift, &region),
            region,
            api: OnceCell::new(),
        }
    }

    pub(super) async fn fetch(&self, limit: Duration) -> Result<Credential, SqlFailure> {
        let failed = |why: String| SqlFailure::NoPassword { action: self.action, why };
        let connect =
            || Api::connect(&self.s3, service(self.auth), self.region.clone(), self.endpoint.clone());
        let api = self.api.get_or_init(connect).await;
        let (headers, body) = self.request();
        let reply = api.post(&headers, body, limit).await.map_err(|error| failed(error.to_string()))?;
        let read = if reply.status == 200 { self.read(&reply) } else { Err(self.refusal(&reply)) };
        read.map_err(failed)
    }

    fn request(&self) -> (Vec<(&'static str, &'static str)>, String) {
        if self.auth == Login::Serverless {
            let body = serde_json::json!({
                "dbName": self.database, "durationSeconds": SECONDS, "workgroupName": self.of,
            });
            let headers = vec![
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", "RedshiftServerless.GetCredentials"),
            ];
            return (headers, body.to_string());
        }
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", self.action).append_pair("Version", "2012-12-01");
        if self.auth == Login::Iam {
            form.append_pair("DbUser", &self.user).append_pair("AutoCreate", "false");
        }
        form.append_pair("DbName", &self.database)
            .append_pair("ClusterIdentifier", &self.of)
            .append_pair("DurationSeconds", &SECONDS.to_string());
        (vec![("content-type", "application/x-www-form-urlencoded")], form.finish())
    }

    fn read(&self, reply: &Reply) -> Result<Credential, String> {
        let read =
            if self.auth == Login::Serverless { from_json(&reply.body) } else { from_xml(&reply.body) };
        let read = read.filter(|read| !read.user.is_empty() && !read.password.is_empty());
        // What could not be read is not shown: it may hold the password.
        read.ok_or_else(|| "its answer is not understood".to_owned())
    }

    fn refusal(&self, reply: &Reply) -> String {
        let (code, message) = if self.auth == Login::Serverless {
            let error: JsonError = serde_json::from_slice(&reply.body).unwrap_or_default();
            (reply.error_type.clone().or(error.kind), error.message)
        } else {
            (xml_text(&reply.body, "Code"), xml_text(&reply.body, "Message"))
        };
        // `namespace#Code:address` in the one spelling or the other.
        let code = code.unwrap_or_default();
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
        let message = message.unwrap_or_default();
        format!("{code} (HTTP status {}) {message}", reply.status).trim().to_owned()
    }
}

/// For people: what is asked, of what.
impl fmt::Display for PasswordApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.auth == Login::Serverless { "workgroup" } else { "cluster" };
        write!(f, "{} for {kind} {} in {}", self.action, self.of, self.region)?;
        if self.auth == Login::Iam { write!(f, " as {}", self.user) } else { Ok(()) }
    }
}

fn service(auth: Login) -> &'static str {
    if auth == Login::Serverless { "redshift-serverless" } else { "redshift" }
}

/// The action of AWS that gives out the password, if AWS does.
fn action(auth: Login) -> Option<&'static str> {
    match auth {
        Login::Password => None,
        Login::Iam => Some("GetClusterCredentials"),
        Login::IamIdentity => Some("GetClusterCredentialsWithIAM"),
        Login::Serverless => Some("GetCredentials"),
    }
}

/// Where passwords come from; None with a configured one.
pub(crate) fn login_address(config: &Config) -> Option<String> {
    action(config.redshift.auth)?;
    Some(endpoint(&config.redshift, config.redshift.region(&config.s3.region)))
}

fn endpoint(redshift: &Redshift, region: &str) -> String {
    if !redshift.api_endpoint.is_empty() {
        return redshift.api_endpoint.clone();
    }
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{}.{region}.amazonaws.com{china}/", service(redshift.auth))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAnswer {
    db_user: String,
    db_password: String,
    expiration: f64,
    next_refresh_time: Option<f64>,
}

#[derive(Default, Deserialize)]
struct JsonError {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn from_json(body: &[u8]) -> Option<Credential> {
    let answer: JsonAnswer = serde_json::from_slice(body).ok()?;
    // Seconds since 1970, with a fraction.
    let moment = |seconds: f64| DateTime::from_timestamp_millis((seconds * 1000.0) as i64);
    let refresh = answer.next_refresh_time.and_then(moment);
    let life = Some(Life { expires: moment(answer.expiration)?, refresh });
    Some(Credential { user: answer.db_user, password: Secret::new(answer.db_password), life })
}

fn from_xml(body: &[u8]) -> Option<Credential> {
    let moment = |text: String| Some(DateTime::parse_from_rfc3339(&text).ok()?.with_timezone(&Utc));
    let expires = moment(xml_text(body, "Expiration")?)?;
    let life = Some(Life { expires, refresh: xml_text(body, "NextRefreshTime").and_then(moment) });
    let password = Secret::new(xml_text(body, "DbPassword")?);
    Some(Credential { user: xml_text(body, "DbUser")?, password, life })
}

fn xml_text(body: &[u8], name: &str) -> Option<String> {
    fn within(element: &mut ScopedDecoder<'_, '_>, name: &str) -> Option<String> {
        while let Some(mut child) = element.next_tag() {
            let found = if child.start_el().matches(name) {
                try_data(&mut child).ok().map(|text| text.trim().to_owned())
            } else {
                within(&mut child, name)
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
    let mut document = Document::try_from(body).ok()?;
    within(&mut document.root_element().ok()?, name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::config::Secrets;

    use super::*;

    fn api(redshift: &str) -> PasswordApi {
        let text = format!(
            "[instance]\nname = \"i\"\n[adobe]\nclient_id = \"c\"\nstream_url = \"https://s/\"\n\
             [s3]\nbucket = \"b\"\nregion = \"eu-west-1\"\n\
             [redshift]\niam_role = \"default\"\ndatabase = \"the db\"\n{redshift}\n"
        );
        let config = Config::parse(&text, Path::new("t"), std::iter::empty(), Secrets::Ingester);
        PasswordApi::new(&config.unwrap_or_else(|error| panic!("{error}")))
    }

    const CLUSTER: &str = "host = \"one.abc.us-east-2.redshift.amazonaws.com\"";
    const WORKGROUP: &str = "host = \"wg.123456789012.cn-north-1.redshift-serverless.amazonaws.com.cn\"";

    #[test]
    fn each_way_asks_its_own_question_at_its_own_address() {
        let iam = api(&format!("auth = \"iam\"\nuser = \"loader\"\n{CLUSTER}"));
        assert_eq!(
            iam.request().1,
            "Action=GetClusterCredentials&Version=2012-12-01&DbUser=loader&AutoCreate=false&DbName=the+db&\
             ClusterIdentifier=one&DurationSeconds=900"
        );
        assert_eq!(
            (service(iam.auth), &iam.endpoint[..]),
            ("redshift", "https://redshift.us-east-2.amazonaws.com/")
        );
        assert_eq!(iam.to_string(), "GetClusterCredentials for cluster one in us-east-2 as loader");

        let identity =
            api(&format!("auth = \"iam-identity\"\ncluster = \"two\"\nregion = \"eu-north-1\"\n{CLUSTER}"));
        assert_eq!(
            identity.request().1,
            "Action=GetClusterCredentialsWithIAM&Version=2012-12-01&DbName=the+db&ClusterIdentifier=two&\
             DurationSeconds=900"
        );
        assert_eq!(identity.endpoint, "https://redshift.eu-north-1.amazonaws.com/");

        let serverless = api(&format!("auth = \"serverless\"\n{WORKGROUP}"));
        let (headers, body) = serverless.request();
        assert_eq!(headers[1], ("x-amz-target", "RedshiftServerless.GetCredentials"));
        assert_eq!(body, r#"{"dbName":"the db","durationSeconds":900,"workgroupName":"wg"}"#);
        assert_eq!(serverless.endpoint, "https://redshift-serverless.cn-north-1.amazonaws.com.cn/");
        assert_eq!(service(serverless.auth), "redshift-serverless");
    }

    #[test]
    fn answers_are_read_and_the_user_is_taken_as_it_is_given() {
        let xml = br#"<GetClusterCredentialsResponse xmlns="http://redshift.amazonaws.com/doc/2012-12-01/">
            <GetClusterCredentialsResult><Expiration>2026-03-02T14:15:16.789Z</Expiration><DbUser>IAM:loader</DbUser>
            <DbPassword>a&amp;b&lt;c/+=</DbPassword></GetClusterCredentialsResult>
            <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetClusterCredentialsResponse>"#;
        let read = from_xml(xml).unwrap();
        assert_eq!((&read.user[..], read.password.reveal()), ("IAM:loader", "a&b<c/+="));
        let life = read.life.unwrap();
        assert_eq!(
            (life.expires.to_rfc3339(), life.refresh),
            ("2026-03-02T14:15:16.789+00:00".to_owned(), None)
        );

        let json = br#"{"dbPassword":"p","dbUser":"IAMR:role","expiration":1772460916.5,"nextRefreshTime":1.7724600E9}"#;
        let read = from_json(json).unwrap();
        assert_eq!((&read.user[..], read.password.reveal()), ("IAMR:role", "p"));
        let life = read.life.unwrap();
        assert_eq!(life.expires.timestamp_millis(), 1_772_460_916_500);
        assert_eq!(life.refresh.unwrap().timestamp(), 1_772_460_000);

        for broken in [&b""[..], b"<a/>", b"{}", b"<a><DbUser>u</DbUser><DbPassword>p</DbPassword></a>"] {
            assert!(from_xml(broken).is_none() && from_json(broken).is_none());
        }
    }

    #[test]
    fn a_refusal_names_the_code_in_either_spelling() {
        let reply = |body: &str, error_type: Option<&str>| Reply {
            status: 403,
            error_type: error_type.map(str::to_owned),
            body: body.to_owned().into(),
        };
        let iam = api(&format!("auth = \"iam\"\nuser = \"loader\"\n{CLUSTER}"));
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: x is not \
                   authorized</Message></Error><RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(
            iam.refusal(&reply(xml, None)),
            "AccessDenied (HTTP status 403) User: x is not authorized"
        );
        let serverless = api(&format!("auth = \"serverless\"\n{WORKGROUP}"));
        let json = r#"{"__type":"com.amazonaws#ThrottlingException","message":"slow down"}"#;
        let said = "ThrottlingException (HTTP status 403) slow down";
        assert_eq!(serverless.refusal(&reply(json, None)), said);
        let header = Some("ThrottlingException:http://internal/");
        assert_eq!(serverless.refusal(&reply("{\"Message\":\"slow down\"}", header)), said);
        assert_eq!(serverless.refusal(&reply("<html>", None)), "(HTTP status 403)");
    }

    #[test]
    fn a_new_password_is_due_before_the_old_one_ends_and_when_aws_has_one() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let long = Life { expires: at(900), refresh: None };
        assert!(!long.due(at(0), at(839)) && long.due(at(0), at(840)) && long.due(at(0), at(2000)));
        let short = Life { expires: at(8), refresh: None };
        assert!(!short.due(at(0), at(5)) && short.due(at(0), at(6)));
        let refreshed = Life { expires: at(3600), refresh: Some(at(1800)) };
        assert!(!refreshed.due(at(0), at(1799)) && refreshed.due(at(0), at(1800)));
        let refresh_too_late = Life { expires: at(900), refresh: Some(at(1800)) };
        assert!(refresh_too_late.due(at(0), at(840)));
    }

    #[test]
    fn a_credential_never_shows_its_password() {
        let credential =
            Credential { user: "IAM:u".to_owned(), password: Secret::new("hunter2"), life: None };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
