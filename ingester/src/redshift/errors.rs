//! The one table of what Redshift's errors mean. Nearly all of them carry SQLSTATE `XX000`, so they are told apart
//! by their text and by `code:` in the DETAIL. Where one text means different things at different statements, the
//! statement decides too ([`judge_at`]).

use state::loads::ErrorClass::{self, Configuration, Data, Incomplete, Passing};

use crate::failure::{IN_ARCHIVE_ADVICE, LoadFailure, Pace, Scope};
use crate::redshift::answer::SqlFailure;
use crate::redshift::doing::Doing;

/// What an error means; its fields are those of a [`LoadFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) class: ErrorClass,
    pub(crate) scope: Scope,
    pub(crate) advice: &'static str,
    pub(crate) pace: Pace,
    pub(crate) at_s3: bool,
}

/// A line of the table. It fits when `head` and one of `texts` occur in the message (whatever the case), `code:` of the
/// DETAIL is one of `codes`, or the message is nothing but such a number, and the SQLSTATE begins with one of `states`;
/// what is empty does not matter.
struct Rule {
    head: &'static str,
    texts: &'static [&'static str],
    codes: &'static [u32],
    states: &'static [&'static str],
    verdict: Verdict,
}

const UNKNOWN: Verdict = Verdict {
    class: ErrorClass::Unknown,
    scope: Scope::Whole,
    advice: "report it, since this version does not know the error; it is tried again for ever",
    pace: Pace::Usual,
    at_s3: false,
};

const fn rule(verdict: Verdict) -> Rule {
    Rule { head: "", texts: &[], codes: &[], states: &[], verdict }
}

const fn text(texts: &'static [&'static str], verdict: Verdict) -> Rule {
    Rule { texts, ..rule(verdict) }
}

const fn both(head: &'static str, texts: &'static [&'static str], verdict: Verdict) -> Rule {
    Rule { head, texts, ..rule(verdict) }
}

const fn code(codes: &'static [u32], verdict: Verdict) -> Rule {
    Rule { codes, ..rule(verdict) }
}

const fn state(states: &'static [&'static str], verdict: Verdict) -> Rule {
    Rule { states, ..rule(verdict) }
}

const PASSES: Verdict = Verdict { class: Passing, advice: "", ..UNKNOWN };
/// The files are not what was sealed.
const NOT_AS_SEALED: Verdict = Verdict { class: Incomplete, scope: Scope::Batch, ..PASSES };

/// It passes, but not soon, and an operator can help.
const fn slowly(advice: &'static str) -> Verdict {
    Verdict { advice, pace: Pace::Slow, ..PASSES }
}

/// It needs an operator. Until then nothing is loaded, or not this batch if the scope is the batch.
const fn needs_operator(advice: &'static str) -> Verdict {
    Verdict { class: Configuration, advice, pace: Pace::Slow, ..PASSES }
}

/// Redshift refuses rows of the batch.
const ROWS_REFUSED: Verdict = Verdict {
    class: Data,
    scope: Scope::Batch,
    ..needs_operator("see the reason; correct the schema, or alter the table so that the rows fit")
};

impl Verdict {
    const fn at_s3(mut self) -> Self {
        self.at_s3 = true;
        self
    }
}

const ROLE: &str = "attach the role of redshift.iam_role to the cluster or workgroup, compare its ARN with the role in IAM, and give \
                    the role the trust policy deploy/iam-copy-role-trust.json";
const READ: &str = "let the role of redshift.iam_role list s3.bucket and read its objects (deploy/iam-copy-role.json), and see that the \
                    policy of the bucket does not deny it";
const BUCKET_POLICY: &str = "the policy of s3.bucket denies it: let it allow the role of redshift.iam_role s3:ListBucket and s3:GetObject";
const BUCKET: &str = "there is no bucket of this name: check s3.bucket";
const REGION: &str = "set s3.region to the region of s3.bucket";
const KEY: &str = "let the role of redshift.iam_role use the key the objects are encrypted with (deploy/iam-kms-copy-role.json)";
const TABLES: &str = "create or alter the tables as `ingester ddl --diff` prints them";
const RIGHTS: &str = "let redshift.user own the table and the ledger (deploy/grants.sql)";
const TOO_MANY_COLUMNS: &str = "drop columns that no schema names any more (`ingester ddl --diff` has them), or take some out of [schema]";
const TEMP: &str = "rows that may be in the table already are loaded through a temporary table: GRANT TEMP ON DATABASE to \
                    redshift.user (deploy/grants.sql)";
const LOGIN: &str = "check redshift.user, redshift.password and redshift.database";
const MD5: &str = "redshift.user has a sha256 password, which the client does not know: give it an MD5 one (deploy/grants.sql), or \
                   use redshift.auth = \"iam\"";
const AUTHORITY: &str = "name in redshift.ca_file the authority that signed the server's certificate (empty: the \
                         system's are trusted); Amazon's bundle is amazon-trust-ca-bundle.crt (docs/OPERATIONS.md)";
const HOST_NAME: &str = "write in redshift.host a name that the server's certificate is made for";
const VALIDITY: &str = "renew the certificate of the server at redshift.host, or set this machine's clock";
const NO_TLS: &str = "the server at redshift.host and redshift.port speaks no TLS, which redshift.tls = \"verify-full\" \
                      wants; no password was sent. Check redshift.host and redshift.port";
const TLS_WANTED: &str = "the server takes no connection without TLS: set redshift.tls = \"verify-full\"";
const IAM_RIGHTS: &str =
    "let the AWS credential of [s3] do what redshift.auth needs (deploy/iam-redshift-login.json)";
const IAM_CREDENTIAL: &str =
    "check the AWS credential (s3.access_key_id, or the AWS chain) and this machine's clock";
const CLUSTER: &str = "check redshift.cluster and redshift.region";
const WORKGROUP: &str = "check redshift.workgroup and redshift.region";
const IAM_KEYS: &str = "check redshift.user, redshift.database, redshift.cluster and redshift.workgroup: AWS does not take one of them";
const SQL: &str = "this statement should have been right: check the names in [redshift] and report it";
const SPACE: &str = "free space in the cluster or resize it";
const LIMIT: &str =
    "raise redshift.statement_timeout or the limits of the queue, or lower ingester.batches_per_copy";
// The text is the same when somebody cancels the statement and when its time is over.
const CANCELLED: &str = "if nobody cancelled it, it took longer than redshift.statement_timeout: raise that, or lower \
                         ingester.batches_per_copy";
const CANCELLED_LOCK: &str = "if nobody cancelled it, another session held the table of the lock for longer than \
                              redshift.statement_timeout: svv_transactions names it";
const CANCELLED_STAGED: &str = "if nobody cancelled it, comparing with the table took longer than redshift.statement_timeout: raise \
                                that, and let receivedTimeGMT be the first column of redshift.sortkey";
const CANCELLED_LEDGER: &str = "if nobody cancelled it, it waited longer than redshift.statement_timeout: look into svv_transactions for \
                                a session that has locked the ledger, and at the queue of redshift.user";
const CANCELLED_COMMIT: &str = "if nobody cancelled it, it waited for the commits of others for longer than redshift.statement_timeout: \
                                raise that, or let others commit less often (stl_commit_stats); the ledger tells whether it was carried out";
const CANCELLED_FORGET: &str = "if nobody cancelled it, searching the table for the values took longer than redshift.statement_timeout: \
                                raise that, let receivedTimeGMT be the first column of redshift.sortkey, or give fewer values at once";
const CANCELLED_ALTER: &str =
    "if nobody cancelled it, it took longer than redshift.statement_timeout: raise that";
const ABORTED: &str = "Redshift ended it of its own accord, as it does when it restarts or is resized, or when a queue hops or a rule \
                       of it strikes (stl_wlm_rule_action)";
const MEMORY: &str = "give the queue of redshift.user more memory, or lower ingester.batches_per_copy";
const READ_ONLY: &str = "the database takes no writes: wait until a resize or a restore has ended, connect to the primary cluster, and \
                         see that no default_transaction_read_only is set for redshift.user";
const USAGE: &str = "raise the usage limit of the workgroup, or wait until its period is over";
const S3: &str = "s3serviceexception";
const CERTIFICATE: &str = "invalid peer certificate";

/// What AWS answers to the request for a password. The rest passes: throttling, a fault of AWS, no answer, a session that
/// is renewed by itself.
const PASSWORD_RULES: &[Rule] = &[
    text(&["accessdenied", "not authorized"], needs_operator(IAM_RIGHTS)),
    text(&["no aws credentials", "invalidclienttokenid"], needs_operator(IAM_CREDENTIAL)),
    text(&["unrecognizedclient", "signature", "requestexpired"], needs_operator(IAM_CREDENTIAL)),
    text(&["missingauthenticationtoken"], needs_operator(IAM_CREDENTIAL)),
    text(&["clusternotfound"], needs_operator(CLUSTER)),
    text(&["resourcenotfound"], needs_operator(WORKGROUP)),
    text(&["validation", "invalidparameter", "unsupportedoperation"], needs_operator(IAM_KEYS)),
];

/// What Redshift answers. Read from the top; the first line that fits decides.
const RULES: &[Rule] = &[
    both("load into table", &["failed"], ROWS_REFUSED),
    // At the INSERT of a staged load: the temporary table may not have NOT NULL, and may be wider.
    text(&["cannot insert a null value into column", "value too long for"], ROWS_REFUSED),
    state(&["23502"], ROWS_REFUSED),
    // The role, and S3 as the role sees it. S3 answers 403 also for what is missing, if the role may not list.
    text(&["not authorized to get credentials of role", "not authorized to assume"], needs_operator(ROLE)),
    text(&["is not associated to cluster"], needs_operator(ROLE)),
    code(&[30000], needs_operator(ROLE)),
    // With what follows: the letters alone also stand in a request id now and then, which is base64.
    both(S3, &["kms:", "kms."], needs_operator(KEY)),
    both(S3, &["invalidobjectstate"], Verdict { advice: IN_ARCHIVE_ADVICE, ..NOT_AS_SEALED }),
    both(S3, &["expiredtoken", "requesttimeout"], PASSES),
    // "because no resource-based policy allows" speaks of the role too: within an account its own policy is enough.
    both(S3, &["explicit deny in a resource-based policy"], needs_operator(BUCKET_POLICY).at_s3()),
    both(S3, &["status 403", "accessdenied"], needs_operator(READ).at_s3()),
    both(S3, &["invalidaccesskeyid"], needs_operator(ROLE)),
    // Redshift says this also when the role may not see whether the manifest is there.
    text(&["requires full path of an s3 object"], needs_operator(READ).at_s3()),
    both(S3, &["status 301"], needs_operator(REGION)),
    text(&["must be addressed using the specified endpoint", "different region"], needs_operator(REGION)),
    text(&["authorizationheadermalformed"], needs_operator(REGION)),
    both(S3, &["nosuchbucket"], needs_operator(BUCKET)),
    both("s3 prefix", &["does not exist"], NOT_AS_SEALED.at_s3()),
    both(S3, &["status 404"], NOT_AS_SEALED.at_s3()),
    both("mandatory file", &["not found"], NOT_AS_SEALED.at_s3()),
    // The second is said of an entry without `url`, and also when what stands there cannot be found.
    text(&["mandatory url is not found", "mandatory url is not present"], NOT_AS_SEALED.at_s3()),
    both("manifest", &["invalid json"], NOT_AS_SEALED),
    text(&["failed to inflate"], NOT_AS_SEALED),
    // Throttling and S3's own faults: SlowDown, InternalError, ServiceUnavailable, and the network between.
    text(&[S3, "s3curlexception", "curl error"], PASSES),
    // What else may be wrong with the content of a manifest.
    text(&["problem reading manifest file"], NOT_AS_SEALED),
    // Conflicts and the cluster's own affairs.
    code(&[1023], PASSES),
    text(&["serializable isolation violation", "conflict with concurrent transaction"], PASSES),
    // A table is being swapped: the next attempt meets the new one.
    text(&["dropped by concurrent transaction", "current transaction is aborted"], PASSES),
    text(&["abort query", "system requested abort"], Verdict { advice: ABORTED, ..PASSES }),
    text(&["deadlock detected", "could not open relation with oid", "resize mode", "read-only mode"], PASSES),
    text(&["read-only transaction", "transaction is read-only"], slowly(READ_ONLY)),
    state(&["25006"], slowly(READ_ONLY)),
    text(&["cluster is rebooting", "connection limit", "too many connections"], PASSES),
    code(&[1016], slowly(SPACE)),
    text(&["disk full", "exceeding the disk space quota"], slowly(SPACE)),
    text(&["insufficient memory", "not enough memory", "out of memory"], slowly(MEMORY)),
    state(&["53200"], slowly(MEMORY)),
    text(&["usage limit"], slowly(USAGE)),
    text(&["by wlm", "statement timeout"], Verdict { advice: LIMIT, ..PASSES }),
    text(&["on user's request"], Verdict { advice: CANCELLED, ..PASSES }),
    text(&["nonexistent table", "cannot copy into view", "cannot copy to view"], needs_operator(TABLES)),
    both("does not exist", &["relation", "column", "schema"], needs_operator(TABLES)),
    // At ADD COLUMN: https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html has the limit, PostgreSQL the words.
    text(&["at most 1600 columns"], needs_operator(TOO_MANY_COLUMNS)),
    both("does not exist", &["database"], needs_operator(LOGIN)),
    both("permission denied", &["temporary table"], needs_operator(TEMP)),
    text(&["permission denied", "must be owner"], needs_operator(RIGHTS)),
    text(&["password authentication failed"], needs_operator(LOGIN)),
    text(&["unknown authentication tag", "unsupported authentication method"], needs_operator(MD5)),
    both(CERTIFICATE, &["not valid for name"], needs_operator(HOST_NAME)),
    both(CERTIFICATE, &["expired", "not valid yet"], needs_operator(VALIDITY)),
    text(&[CERTIFICATE], needs_operator(AUTHORITY)),
    text(&["server does not support tls"], needs_operator(NO_TLS)),
    both("no pg_hba.conf entry", &["ssl off"], needs_operator(TLS_WANTED)),
    state(&["42P01", "42703", "3F000"], needs_operator(TABLES)),
    state(&["42501"], needs_operator(RIGHTS)),
    state(&["28", "3D000"], needs_operator(LOGIN)),
    state(&["42601"], needs_operator(SQL)),
    // Connection, resources, an operator: inherited from PostgreSQL.
    state(&["08", "40", "53", "57"], PASSES),
];

/// What a failure means. A connection that is lost for a reason the table does not know passes.
pub(crate) fn judge(failure: &SqlFailure) -> Verdict {
    let (rules, message, sqlstate, otherwise) = match failure {
        SqlFailure::Refused { state, message, .. } => {
            (RULES, message.to_lowercase(), state.as_str(), UNKNOWN)
        }
        SqlFailure::NoPassword { why, .. } => (PASSWORD_RULES, why.to_lowercase(), "", PASSES),
        SqlFailure::Lost(why) => (RULES, why.to_lowercase(), "", PASSES),
    };
    let number = failure.code().or_else(|| message.trim().parse().ok());
    let fits = |rule: &&Rule| {
        message.contains(rule.head)
            && (rule.texts.is_empty() || rule.texts.iter().any(|text| message.contains(text)))
            && (rule.codes.is_empty() || number.is_some_and(|number| rule.codes.contains(&number)))
            && (rule.states.is_empty() || rule.states.iter().any(|start| sqlstate.starts_with(start)))
    };
    rules.iter().find(fits).map_or(otherwise, |rule| rule.verdict)
}

/// What a failure means that was met while `doing` something: the same words mean other things at other statements.
pub(crate) fn judge_at(failure: &SqlFailure, doing: Doing) -> Verdict {
    match judge(failure) {
        verdict if is_time_limit(failure) => Verdict { advice: out_of_time(doing), ..verdict },
        // No row of the batch is written there: the ledger is not as it should be.
        Verdict { class: Data, .. } if doing.is_at_ledger() => needs_operator(TABLES),
        verdict => verdict,
    }
}

/// Advice for [`is_time_limit`].
fn out_of_time(doing: Doing) -> &'static str {
    match doing {
        Doing::Lock => CANCELLED_LOCK,
        Doing::Commit => CANCELLED_COMMIT,
        Doing::CompareStage | Doing::InsertStage => CANCELLED_STAGED,
        Doing::Alter => CANCELLED_ALTER,
        Doing::Forget => CANCELLED_FORGET,
        _ if doing.is_at_ledger() => CANCELLED_LEDGER,
        _ => CANCELLED,
    }
}

/// Whether a statement was ended because its time was over, or somebody cancelled it, which reads the same.
pub(crate) fn is_time_limit(failure: &SqlFailure) -> bool {
    let SqlFailure::Refused { message, .. } = failure else { return false };
    let message = message.to_lowercase();
    ["on user's request", "statement timeout"].iter().any(|text| message.contains(text))
}

/// Whether this login is refused, by Redshift or by AWS when it was asked for a password: it is wrong, or must not log in.
pub(crate) fn is_login_refused(failure: &SqlFailure) -> bool {
    [LOGIN, MD5, IAM_RIGHTS, IAM_CREDENTIAL].contains(&judge(failure).advice)
}

/// Makes a load failure of a failed statement; `doing` is what it was for.
pub(crate) trait OrLoadFailure<T> {
    fn doing(self, doing: Doing) -> Result<T, LoadFailure>;
}

impl<T> OrLoadFailure<T> for Result<T, SqlFailure> {
    fn doing(self, doing: Doing) -> Result<T, LoadFailure> {
        self.map_err(|failure| load_failure(&failure, doing))
    }
}

pub(crate) fn load_failure(failure: &SqlFailure, doing: Doing) -> LoadFailure {
    let Verdict { class, scope, advice, pace, at_s3 } = judge_at(failure, doing);
    let why = format!("{doing}: {failure}");
    LoadFailure { scope, pace, at_s3, ..LoadFailure::of_all(class, why, advice) }
}

#[cfg(test)]
mod tests;
