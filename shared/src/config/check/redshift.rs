//! The rules of `[redshift]`.

use crate::config::choices::{Login, Secrets, Tls};
use crate::config::keys::Redshift;
use crate::config::problems::{Problems, is_loopback_name, role_fault};

pub(super) fn check(redshift: &Redshift, secrets: Secrets, problems: &mut Problems) {
    let needed = secrets.redshift() && redshift.auth == Login::Password;
    let given = !redshift.password.is_empty();
    problems.one_source("redshift.password", given, &redshift.password_file, needed);
    check_login(redshift, problems);
    if let Some(rule) = not_a_host(&redshift.host) {
        problems.add("redshift.host", rule);
    }
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
        if let Some(fault) = role_fault(arn, "\"default\" or the ARN of a role") {
            return problems.add(KEY, format_args!("{fault}, {example}"));
        }
    }
}

/// What to write in place of an address, such as a console shows it: `cluster.example:5439/dev`, or the same for JDBC.
/// What stands before an `@` is not repeated: it may be a password.
fn not_a_host(host: &str) -> Option<String> {
    let address = host.rsplit_once("://").map_or(host, |(_, rest)| rest);
    let address = address.rsplit_once('@').map_or(address, |(_, rest)| rest);
    let (address, _) = address.split_once(['?', ';']).unwrap_or((address, ""));
    let (server, database) = address.split_once('/').unwrap_or((address, ""));
    // An IPv6 address has colons of its own.
    let (server, port) = match server.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port),
        _ => (server, ""),
    };
    if server == host || server.is_empty() {
        return None;
    }
    let mut write = vec![format!("host = \"{server}\"")];
    if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() {
        write.push(format!("port = {port}"));
    }
    if !database.is_empty() {
        write.push(format!("database = \"{database}\""));
    }
    Some(format!("must be the name of the host alone: write {}", write.join(", ")))
}

fn check_login(redshift: &Redshift, problems: &mut Problems) {
    let auth = redshift.auth.name();
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

#[cfg(test)]
mod tests {
    use super::not_a_host;

    #[test]
    fn an_address_is_refused_with_what_to_write() {
        let told = |host: &str| not_a_host(host).unwrap_or_default();
        let write = "must be the name of the host alone: write host = \"c.example\"";
        assert_eq!(told("c.example:5439"), format!("{write}, port = 5439"));
        for jdbc in ["jdbc:redshift://c.example:5439/dev", "jdbc:redshift:iam://c.example:5439/dev?ssl=true"]
        {
            assert_eq!(told(jdbc), format!("{write}, port = 5439, database = \"dev\""));
        }
        assert_eq!(told("c.example/dev"), format!("{write}, database = \"dev\""));
        assert!(!told("postgresql://u:hunter2@c.example").contains("hunter2"));
        assert!(!told("jdbc:redshift://c.example:5439/dev;user=u;password=hunter2").contains("hunter2"));
        for host in ["c.example", "127.0.0.1", "::1", "fe80::1", "localhost", ""] {
            assert_eq!(not_a_host(host), None, "{host}");
        }
    }
}
