use super::*;
use ErrorClass::Unknown;

fn said(state: &str, message: &str, code: Option<u32>) -> SqlFailure {
    let detail =
        code.map_or(String::new(), |code| format!("\n  error:  e\n  code:      {code}\n  context:   \n"));
    SqlFailure::Refused { state: state.to_owned(), message: message.to_owned(), detail }
}

fn verdict(message: &str, code: Option<u32>) -> Verdict {
    judge(&said("XX000", message, code))
}

#[test]
fn refused_rows_are_their_batchs_own_failure() {
    for view in ["stl_load_errors", "sys_load_error_detail"] {
        let message = format!("Load into table 'hits' failed.  Check '{view}' system table for details.");
        let verdict = verdict(&message, None);
        assert_eq!((verdict.class, verdict.scope, verdict.pace), (Data, Scope::Batch, Pace::Slow));
    }
}

#[test]
fn a_value_that_is_missing_at_the_insert_of_a_staged_load_is_its_batchs_own_failure() {
    let redshift = verdict("Cannot insert a NULL value into column page", Some(8007));
    let inherited = judge(&said("23502", "null value in column \"page\" violates not-null constraint", None));
    for verdict in [redshift, inherited] {
        assert_eq!((verdict.class, verdict.scope), (Data, Scope::Batch));
    }
}

#[test]
fn the_end_of_a_statements_time_is_told_from_other_refusals() {
    for over in ["Query (12) cancelled on user's request", "canceling statement due to statement timeout"] {
        assert!(is_time_limit(&said("57014", over, None)), "{over}");
    }
    assert!(!is_time_limit(&said("XX000", "1023", None)) && !is_time_limit(&SqlFailure::lost("gone")));
}

#[test]
fn a_login_that_is_refused_is_told_from_a_redshift_that_is_away_or_refuses_something_else() {
    let none = |why: &str| SqlFailure::NoPassword { action: "GetClusterCredentials", why: why.to_owned() };
    for refused in [
        said("28000", "no such user", None),
        said("XX000", "password authentication failed for user \"etl\"", None),
        SqlFailure::lost("unsupported authentication method"),
        none("AccessDenied: not authorized to perform redshift:GetClusterCredentials"),
        none("InvalidClientTokenId"),
    ] {
        assert!(is_login_refused(&refused), "{refused}");
    }
    for other in [
        SqlFailure::lost("connection refused"),
        SqlFailure::lost("invalid peer certificate: Expired"),
        said("57P03", "the cluster is rebooting", None),
        said("42501", "permission denied for schema public", None),
        none("ThrottlingException"),
        none("ClusterNotFound"),
    ] {
        assert!(!is_login_refused(&other), "{other}");
    }
}

#[test]
fn what_only_a_person_can_mend_holds_everything_slowly_and_says_what_to_do() {
    for (advice, code, message) in [
        (ROLE, Some(30000), "Not authorized to get credentials of role arn:aws:iam::1:role/x"),
        (TOO_MANY_COLUMNS, None, "tables can have at most 1600 columns"),
        (TEMP, None, "permission denied to create temporary tables in database \"dev\""),
        (ROLE, Some(30000), "anything with this code"),
        (ROLE, None, "User arn:aws:redshift:… is not authorized to assume IAM Role arn:aws:iam::1:role/x"),
        (ROLE, None, "The requested role arn:aws:iam::1:role/x is not associated to cluster"),
        (READ, Some(8001), "S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 1,CanRetry 1"),
        (
            BUCKET_POLICY,
            Some(8001),
            "S3ServiceException:User: arn:aws:sts::1:assumed-role/x is not authorized to perform: s3:GetObject on resource: \"k\" \
             with an explicit deny in a resource-based policy,Status 403,Error AccessDenied,Rid 1,CanRetry 1",
        ),
        (
            READ,
            None,
            "Problem reading manifest file - S3ServiceException:Access Denied,Status 403,Error AccessDenied",
        ),
        (
            ROLE,
            None,
            "S3ServiceException:The AWS Access Key Id you provided does not exist,Error InvalidAccessKeyId",
        ),
        (READ, Some(8001), "COPY with MANIFEST parameter requires full path of an S3 object."),
        (
            KEY,
            None,
            "S3ServiceException:User is not authorized to perform: kms:Decrypt,Status 403,Error AccessDenied",
        ),
        (
            REGION,
            None,
            "S3ServiceException:The bucket you are attempting to access must be addressed using the specified endpoint.,Status 301,Error PermanentRedirect",
        ),
        (
            REGION,
            None,
            "S3ServiceException:The S3 bucket addressed by the query is in a different region from this cluster.,Status 400",
        ),
        (
            REGION,
            None,
            "S3ServiceException:The authorization header is malformed; the region 'us-east-1' is wrong,Status 400,Error AuthorizationHeaderMalformed",
        ),
        (
            BUCKET,
            None,
            "S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket",
        ),
        (TABLES, None, "Cannot COPY into nonexistent table hits"),
        (TABLES, None, "cannot copy to view \"hits\""),
        (TABLES, None, "column \"evar1\" of relation \"hits\" does not exist"),
        (TABLES, None, "relation \"ledger\" does not exist"),
        (TABLES, None, "schema \"x\" does not exist"),
        (RIGHTS, None, "permission denied for relation ledger"),
        (RIGHTS, None, "must be owner of relation hits"),
        (LOGIN, None, "database \"x\" does not exist"),
        (LOGIN, None, "password authentication failed for user \"x\""),
    ] {
        let verdict = verdict(message, code);
        let wanted = (Configuration, Scope::Whole, Pace::Slow, advice);
        assert_eq!((verdict.class, verdict.scope, verdict.pace, verdict.advice), wanted, "{message}");
    }
}

#[test]
fn an_object_in_an_archive_class_is_its_batchs_own_failure() {
    let message = "S3ServiceException:The operation is not valid for the object's storage class,Status 403,\
                   Error InvalidObjectState,Rid 1,CanRetry 1";
    let verdict = verdict(message, Some(8001));
    assert_eq!((verdict.class, verdict.scope, verdict.advice), (Incomplete, Scope::Batch, IN_ARCHIVE_ADVICE));
}

#[test]
fn a_request_id_that_spells_kms_is_no_failure_of_a_key() {
    let message = "S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown,Rid 4F0kMsD1,\
                   ExtRid oXkMsB9c/Q+1KMS0=,CanRetry 1";
    let slow = verdict(message, Some(8001));
    assert_eq!((slow.class, slow.pace, slow.advice), (Passing, Pace::Usual, ""));
    let disabled = verdict(
        "S3ServiceException:arn:aws:kms:eu-central-1:1:key/x is disabled.,Status 400,Error KMS.DisabledException",
        None,
    );
    assert_eq!((disabled.class, disabled.advice), (Configuration, KEY));
}

#[test]
fn a_statement_that_was_ended_says_which_limit_it_may_have_met() {
    let verdict = verdict("Query (12) canceled on user's request", Some(1020));
    assert_eq!((verdict.class, verdict.advice), (Passing, CANCELLED));
}

#[test]
fn a_statement_that_was_ended_has_advice_of_its_own_by_what_it_was_for() {
    let ended = said("57014", "Query (12) cancelled on user's request", None);
    for (doing, advice, key) in [
        (Doing::Copy, CANCELLED, "ingester.batches_per_copy"),
        (Doing::CopyToRollBack, CANCELLED, "ingester.batches_per_copy"),
        (Doing::Lock, CANCELLED_LOCK, "svv_transactions"),
        (Doing::CompareStage, CANCELLED_STAGED, "redshift.sortkey"),
        (Doing::InsertStage, CANCELLED_STAGED, "redshift.sortkey"),
        (Doing::ReadLedger, CANCELLED_LEDGER, "svv_transactions"),
        (Doing::WriteLedger, CANCELLED_LEDGER, "svv_transactions"),
        (Doing::Commit, CANCELLED_COMMIT, "stl_commit_stats"),
        (Doing::Forget, CANCELLED_FORGET, "fewer values"),
    ] {
        let verdict = judge_at(&ended, doing);
        assert_eq!(
            (verdict.class, verdict.scope, verdict.advice),
            (Passing, Scope::Whole, advice),
            "{doing}"
        );
        assert!(verdict.advice.contains(key), "{doing}: {}", verdict.advice);
        assert_eq!(load_failure(&ended, doing).advice, advice);
    }
}

#[test]
fn a_value_that_the_ledger_refuses_is_no_row_of_the_batch() {
    for message in
        ["Cannot insert a NULL value into column team", "Value too long for type character varying(16)"]
    {
        let failure = said("XX000", message, Some(8001));
        let rows = judge_at(&failure, Doing::InsertStage);
        assert_eq!((rows.class, rows.scope), (Data, Scope::Batch), "{message}");
        for doing in [Doing::WriteLedger, Doing::MakeMark] {
            let ledger = judge_at(&failure, doing);
            let wanted = (Configuration, Scope::Whole, TABLES);
            assert_eq!((ledger.class, ledger.scope, ledger.advice), wanted, "{doing}: {message}");
        }
    }
}

#[test]
fn what_redshift_ends_of_its_own_accord_passes_and_says_why_it_may_have() {
    for message in ["abort query", "System requested abort query 1903", "Query (9): system requested abort"] {
        let verdict = verdict(message, Some(1020));
        assert_eq!(
            (verdict.class, verdict.pace, verdict.advice),
            (Passing, Pace::Usual, ABORTED),
            "{message}"
        );
    }
}

#[test]
fn memory_and_a_database_that_takes_no_writes_pass_slowly_with_advice() {
    for (state, message, advice) in [
        ("XX000", "Insufficient memory to run query", MEMORY),
        ("XX000", "Out Of Memory", MEMORY),
        ("53200", "…", MEMORY),
        ("25006", "cannot execute COPY in a read-only transaction", READ_ONLY),
        ("XX000", "transaction is read-only", READ_ONLY),
        ("25006", "…", READ_ONLY),
    ] {
        let verdict = judge(&said(state, message, None));
        assert_eq!((verdict.class, verdict.pace, verdict.advice), (Passing, Pace::Slow, advice), "{message}");
    }
}

#[test]
fn what_passes_is_tried_again_and_holds_everything_meanwhile() {
    for (pace, code, message) in [
        (
            Pace::Usual,
            Some(8001),
            "S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown,CanRetry 1",
        ),
        (
            Pace::Usual,
            None,
            "S3ServiceException:We encountered an internal error.,Status 500,Error InternalError",
        ),
        (
            Pace::Usual,
            None,
            "S3ServiceException:The provided token has expired.,Status 400,Error ExpiredToken",
        ),
        (
            Pace::Usual,
            None,
            "S3CurlException: Connection timed out after 50001 milliseconds, CurlError 28, multiCurlError 0",
        ),
        (Pace::Usual, None, "1023"),
        (Pace::Usual, Some(1023), "anything with this code"),
        (
            Pace::Usual,
            None,
            "Serializable isolation violation on table - 1, transactions forming the cycle are: 1, 2",
        ),
        (Pace::Usual, None, "could not complete because of conflict with concurrent transaction"),
        (Pace::Usual, None, "table 3379442 dropped by concurrent transaction"),
        (
            Pace::Usual,
            None,
            "current transaction is aborted, commands ignored until end of transaction block",
        ),
        (Pace::Usual, None, "deadlock detected"),
        (Pace::Usual, None, "could not open relation with OID 108465"),
        (Pace::Usual, None, "Cannot execute write query because system is in resize mode"),
        (Pace::Usual, None, "connection limit \"500\" exceeded for non-bootstrap users"),
        (Pace::Usual, None, "Query (123) canceled on user's request"),
        (Pace::Usual, None, "Query (123) cancelled by WLM abort action of Query Monitoring Rule \"x\"."),
        (Pace::Slow, Some(1016), "Disk Full"),
        (Pace::Slow, Some(1016), "anything with this code"),
        (
            Pace::Slow,
            None,
            "Transaction 1 is aborted due to exceeding the disk space quota in schema(s): (Schema: x",
        ),
        (Pace::Slow, None, "Query reached usage limit"),
    ] {
        let verdict = verdict(message, code);
        let wanted = (Passing, Scope::Whole, pace);
        assert_eq!((verdict.class, verdict.scope, verdict.pace), wanted, "{message}");
        assert!(pace == Pace::Usual || !verdict.advice.is_empty(), "{message}: what is one to do?");
    }
}

#[test]
fn a_file_that_is_not_as_it_was_is_its_batchs_own_failure() {
    for message in [
        "The specified S3 prefix 'p' does not exist",
        "S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey,CanRetry 1",
        "Problem reading manifest file - S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey",
        "Problem reading manifest file - Invalid JSON structure found: x",
        "Problem reading manifest file - something else about what stands in it",
        "Mandatory url is not present in manifest file.",
        "failed to inflate: invalid or incomplete compressed data. zlib error code: -3",
    ] {
        let verdict = verdict(message, Some(8001));
        assert_eq!(
            (verdict.class, verdict.scope, verdict.pace),
            (Incomplete, Scope::Batch, Pace::Usual),
            "{message}"
        );
    }
}

#[test]
fn s3_is_asked_itself_about_what_may_be_a_missing_object_or_a_missing_permission() {
    for (asked, message) in [
        (true, "COPY with MANIFEST parameter requires full path of an S3 object."),
        (true, "S3ServiceException:Access Denied,Status 403,Error AccessDenied"),
        (true, "S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey"),
        (true, "Mandatory url is not present in manifest file."),
        (false, "Problem reading manifest file - Invalid JSON structure found: x"),
        (false, "S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown"),
        (false, "permission denied for relation ledger"),
    ] {
        assert_eq!(verdict(message, None).at_s3, asked, "{message}");
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
        (Passing, "40001"),
        (Passing, "08006"),
    ] {
        assert_eq!(judge(&said(state, "…", None)).class, class, "{state}");
    }
}

#[test]
fn a_lost_connection_passes_unless_the_reason_is_a_persons() {
    assert_eq!(judge(&SqlFailure::lost("connection closed")), PASSES);
    let tls = "error performing TLS handshake: invalid peer certificate";
    for (why, key) in [
        (format!("{tls}: UnknownIssuer"), "redshift.ca_file"),
        (
            format!("{tls}: certificate not valid for name \"a\"; certificate is only valid for b"),
            "redshift.host",
        ),
        (format!("{tls}: certificate expired: verification time 9 (UNIX), but …"), "this machine's clock"),
        (
            format!("{tls}: certificate not valid yet: verification time 9 (UNIX), but …"),
            "this machine's clock",
        ),
        ("error performing TLS handshake: server does not support TLS".to_owned(), "redshift.port"),
        ("error parsing response from server: unknown authentication tag `13`".to_owned(), "redshift.auth"),
    ] {
        let verdict = judge(&SqlFailure::lost(why.as_str()));
        assert!(verdict.class == Configuration && verdict.advice.contains(key), "{why}: {verdict:?}");
    }
    let refused =
        said("28000", "no pg_hba.conf entry for host \"::1\", user \"u\", database \"d\", SSL off", None);
    assert!(judge(&refused).advice.contains("redshift.tls"));
}

#[test]
fn a_password_that_aws_does_not_give_out_passes_unless_the_reason_is_a_persons() {
    let no_password =
        |why: &str| judge(&SqlFailure::NoPassword { action: "GetClusterCredentials", why: why.to_owned() });
    for (why, key) in [
        (
            "AccessDenied (HTTP status 403) User: u is not authorized to perform: a",
            "deploy/iam-redshift-login",
        ),
        ("UnrecognizedClientException (HTTP status 403) …", "s3.access_key_id"),
        ("SignatureDoesNotMatch (HTTP status 403) Signature expired: …", "clock"),
        ("no AWS credentials: the AWS chain has none", "s3.access_key_id"),
        ("ClusterNotFound (HTTP status 404) Cluster c not found.", "redshift.cluster"),
        ("ResourceNotFoundException (HTTP status 404) …", "redshift.workgroup"),
        ("ValidationException (HTTP status 400) …", "redshift.database"),
    ] {
        let verdict = no_password(why);
        assert!(verdict.class == Configuration && verdict.advice.contains(key), "{why}: {verdict:?}");
    }
    for passing in [
        "ThrottlingException (HTTP status 400) Rate exceeded",
        "InternalFailure (HTTP status 500)",
        "ExpiredTokenException (HTTP status 403) The security token included in the request is expired",
        "no answer from https://redshift.eu-central-1.amazonaws.com/: nothing within 10s",
    ] {
        let verdict = no_password(passing);
        assert!(verdict == PASSES, "{passing}: {verdict:?}");
    }
}

#[test]
fn an_unknown_error_is_tried_again_and_named_as_such() {
    let verdict = verdict("Assert", Some(1000));
    assert_eq!((verdict.class, verdict.scope, verdict.pace), (Unknown, Scope::Whole, Pace::Usual));
}
