//! The rules of `[redshift]`.

use crate::config::choices::{Login, Secrets, Tls};
use crate::config::keys::Redshift;
use crate::config::problems::{Problems, is_loopback_name};

pub(super) fn check(redshift: &Redshift, secrets: Secrets, problems: &mut Problems) {
    let needed = secrets.redshift() && redshift.auth == Login::Password;
    let given = !redshift.password.is_empty();
    problems.one_source("redshift.password", given, &redshift.password_file, needed);
    check_login(redshift, problems);
    if redshift.table == redshift.ledger {
        problems.add("redshift.ledger", "must not be the table itself");
    } else if [&redshift.table, &redshift.ledger].contains(&&redshift.ledger.lock_table()) {
        problems.add(
            "redshift.ledger",
            "must leave room for its lock, the table of its name with _lock behind it",
        );
    }
    if redshift.tls == Tls::Disable && !is_loopback_name(&redshift.host) {
        problems.add(
            "redshift.tls",
            "\"disable\" is accepted only when redshift.host is this machine's loopback",
        );
    }
    check_copy_role(&redshift.iam_role, problems);
}

/// `default`, or ARNs of roles; several, separated by commas, are assumed one by the other.
fn check_copy_role(role: &str, problems: &mut Problems) {
    const KEY: &str = "redshift.iam_role";
    let example = "such as arn:aws:iam::123456789012:role/livestream-copy";
    if role == "default" {
        return;
    }
    for arn in role.split(',') {
        let parts: Vec<_> = arn.splitn(6, ':').collect();
        let [_, _, "iam", "", account, name] = parts[..] else {
            return problems.add(KEY, format_args!("must be \"default\" or the ARN of a role, {example}"));
        };
        if !arn.starts_with("arn:aws") || name.strip_prefix("role/").is_none_or(str::is_empty) {
            return problems.add(KEY, format_args!("must be \"default\" or the ARN of a role, {example}"));
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            let rule = "the account id in an ARN has 12 digits, not";
            return problems.add(KEY, format_args!("{rule} {account:?}: {example}"));
        }
    }
}

fn check_login(redshift: &Redshift, problems: &mut Problems) {
    let auth = match redshift.auth {
        Login::Password => "password",
        Login::Iam => "iam",
        Login::IamIdentity => "iam-identity",
        Login::Serverless => "serverless",
    };
    match (matches!(redshift.auth, Login::Password | Login::Iam), redshift.user.trim().is_empty()) {
        (true, true) => {
            let rule = "is missing: for example user = \"livestream_loader\"";
            problems.add("redshift.user", rule);
        }
        (false, false) => {
            let rule = format!(
                "must be left out when redshift.auth is {auth:?}: the user follows from the IAM identity"
            );
            problems.add("redshift.user", rule);
        }
        _ => {}
    }
    let (key, name) = match redshift.auth {
        Login::Password => return,
        Login::Iam | Login::IamIdentity => ("redshift.cluster", redshift.cluster()),
        Login::Serverless => ("redshift.workgroup", redshift.workgroup()),
    };
    if name.is_none() {
        let rule = "is missing: redshift.host does not tell it, and AWS wants it when redshift.auth is";
        problems.add(key, format_args!("{rule} {auth:?}"));
    }
    if !redshift.api_endpoint.is_empty() {
        problems.check_url("redshift.api_endpoint", &redshift.api_endpoint);
    }
}
