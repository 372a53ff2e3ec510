//! The rules of every section, and those that concern several.

use std::fmt::Display;

use toml::Table;
use toml::Value;

use crate::config::check::{adobe, alerts, protect, redshift, s3};
use crate::config::choices::Secrets;
use crate::config::keys::{Config, FilterRule, KEYS, Metrics, Type};
use crate::config::problems::Problems;
use crate::human::{Size, Span};
use crate::secret::Secret;

/// Bytes of a Unix socket's path at most: `sun_path` has 108, of which the last is a NUL.
const MAX_SOCKET_BYTES: usize = 107;

pub(crate) fn sections(table: Table, secrets: Secrets, problems: &mut Problems) -> Option<Config> {
    check_ranges(&table, problems);
    match serde_path_to_error::deserialize::<_, Config>(Value::Table(table)) {
        Ok(mut config) => {
            if config.adobe.token_url.is_empty() {
                config.adobe.token_url = config.adobe.auth.token_url().to_owned();
            }
            adobe::check(&config.adobe, secrets, problems);
            s3::check(&config, secrets, problems);
            redshift::check(&config.redshift, secrets, problems);
            alerts::check(&config, secrets, problems);
            protect::check(&config.protect, secrets, problems);
            config.filters.iter().for_each(|rule| check_filter(rule, problems));
            check_places(&config, problems);
            check_rest(&config, problems);
            Some(config)
        }
        Err(error) => {
            let key = error.path().to_string();
            // A number out of its range may not fit the type either.
            if !problems.name(&key) {
                problems.add(&key, error.inner().message());
            }
            None
        }
    }
}

fn check_places(config: &Config, problems: &mut Problems) {
    let Config { log, ingester, .. } = config;
    for (key, path) in [("log.dir", &log.dir), ("ingester.dir", &ingester.dir)] {
        if path.as_os_str().is_empty() {
            problems.add(key, "must not be empty");
        }
    }
    let feed = if ingester.feed.as_os_str().is_empty() { "log.dir" } else { "ingester.feed" };
    for (key, socket) in [(feed, config.producer_socket()), ("ingester.dir", config.ingester_socket())] {
        let bytes = socket.as_os_str().len();
        if bytes > MAX_SOCKET_BYTES {
            let rule = "is too long: the path of its socket,";
            let limit = format!("has {bytes} bytes, and the system takes {MAX_SOCKET_BYTES} at most");
            problems.add(key, format_args!("{rule} {}, {limit}", socket.display()));
        }
    }
    if log.dir == ingester.dir {
        problems.add("ingester.dir", "must not be log.dir: each service needs a directory of its own");
    }
}

fn check_rest(config: &Config, problems: &mut Problems) {
    let Config { adobe, s3, redshift, .. } = config;
    for (key, text) in [
        ("adobe.client_id", &adobe.client_id),
        ("s3.bucket", &s3.bucket),
        ("s3.region", &s3.region),
        ("redshift.host", &redshift.host),
        ("redshift.database", &redshift.database),
    ] {
        if text.trim().is_empty() {
            problems.add(key, "must not be empty");
        }
    }
    check_level(&config.logging.level, problems);
    let listens = [&config.metrics.producer_listen, &config.metrics.ingester_listen];
    for (key, listen) in ["metrics.producer_listen", "metrics.ingester_listen"].into_iter().zip(listens) {
        if !listen.is_empty() && listen.parse::<std::net::SocketAddr>().is_err() {
            problems.add(key, format_args!("{listen:?} is no address with port, such as \"127.0.0.1:9464\""));
        }
    }
    let Metrics { token, token_file, .. } = &config.metrics;
    problems.one_source("metrics.token", !token.is_empty(), token_file, false);
    if !token.is_empty() && !is_token(token) {
        problems.add("metrics.token", TOKEN_RULE);
    }
    if !listens[0].is_empty() && listens[0] == listens[1] && !listens[0].ends_with(":0") {
        problems.add("metrics.ingester_listen", "must not be metrics.producer_listen");
    }
    if config.schema.event_range().is_none() {
        problems.add("schema.events", "must be a range within 1..1000, such as \"1..100\"");
    }
    let share = config.quarantine.max_share;
    if !(0.0..=1.0).contains(&share) {
        let rule = "must be between 0 and 1, where 0.1 is 10 %, not";
        problems.add("quarantine.max_share", format_args!("{rule} {share}"));
    }
}

/// What a token may be; it stands in a header, a cookie and an address as it is.
pub(crate) const TOKEN_RULE: &str = "must be 16 to 256 letters, digits, `.`, `_`, `~`, `-`";

pub(crate) fn is_token(token: &Secret) -> bool {
    let token = token.reveal();
    (16..=256).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
}

/// A filter such as `inof` would be taken for the name of a module and silence everything else.
fn check_level(filter: &str, problems: &mut Problems) {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let mut overall = false;
    for part in filter.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        overall |= !part.contains('=');
        if !LEVELS.contains(&level.to_lowercase().as_str()) {
            problems.add(
                "logging.level",
                format_args!("{level:?} is no level: write one of {}", LEVELS.join(", ")),
            );
        }
    }
    if !overall {
        problems.add("logging.level", "names no level for everything else, such as \"info\"");
    }
}

fn check_filter(rule: &FilterRule, problems: &mut Problems) {
    let key = format!("filter {:?}", rule.name);
    let tests = [
        ("filter.exists", rule.exists.is_some()),
        ("filter.equals", !rule.equals.is_empty()),
        ("filter.not_equals", !rule.not_equals.is_empty()),
        ("filter.contains", !rule.contains.is_empty()),
        ("filter.starts_with", !rule.starts_with.is_empty()),
        ("filter.ends_with", !rule.ends_with.is_empty()),
        ("filter.matches", !rule.matches.is_empty()),
        ("filter.greater", rule.greater.is_some()),
        ("filter.less", rule.less.is_some()),
    ];
    let given: Vec<_> = tests.iter().filter(|(_, given)| *given).map(|(test, _)| *test).collect();
    if given.len() != 1 {
        let all = tests.map(|(test, _)| test).join(", ");
        let given = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        problems.add(&key, format_args!("give exactly one of {all}, not {given}"));
    }
    for (test, values) in [
        ("filter.contains", &rule.contains),
        ("filter.starts_with", &rule.starts_with),
        ("filter.ends_with", &rule.ends_with),
        ("filter.matches", &rule.matches),
    ] {
        if values.iter().any(String::is_empty) {
            problems.add(&key, format_args!("{test}: the empty text fits every record"));
        }
    }
    for (test, bound) in [("filter.greater", rule.greater), ("filter.less", rule.less)] {
        if bound.is_some_and(|bound| !bound.is_finite()) {
            problems.add(&key, format_args!("{test} must be a number"));
        }
    }
    if rule.name.is_empty() || rule.field.is_empty() {
        problems.add(&key, "filter.name and filter.field must not be empty");
    }
}

fn check_ranges(table: &Table, problems: &mut Problems) {
    for key in KEYS.iter() {
        let value = key.path.split_once('.').and_then(|(section, name)| table.get(section)?.get(name));
        let (Some(value), Some((least, greatest))) = (value, key.range) else { continue };
        if let Some(shown) = outside(key.kind, value, [least, greatest]) {
            problems.add(key.path, format_args!("must be between {least} and {greatest}, not {shown}"));
        }
    }
}

fn outside(kind: Type, value: &Value, bounds: [&str; 2]) -> Option<String> {
    fn of<T: PartialOrd + Display>(value: &T, [least, greatest]: [Option<T>; 2]) -> Option<String> {
        let below = least.is_some_and(|least| *value < least);
        let above = greatest.is_some_and(|greatest| *value > greatest);
        (below || above).then(|| value.to_string())
    }
    match kind {
        Type::Size => of(&Size::parse(value.as_str()?)?, bounds.map(Size::parse)),
        Type::Duration => of(&Span::parse(value.as_str()?)?, bounds.map(Span::parse)),
        _ => of(&value.as_integer()?, bounds.map(|bound| bound.parse().ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use crate::seal::{MAX_FILE_BYTES, MAX_FILE_ROWS};

    #[test]
    fn every_bound_can_be_read() {
        for key in KEYS.iter().filter(|key| key.range.is_some()) {
            let (least, greatest) = key.range.unwrap();
            let value = |text: &str| text.parse().map_or_else(|_| Value::from(text), Value::Integer);
            for (bounds, within) in [([least, greatest], true), ([greatest, greatest], false)] {
                assert_eq!(outside(key.kind, &value(least), bounds).is_none(), within, "{}", key.path);
            }
            assert!(outside(key.kind, &value(greatest), [least, least]).is_some(), "{}", key.path);
        }
    }

    #[test]
    fn a_file_that_the_configuration_allows_is_one_that_a_seal_may_name() {
        let greatest = |path: &str| keys::find(path).unwrap().range.unwrap().1;
        assert_eq!(greatest("batch.records_per_file"), MAX_FILE_ROWS.to_string());
        assert_eq!(Size::parse(greatest("batch.max_file_bytes")), Some(Size(MAX_FILE_BYTES)));
    }
}
