//! The rules beyond a value's type: ranges, addresses, and keys that need each other.

use toml::{Table, Value};
use url::Url;

use crate::config::check::address::{check_url, is_loopback_name};
use crate::config::check::{s3, secrets};
use crate::config::problems::Problems;
use crate::config::sections::{Adobe, Auth, Config, FilterRule, Login, Redshift, Secrets, Tls};
use crate::seal::{MAX_FILE_BYTES, MAX_FILE_ROWS};

/// Bytes of a Unix socket's path at most: `sun_path` has 108, of which the last is a NUL.
const MAX_SOCKET_BYTES: usize = 107;

/// Turns the completed table into sections, complaining about every value that breaks a rule.
pub(crate) fn sections(table: Table, secrets: Secrets, problems: &mut Problems) -> Option<Config> {
    match serde_path_to_error::deserialize(Value::Table(table)) {
        Ok(config) => {
            let mut config: Config = config;
            if config.adobe.token_url.is_empty() {
                config.adobe.token_url = config.adobe.auth.token_url().to_owned();
            }
            rules(&config, secrets, problems);
            Some(config)
        }
        Err(error) => {
            problems.add(&error.path().to_string(), error.inner().message());
            None
        }
    }
}

fn rules(config: &Config, secrets: Secrets, problems: &mut Problems) {
    let Config { adobe, log, batch, s3, redshift, ingester, .. } = config;

    for (key, address) in [("adobe.token_url", &adobe.token_url), ("adobe.stream_url", &adobe.stream_url)] {
        check_url(key, address, problems);
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
    s3::check(config, secrets, problems);
    secrets::one_source(
        "adobe.client_secret",
        !adobe.client_secret.is_empty(),
        &adobe.client_secret_file,
        secrets.adobe(),
        problems,
    );
    check_jwt(adobe, secrets, problems);
    secrets::one_source(
        "redshift.password",
        !redshift.password.is_empty(),
        &redshift.password_file,
        secrets.redshift() && redshift.auth == Login::Password,
        problems,
    );
    check_login(redshift, problems);

    let mut range = |key: &str, value: u64, from: u64, to: u64| {
        if !(from..=to).contains(&value) {
            problems.add(key, format_args!("must be between {from} and {to}, not {value}"));
        }
    };
    let millis = |span: crate::human::Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    let day = 86_400_000;
    range("adobe.max_connections", adobe.max_connections.into(), 1, 8);
    range("adobe.connections", adobe.connections.into(), 1, adobe.max_connections.clamp(1, 8).into());
    range("adobe.smoothing_bucket_size", adobe.smoothing_bucket_size.into(), 1, 7_200);
    if adobe.damaged_after != 0 {
        range("adobe.damaged_after", adobe.damaged_after.into(), 10, 1_000_000);
    }
    range("log.commit_rows", log.commit_rows.into(), 1, 10_000);
    range("log.dedup_hits", log.dedup_hits as u64, 1, 1_000_000_000);
    range("batch.records_per_file", batch.records_per_file.into(), 1, MAX_FILE_ROWS);
    range("batch.files_per_batch", batch.files_per_batch.into(), 1, 1_000);
    range("s3.uploads", s3.uploads as u64, 1, 64);
    range("ingester.batches_per_copy", ingester.batches_per_copy as u64, 1, 1_000);
    range("ingester.rows_per_copy", ingester.rows_per_copy, 1, 1_000_000_000);
    range("ingester.alert_after", ingester.alert_after.into(), 1, 1_000);
    range("redshift.port", redshift.port.into(), 1, 65_535);
    range("logging.keep_days", config.logging.keep_days as u64, 1, 3_650);
    let mut sized = |key: &str, size: crate::human::Size, from: &str, to: &str| {
        let (low, high) = (crate::human::Size::parse(from), crate::human::Size::parse(to));
        if low.is_some_and(|low| size < low) || high.is_some_and(|high| size > high) {
            problems.add(key, format_args!("must be between {from} and {to}, not {size}"));
        }
    };
    sized("adobe.max_record_bytes", adobe.max_record_bytes, "1KiB", "16MiB");
    sized("log.cache", log.cache, "1MiB", "4GiB");
    sized("log.max_bytes", log.max_bytes, "16MiB", "1024TiB");
    sized("ingester.bytes_per_copy", ingester.bytes_per_copy, "1MiB", "1024GiB");
    sized("batch.max_file_bytes", batch.max_file_bytes, "1KiB", &format!("{}GiB", MAX_FILE_BYTES >> 30));
    for (key, span, from, to) in [
        ("adobe.connect_timeout", adobe.connect_timeout, 100, 600_000),
        ("adobe.idle_timeout", adobe.idle_timeout, 100, day),
        ("adobe.retry_max", adobe.retry_max, 100, 3_600_000),
        ("log.commit_interval", log.commit_interval, 1, 10_000),
        ("log.dedup_window", log.dedup_window, 1_000, 31 * day),
        ("log.gap_tolerance", log.gap_tolerance, 10, day),
        ("batch.max_file_age", batch.max_file_age, 100, day),
        ("batch.max_batch_age", batch.max_batch_age, 100, day),
        ("s3.timeout", s3.timeout, 1_000, day),
        ("redshift.connect_timeout", redshift.connect_timeout, 100, 600_000),
        ("redshift.lock_timeout", redshift.lock_timeout, 100, day),
        ("redshift.statement_timeout", redshift.statement_timeout, 1_000, day),
        ("ingester.list_interval", ingester.list_interval, 100, day),
        ("ingester.list_all_interval", ingester.list_all_interval, 100, day),
        ("ingester.retry_first", ingester.retry_first, 10, day),
        ("ingester.retry_max", ingester.retry_max, 10, day),
        ("ingester.reconcile_interval", ingester.reconcile_interval, 1_000, day),
        ("shutdown.timeout", config.shutdown.timeout, 100, 3_600_000),
    ] {
        if !(from..=to).contains(&millis(span)) {
            let show = |ms| crate::human::duration(std::time::Duration::from_millis(ms));
            problems.add(key, format_args!("must be between {} and {}, not {span}", show(from), show(to)));
        }
    }

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
    check_level(&config.logging.level, problems);
    let listens = [&config.metrics.producer_listen, &config.metrics.ingester_listen];
    for (key, listen) in ["metrics.producer_listen", "metrics.ingester_listen"].into_iter().zip(listens) {
        if !listen.is_empty() && listen.parse::<std::net::SocketAddr>().is_err() {
            problems.add(key, format_args!("{listen:?} is no address with port, such as \"127.0.0.1:9464\""));
        }
    }
    if !listens[0].is_empty() && listens[0] == listens[1] && !listens[0].ends_with(":0") {
        problems.add("metrics.ingester_listen", "must not be metrics.producer_listen");
    }
    if config.schema.event_range().is_none() {
        problems.add("schema.events", "must be a range within 1..1000, such as \"1..100\"");
    }
    config.filters.iter().for_each(|rule| check_filter(rule, problems));
    let share = config.quarantine.max_share;
    if !(0.0..=1.0).contains(&share) {
        let rule = "must be between 0 and 1, where 0.1 is 10 %, not";
        problems.add("quarantine.max_share", format_args!("{rule} {share}"));
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
    if !redshift.iam_role.starts_with("arn:aws") && redshift.iam_role != "default" {
        problems.add("redshift.iam_role", "must be the ARN of a role or \"default\"");
    }
}

/// What each way to log in needs.
fn check_login(redshift: &Redshift, problems: &mut Problems) {
    let auth = match redshift.auth {
        Login::Password => "password",
        Login::Iam => "iam",
        Login::IamIdentity => "iam-identity",
        Login::Serverless => "serverless",
    };
    match (redshift.auth.needs_user(), redshift.user.trim().is_empty()) {
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
        check_url("redshift.api_endpoint", &redshift.api_endpoint, problems);
    }
}

/// What the service-account flow needs and the other does not.
fn check_jwt(adobe: &Adobe, secrets: Secrets, problems: &mut Problems) {
    let used = adobe.auth == Auth::Jwt;
    secrets::one_source(
        "adobe.jwt_key",
        !adobe.jwt_key.is_empty(),
        &adobe.jwt_key_file,
        used && secrets.adobe(),
        problems,
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
