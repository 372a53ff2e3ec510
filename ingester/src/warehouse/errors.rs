//! The one table of what Redshift's errors mean. Nearly all of them carry SQLSTATE `XX000`, so they are told apart
//! by their text and by `code:` in the DETAIL.

use state::loads::ErrorClass;

use super::session::SqlFailure;
use crate::trouble::{Scope, Trouble};

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What kind of trouble it is.
    pub class: ErrorClass,
    /// What a person can do; empty when it passes by itself.
    pub advice: &'static str,
    /// Whether the table knows it. An error nobody has met yet is tried again, and looked at by a person.
    pub known: bool,
}

/// A line of the table: all of `texts` occur in the message (whatever the case), and one of `states`, if there are
/// any, begins the SQLSTATE.
struct Rule {
    texts: &'static [&'static str],
    states: &'static [&'static str],
    class: ErrorClass,
    advice: &'static str,
}

const fn text(texts: &'static [&'static str], class: ErrorClass, advice: &'static str) -> Rule {
    Rule { texts, states: &[], class, advice }
}

const fn state(states: &'static [&'static str], class: ErrorClass, advice: &'static str) -> Rule {
    Rule { texts: &[], states, class, advice }
}

use ErrorClass::{Configuration, Data, Incomplete, Passing};

const ROLE: &str =
    "attach the role of redshift.iam_role to the cluster, and let it list the bucket and read its objects";
const REGION: &str = "s3.region must be the region of s3.bucket";
const TABLES: &str = "create or alter the tables as `ingester ddl` prints them";
const RIGHTS: &str = "let redshift.user own the table and the ledger (deploy/grants.sql)";
const LOGIN: &str = "check redshift.user, redshift.password and redshift.database";
const MD5: &str = "redshift.user has a sha256 password, which the client does not know: give it an MD5 one (deploy/grants.sql), or \
                   use redshift.auth = \"iam\"";
const AUTHORITY: &str = "redshift.ca_file must hold the authority that signed the server's certificate (empty: the \
                         system's are trusted); Amazon's bundle is amazon-trust-ca-bundle.crt (docs/OPERATIONS.md)";
const HOST_NAME: &str = "redshift.host must be a name the server's certificate is made for";
const VALIDITY: &str =
    "the server at redshift.host needs a new certificate, or this machine's clock is wrong";
const NO_TLS: &str = "the server at redshift.host and redshift.port speaks no TLS, which redshift.tls = \"verify-full\" \
                      wants; no password was sent";
const TLS_WANTED: &str = "the server takes no connection without TLS: set redshift.tls = \"verify-full\"";
const IAM_RIGHTS: &str =
    "let the AWS credential of [s3] do what redshift.auth needs (deploy/iam-redshift-login.json)";
const IAM_CREDENTIAL: &str =
    "check the AWS credential (s3.access_key_id, or the AWS chain) and this machine's clock";
const CLUSTER: &str = "check redshift.cluster and redshift.region";
const WORKGROUP: &str = "check redshift.workgroup and redshift.region";
const IAM_KEYS: &str = "check redshift.user, redshift.database, redshift.cluster and redshift.workgroup: AWS does not take one of them";
const PASSWORD: &str = "gave no password";
const SQL: &str = "this statement should have been right: check the names in [redshift] and report it";

/// Read from the top; the first line that fits decides.
const RULES: &[Rule] = &[
    // What AWS answered when it was asked for a password.
    text(&[PASSWORD, "accessdenied"], Configuration, IAM_RIGHTS),
    text(&[PASSWORD, "not authorized"], Configuration, IAM_RIGHTS),
    text(&[PASSWORD, "no aws credentials"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "invalidclienttokenid"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "unrecognizedclient"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "signature"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "missingauthenticationtoken"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "requestexpired"], Configuration, IAM_CREDENTIAL),
    text(&[PASSWORD, "clusternotfound"], Configuration, CLUSTER),
    text(&[PASSWORD, "resourcenotfound"], Configuration, WORKGROUP),
    text(&[PASSWORD, "validation"], Configuration, IAM_KEYS),
    text(&[PASSWORD, "invalidparameter"], Configuration, IAM_KEYS),
    text(&[PASSWORD, "unsupportedoperation"], Configuration, IAM_KEYS),
    // Throttling, a fault of AWS's, no answer, a session that is renewed by itself.
    text(&[PASSWORD], Passing, ""),
    text(&["load into table", "failed"], Data, "see the reason; mend the table or the schema"),
    // The role, and S3 as the role sees it.
    text(&["not authorized to get credentials of role"], Configuration, ROLE),
    text(&["not authorized to assume"], Configuration, ROLE),
    text(&["s3serviceexception", "status 403"], Configuration, ROLE),
    text(&["s3serviceexception", "accessdenied"], Configuration, ROLE),
    text(&["s3serviceexception", "status 301"], Configuration, REGION),
    text(&["must be addressed using the specified endpoint"], Configuration, REGION),
    text(&["authorizationheadermalformed"], Configuration, REGION),
    text(&["s3serviceexception", "nosuchbucket"], Configuration, REGION),
    // Redshift says this also when it was forbidden to look whether the manifest is there.
    text(&["requires full path of an s3 object"], Configuration, ROLE),
    text(&["s3 prefix", "does not exist"], Incomplete, ""),
    text(&["s3serviceexception", "status 404"], Incomplete, ""),
    text(&["mandatory url is not found"], Incomplete, ""),
    text(&["s3serviceexception"], Passing, ""),
    // Conflicts and the cluster's own affairs.
    text(&["serializable isolation violation"], Passing, ""),
    text(&["conflict with concurrent transaction"], Passing, ""),
    text(&["resize mode"], Passing, ""),
    text(&["read-only mode"], Passing, ""),
    text(&["disk full"], Passing, "free space in the cluster or resize it"),
    text(&["on user's request"], Passing, ""),
    text(&["the cluster is rebooting"], Passing, ""),
    // Names and rights.
    text(&["nonexistent table"], Configuration, TABLES),
    text(&["relation", "does not exist"], Configuration, TABLES),
    text(&["column", "does not exist"], Configuration, TABLES),
    text(&["schema", "does not exist"], Configuration, TABLES),
    text(&["database", "does not exist"], Configuration, LOGIN),
    text(&["permission denied"], Configuration, RIGHTS),
    text(&["must be owner"], Configuration, RIGHTS),
    text(&["password authentication failed"], Configuration, LOGIN),
    text(&["unknown authentication tag"], Configuration, MD5),
    text(&["unsupported authentication method"], Configuration, MD5),
    text(&["invalid peer certificate", "not valid for name"], Configuration, HOST_NAME),
    text(&["invalid peer certificate", "expired"], Configuration, VALIDITY),
    text(&["invalid peer certificate", "not valid yet"], Configuration, VALIDITY),
    text(&["invalid peer certificate"], Configuration, AUTHORITY),
    text(&["server does not support tls"], Configuration, NO_TLS),
    text(&["no pg_hba.conf entry", "ssl off"], Configuration, TLS_WANTED),
    state(&["42P01", "42703", "3F000"], Configuration, TABLES),
    state(&["42501"], Configuration, RIGHTS),
    state(&["28", "3D000"], Configuration, LOGIN),
    state(&["42601"], Configuration, SQL),
    // Connection, resources, an operator: inherited from PostgreSQL.
    state(&["08", "53", "57"], Passing, ""),
];

/// Errors that say it by number only: `code:` in the DETAIL, or a message that is nothing but the number.
const CODES: &[(u32, ErrorClass, &str)] = &[
    (1023, Passing, ""),
    (1016, Passing, "free space in the cluster or resize it"),
    (30000, Configuration, ROLE),
];

/// What a failure means.
#[must_use]
pub fn judge(failure: &SqlFailure) -> Verdict {
    let (message, sqlstate) = match failure {
        SqlFailure::Refused { state, message, .. } => (message.to_lowercase(), state.as_str()),
        SqlFailure::Lost(why) => (why.to_lowercase(), ""),
    };
    let fits = |rule: &&Rule| {
        rule.texts.iter().all(|text| message.contains(text))
            && (rule.states.is_empty() || rule.states.iter().any(|start| sqlstate.starts_with(start)))
    };
    if let Some(Rule { class, advice, .. }) = RULES.iter().find(fits) {
        return Verdict { class: *class, advice, known: true };
    }
    let code = failure.code().or_else(|| message.trim().parse().ok());
    if let Some((_, class, advice)) = CODES.iter().find(|(known, ..)| Some(*known) == code) {
        return Verdict { class: *class, advice, known: true };
    }
    // A connection that ends passes, however it ended. Anything else might be worth a line of the table.
    Verdict { class: Passing, advice: "", known: matches!(failure, SqlFailure::Lost(_)) }
}

/// The trouble a failed statement is; `doing` names it for people.
#[must_use]
pub fn trouble(failure: &SqlFailure, doing: &str) -> Trouble {
    let Verdict { class, advice, known } = judge(failure);
    if !known {
        tracing::warn!(%failure, doing, "Redshift said something this version does not know; trying again");
    }
    let scope = match class {
        Data | Incomplete => Scope::Batch,
        Passing | Configuration => Scope::Whole,
    };
    let why = format!("{doing}: {failure}");
    Trouble { scope, advice, ..Trouble::of_all(class, why, "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str, message: &str, code: Option<u32>) -> SqlFailure {
        let detail =
            code.map_or(String::new(), |code| format!("\n  error:  e\n  code:      {code}\n  context:   \n"));
        SqlFailure::Refused { state: state.to_owned(), message: message.to_owned(), detail }
    }

    #[test]
    fn every_known_text_has_its_class() {
        for (class, code, message) in [
            (Data, None, "Load into table 'hits' failed.  Check 'stl_load_errors' system table for details."),
            (
                Data,
                None,
                "Load into table 'hits' failed.  Check 'sys_load_error_detail' system table for details.",
            ),
            (Configuration, Some(30000), "Not authorized to get credentials of role arn:aws:iam::1:role/x"),
            (
                Configuration,
                None,
                "User arn:aws:redshift:… is not authorized to assume IAM Role arn:aws:iam::1:role/x",
            ),
            (
                Configuration,
                Some(8001),
                "S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 1,CanRetry 1",
            ),
            (
                Configuration,
                None,
                "Problem reading manifest file - S3ServiceException:Access Denied,Status 403,Error AccessDenied",
            ),
            (
                Configuration,
                None,
                "S3ServiceException:The bucket you are attempting to access must be addressed using the specified endpoint.,Status 301,Error PermanentRedirect",
            ),
            (Configuration, Some(8001), "COPY with MANIFEST parameter requires full path of an S3 object."),
            (Configuration, None, "Cannot COPY into nonexistent table hits"),
            (Configuration, None, "column \"evar1\" of relation \"hits\" does not exist"),
            (Configuration, None, "permission denied for relation ledger"),
            (Configuration, None, "schema \"x\" does not exist"),
            (Incomplete, Some(8001), "The specified S3 prefix 'p' does not exist"),
            (
                Incomplete,
                None,
                "Problem reading manifest file - S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey",
            ),
            (
                Passing,
                Some(8001),
                "S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown,CanRetry 1",
            ),
            (
                Passing,
                None,
                "S3ServiceException:We encountered an internal error.,Status 500,Error InternalError",
            ),
            (Passing, None, "1023"),
            (Passing, Some(1023), "Serializable isolation violation on table"),
            (Passing, None, "could not complete because of conflict with concurrent transaction"),
            (Passing, None, "Cannot execute write query because system is in resize mode"),
            (Passing, Some(1016), "Disk Full"),
            (Passing, None, "Query (123) canceled on user's request"),
        ] {
            let verdict = judge(&said("XX000", message, code));
            assert!(verdict.known && verdict.class == class, "{message}: {verdict:?}");
            assert!(class != Configuration || !verdict.advice.is_empty(), "{message}: what is one to do?");
        }
    }

    #[test]
    fn inherited_states_count_where_the_text_says_nothing() {
        for (class, state) in [
            (Configuration, "28P01"),
            (Configuration, "42P01"),
            (Configuration, "42501"),
            (Passing, "57P01"),
            (Passing, "57014"),
            (Passing, "53300"),
            (Passing, "08006"),
        ] {
            let verdict = judge(&said(state, "…", None));
            assert!(verdict.known && verdict.class == class, "{state}: {verdict:?}");
        }
    }

    #[test]
    fn a_lost_connection_passes_unless_the_reason_is_a_persons() {
        assert_eq!(judge(&SqlFailure::lost("connection closed")).class, Passing);
        let tls = "error performing TLS handshake: invalid peer certificate";
        let aws = "GetClusterCredentials gave no password";
        for (why, key) in [
            (format!("{tls}: UnknownIssuer"), "redshift.ca_file must"),
            (
                format!("{tls}: certificate not valid for name \"a\"; certificate is only valid for b"),
                "redshift.host must",
            ),
            (
                format!("{tls}: certificate expired: verification time 9 (UNIX), but …"),
                "this machine's clock",
            ),
            (
                format!("{tls}: certificate not valid yet: verification time 9 (UNIX), but …"),
                "this machine's clock",
            ),
            ("error performing TLS handshake: server does not support TLS".to_owned(), "redshift.port"),
            (
                "error parsing response from server: unknown authentication tag `13`".to_owned(),
                "redshift.auth",
            ),
            (
                format!("{aws}: AccessDenied (HTTP status 403) User: u is not authorized to perform: a"),
                "deploy/iam-redshift-login",
            ),
            (format!("{aws}: UnrecognizedClientException (HTTP status 403) …"), "s3.access_key_id"),
            (format!("{aws}: SignatureDoesNotMatch (HTTP status 403) Signature expired: …"), "clock"),
            (format!("{aws}: no AWS credentials: the AWS chain has none"), "s3.access_key_id"),
            (format!("{aws}: ClusterNotFound (HTTP status 404) Cluster c not found."), "redshift.cluster"),
            (format!("{aws}: ResourceNotFoundException (HTTP status 404) …"), "redshift.workgroup"),
            (format!("{aws}: ValidationException (HTTP status 400) …"), "redshift.database"),
        ] {
            let verdict = judge(&SqlFailure::lost(why.as_str()));
            assert!(verdict.class == Configuration && verdict.advice.contains(key), "{why}: {verdict:?}");
        }
        for passing in [
            "ThrottlingException (HTTP status 400) Rate exceeded",
            "InternalFailure (HTTP status 500)",
            "ExpiredTokenException (HTTP status 403) The security token included in the request is expired",
            "no answer from https://redshift.eu-central-1.amazonaws.com/: nothing within 10s",
        ] {
            let verdict = judge(&SqlFailure::lost(format!("{aws}: {passing}")));
            assert!(verdict.class == Passing && verdict.known, "{passing}: {verdict:?}");
        }
        let refused =
            said("28000", "no pg_hba.conf entry for host \"::1\", user \"u\", database \"d\", SSL off", None);
        assert!(judge(&refused).advice.contains("redshift.tls"));
    }

    #[test]
    fn an_unknown_error_is_tried_again_and_shown() {
        let verdict = judge(&said("XX000", "Assert", Some(1000)));
        assert_eq!((verdict.class, verdict.known), (Passing, false));
    }

    #[test]
    fn only_what_every_batch_would_meet_holds_every_batch() {
        let scope = |message| trouble(&said("XX000", message, None), "COPY").scope;
        assert_eq!(scope("Load into table 'hits' failed.  Check …"), Scope::Batch);
        assert_eq!(scope("Disk Full"), Scope::Whole);
        assert_eq!(scope("permission denied for relation ledger"), Scope::Whole);
    }
}
