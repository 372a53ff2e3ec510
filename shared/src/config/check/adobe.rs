//! The rules of `[adobe]`.

use url::Url;

use crate::config::choices::{Auth, Secrets};
use crate::config::keys::Adobe;
use crate::config::problems::Problems;

pub(super) fn check(adobe: &Adobe, secrets: Secrets, problems: &mut Problems) {
    for (key, address) in [("adobe.token_url", &adobe.token_url), ("adobe.stream_url", &adobe.stream_url)] {
        problems.check_url(key, address);
    }
    for host in &adobe.redirect_hosts {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
        // `*.net` would be half the world.
        let wide = host.starts_with("*.") && !name.contains('.');
        if name.is_empty() || !name.chars().all(legal) || wide {
            let rule = "is no host in small letters, nor `*.` and a domain of at least two labels";
            problems.add("adobe.redirect_hosts", format_args!("{host:?} {rule}"));
        }
    }
    if Url::parse(&adobe.stream_url).is_ok_and(|url| url.query().is_some()) {
        problems.add("adobe.stream_url", "must not have a query: the other keys of [adobe] make it");
    }
    let mut range = |key: &str, value: u32, least: u32, greatest: u32| {
        if !(least..=greatest).contains(&value) {
            problems.add(key, format_args!("must be between {least} and {greatest}, not {value}"));
        }
    };
    range("adobe.connections", adobe.connections.into(), 1, adobe.max_connections.clamp(1, 8).into());
    if adobe.damaged_after != 0 {
        range("adobe.damaged_after", adobe.damaged_after, 10, 1_000_000);
    }
    let given = !adobe.client_secret.is_empty();
    problems.one_source("adobe.client_secret", given, &adobe.client_secret_file, secrets.adobe());
    check_jwt(adobe, secrets, problems);
}

fn check_jwt(adobe: &Adobe, secrets: Secrets, problems: &mut Problems) {
    let used = adobe.auth == Auth::Jwt;
    problems.one_source(
        "adobe.jwt_key",
        !adobe.jwt_key.is_empty(),
        &adobe.jwt_key_file,
        used && secrets.adobe(),
    );
    if !used {
        return;
    }
    for (key, text, end) in [
        ("adobe.jwt_organization", &adobe.jwt_organization, "@AdobeOrg"),
        ("adobe.jwt_technical_account", &adobe.jwt_technical_account, "@techacct.adobe.com"),
    ] {
        if !text.ends_with(end) {
            problems.add(key, format_args!("must end in {end} when adobe.auth is \"jwt\": copy it from the credential in the Adobe Developer Console"));
        }
    }
    if adobe.jwt_metascopes.iter().all(|scope| scope.trim().is_empty()) {
        problems.add("adobe.jwt_metascopes", "must not be empty when adobe.auth is \"jwt\"");
    }
}
