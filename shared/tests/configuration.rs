//! The configuration as its users meet it: the example file, the documentation, and what a mistake is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use shared::config::keys::{KEYS, LISTS, SECTIONS};
use shared::config::{AlertKind, Config, ConfigError, KeepRejects, Secrets, Severity, Type};

const EXAMPLE: &str = include_str!("../../deploy/pipeline.example.toml");
/// Keys to merge into it, by the names of their files.
const FRAGMENTS: [(&str, &str); 3] = [
    ("low_latency", include_str!("../../deploy/low_latency.toml")),
    ("high_volume", include_str!("../../deploy/high_volume.toml")),
    ("low_cost", include_str!("../../deploy/low_cost.toml")),
];

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(text, Path::new("pipeline.toml"), env.into_iter(), Secrets::Ingester)
}

fn complaint(text: &str, env: &[(&str, &str)]) -> String {
    parse(text, env).unwrap_err().to_string()
}

/// The example with one line replaced or, if there is no such line, added to its section.
fn with(section: &str, line: &str) -> String {
    let key = line.split('=').next().unwrap().trim();
    let mut out = String::new();
    let mut inside = false;
    for existing in EXAMPLE.lines() {
        let replaced = inside && existing.split('=').next().unwrap().trim() == key;
        if !replaced {
            out += existing;
            out.push('\n');
        }
        if existing.starts_with('[') {
            inside = existing == format!("[{section}]");
            if inside {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

fn is_in_list(path: &str) -> bool {
    LISTS.iter().any(|list| path.split_once('.').is_some_and(|(section, _)| section == *list))
}

/// The example with a target of these lines.
fn with_target(lines: &str) -> String {
    format!("{EXAMPLE}\n[[alert_target]]\n{lines}\n")
}

#[test]
fn the_example_file_loads() {
    let config = parse(EXAMPLE, &[]).unwrap();
    assert_eq!(config.instance.name.to_string(), "web-1");
    assert_eq!(config.log.commit_rows, 256, "a default");
}

/// Every key of a fragment is to differ from the example, or from the default of a key that the example does not have.
fn merge(into: &mut toml::Table, over: toml::Table, path: &str) {
    for (key, value) in over {
        let path = format!("{path}{key}");
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(over)) => {
                merge(into, over, &format!("{path}."));
            }
            (before, value) => {
                let default = KEYS.iter().find(|known| known.path == path).and_then(|known| known.default);
                let default = default.map(|text| format!("value = {text}").parse::<toml::Table>().unwrap());
                let before = before.cloned().or_else(|| default?.remove("value"));
                assert_ne!(before.as_ref(), Some(&value), "{path} says what counts without it");
                into.insert(key, value);
            }
        }
    }
}

#[test]
fn each_fragment_of_deploy_fits_into_the_example_and_says_what_differs() {
    for (name, fragment) in FRAGMENTS {
        let mut merged: toml::Table = EXAMPLE.parse().unwrap();
        merge(&mut merged, fragment.parse().unwrap(), "");
        parse(&merged.to_string(), &[]).unwrap_or_else(|error| panic!("deploy/{name}.toml: {error}"));
        let head = fragment.lines().take_while(|line| line.starts_with('#')).count();
        assert!(head > 5, "deploy/{name}.toml does not say whom it is for");
    }
}

/// `docs/CONFIGURATION.md`, printed from the table of keys.
fn documentation() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         One TOML file for both services, given by `--config` or `LIVESTREAM_CONFIG`. It is checked as a whole before\n\
         anything is opened: an unknown key, a wrong type or a value out of range ends the program with code 78 and a\n\
         message that names the key. `deploy/pipeline.example.toml` is a file to start from.\n\n\
         Any key outside `[[filter]]` and `[[alert_target]]` can be overridden by the environment: `redshift.password` by\n\
         `LIVESTREAM__REDSHIFT__PASSWORD`, and the secrets of a target by its name. Secrets can also stand in a file of their own, named by the key with `_file`\n\
         appended. A secret is never printed.\n\n\
         Durations are a whole number and `ms`, `s`, `m`, `h` or `d`; sizes a whole number and `B`, `KiB`, `MiB`, `GiB`\n\
         or `TiB`. Addresses must be https; plain http is accepted towards loopback only.\n\n\
         A running service takes the keys that say `reload` when it is asked to (SIGHUP, `systemctl reload`), and the schema\n\
         file with them; the others count from its next start on. docs/OPERATIONS.md says more\n\
         ([Changing the configuration while it runs](OPERATIONS.md#changing-the-configuration-while-it-runs)).\n\n\
         The environment also says how every HTTPS request (Adobe, S3, STS, passwords of Redshift, alerts) leaves the machine:\n\
         `HTTPS_PROXY` (or `ALL_PROXY`) names an `http://` or `https://` proxy, also with user and password; `NO_PROXY` lists\n\
         hosts, domains, addresses and networks (`10.0.0.0/8`) to reach directly, at every port: an entry that fits no host, such\n\
         as `10.*`, is a warning. `SSL_CERT_FILE` and `SSL_CERT_DIR` name the authorities (PEM) to\n\
         trust in place of the system's, for Redshift too unless `redshift.ca_file` is given; `AWS_CA_BUNDLE` is not read.\n\
         Names in small letters count where those in capitals are not set. Loopback, the metadata of an instance (169.254.169.254, fd00:ec2::254) and\n\
         the credentials of a container (169.254.170.2, 169.254.170.23, fd00:ec2::23) are always reached directly.\n\
         `HTTP_PROXY` is for plain http, which goes nowhere else. The connection to Redshift is no HTTPS and uses no proxy.\n\
         `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_STS` are refused, and an `endpoint_url` of the AWS profile\n\
         counts only for the STS that a role of the profile is asked of, by https: `s3.endpoint` and `s3.sts_endpoint` say it here.\n\
         `producer check` and `ingester check` show what is used.\n\n\
         This page is printed from `shared/src/config/keys.rs`, and a test keeps the two the same:\n\
         `UPDATE_DOCS=1 cargo test --release -p shared --test configuration`.\n",
    );
    for (section, about, keys) in SECTIONS {
        let _ = write!(
            out,
            "\n## {section}\n\n{about}\n\n| key | type | default | taken | example | meaning |\n|---|---|---|---|---|---|\n"
        );
        for key in *keys {
            let default = match key.default {
                None => "**required**".to_owned(),
                Some(r#""""# | "") => "not set".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            let _ = writeln!(
                out,
                "| `{}` | {} | {default} | {} | `{}` | {} |",
                key.path,
                key.kind.name(),
                if key.reloads { "reload" } else { "start" },
                key.example,
                key.help
            );
        }
    }
    out
}

#[test]
fn the_documentation_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, documentation()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == documentation(), "docs/CONFIGURATION.md is old: run the command it names at its top");
}

#[test]
fn a_list_is_taken_as_a_whole_and_so_is_every_secret() {
    for list in LISTS {
        let keys: Vec<_> = KEYS.iter().filter(|key| key.path.starts_with(&format!("{list}."))).collect();
        assert!(!keys.is_empty() && keys.iter().all(|key| key.reloads), "{list}");
    }
    for key in KEYS.iter().filter(|key| key.kind == Type::Secret) {
        let of_file = format!("{}_file", key.path);
        assert!(key.reloads, "{}", key.path);
        assert!(KEYS.iter().all(|other| other.path != of_file || other.reloads), "{of_file}");
    }
}

#[test]
fn every_example_in_the_documentation_is_accepted() {
    for key in KEYS.iter().filter(|key| !is_in_list(key.path)) {
        let (section, name) = key.path.split_once('.').unwrap();
        let text = with(section, &format!("{name} = {}", key.example));
        // A secret and its file exclude each other; that rule has a test of its own.
        let excused = |error: &ConfigError| {
            let twice = |problem: &String| problem.contains("set twice") || problem.contains("belongs to it");
            let alone = |problem: &String| problem.starts_with("s3.secret_access_key: is missing");
            error.problems.iter().all(|problem| twice(problem) || alone(problem))
        };
        if let Err(error) = parse(&text, &[]) {
            assert!(excused(&error), "{error}");
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let said = complaint(&with("log", "comit_rows = 5"), &[]);
    assert!(said.contains("log.comit_rows: unknown key; did you mean `commit_rows`?"), "{said}");
    let said = complaint(&format!("{EXAMPLE}\n[redshit]\nhost = \"x\""), &[]);
    assert!(said.contains("redshit: unknown key; did you mean `redshift`?"), "{said}");
    let said = complaint(EXAMPLE, &[("LIVESTREAM__REDSHIFT__PASWORD", "x")]);
    assert!(
        said.contains("LIVESTREAM__REDSHIFT__PASWORD: unknown key; did you mean `redshift.password`?"),
        "{said}"
    );
}

#[test]
fn a_key_that_went_is_accepted_with_a_warning_that_names_it_wherever_it_stands() {
    let config = parse(&with("log", "lateness = \"15m\""), &[]).unwrap();
    assert!(config.warnings[0].starts_with("log.lateness does nothing any more: "), "{:?}", config.warnings);
    let config = parse(EXAMPLE, &[("LIVESTREAM__LOG__LATENESS", "15m")]).unwrap();
    assert!(
        config.warnings[0].starts_with("LIVESTREAM__LOG__LATENESS does nothing"),
        "{:?}",
        config.warnings
    );
    assert!(parse(EXAMPLE, &[]).unwrap().warnings.is_empty(), "the example has none");
}

#[test]
fn a_directory_in_which_no_socket_can_be_bound_is_named_by_its_key() {
    let deep = |bytes: usize| format!("/{}", "d".repeat(bytes - "//feed.sock".len()));
    for (section, key) in [("log", "dir"), ("ingester", "dir")] {
        assert!(parse(&with(section, &format!("{key} = \"{}\"", deep(107))), &[]).is_ok());
        let said = complaint(&with(section, &format!("{key} = \"{}\"", deep(108))), &[]);
        assert!(
            said.contains(&format!("{section}.{key}: is too long: the path of its socket, /ddd")),
            "{said}"
        );
        assert!(said.contains("/feed.sock, has 108 bytes, and the system takes 107 at most"), "{said}");
    }
    let feed = format!("feed = \"/{}\"", "s".repeat(107));
    assert!(complaint(&with("ingester", &feed), &[]).contains("ingester.feed: is too long"));
    // With the socket elsewhere, the log may lie as deep as it likes.
    let text = with("log", &format!("dir = \"{}\"", deep(300)));
    assert!(parse(&text, &[("LIVESTREAM__INGESTER__FEED", "/run/livestream.sock")]).is_ok());
}

#[test]
fn a_stream_is_damaged_after_200_unreadable_records_and_never_with_0() {
    assert_eq!(parse(EXAMPLE, &[]).unwrap().adobe.damaged_after, 200);
    assert_eq!(parse(&with("adobe", "damaged_after = 0"), &[]).unwrap().adobe.damaged_after, 0);
}

#[test]
fn a_wrong_value_is_named_by_its_key() {
    for token in ["short", "a token with blanks in it"] {
        let said = complaint(&format!("{EXAMPLE}\n[metrics]\ntoken = \"{token}\"\n"), &[]);
        assert!(said.contains("metrics.token: must be 16 to 256 letters"), "{token}: {said}");
    }
    for (section, line, expected) in [
        ("log", "commit_rows = 0", "log.commit_rows: must be between 1 and 10000, not 0"),
        (
            "batch",
            "records_per_file = 1000001",
            "batch.records_per_file: must be between 1 and 1000000, not 1000001",
        ),
        (
            "batch",
            "max_file_bytes = \"2GiB\"",
            "batch.max_file_bytes: must be between 1KiB and 1GiB, not 2.0 GiB",
        ),
        ("log", "commit_rows = \"many\"", "log.commit_rows: must be an integer, not a string"),
        ("log", "commit_rows = -1", "log.commit_rows: "),
        ("log", "commit_interval = \"50\"", "log.commit_interval: \"50\" is not a duration"),
        ("log", "max_bytes = \"1GB\"", "log.max_bytes: \"1GB\" is not a size"),
        ("batch", "compression = \"lzma\"", "batch.compression: unknown variant `lzma`"),
        ("adobe", "max_connections = 9", "adobe.max_connections: must be between 1 and 8, not 9"),
        ("adobe", "connections = 2", "adobe.connections: must be between 1 and 1, not 2"),
        ("adobe", "connections = 0", "adobe.connections: must be between 1 and 1, not 0"),
        ("adobe", "smoothing_bucket_size = 7201", "adobe.smoothing_bucket_size: must be between 1 and 7200"),
        ("adobe", "smoothing_bucket_size = 0", "adobe.smoothing_bucket_size: must be between 1 and 7200"),
        ("adobe", "damaged_after = 9", "adobe.damaged_after: must be between 10 and 1000000, not 9"),
        ("adobe", "damaged_after = 1000001", "adobe.damaged_after: must be between 10 and 1000000"),
        ("adobe", "invalid_text = \"keep\"", "adobe.invalid_text: unknown variant `keep`"),
        ("adobe", "auth = \"basic\"", "adobe.auth: unknown variant `basic`"),
        ("adobe", "stream_url = \"http://livestream.adobe.net/x\"", "adobe.stream_url: must be https"),
        ("adobe", "stream_url = \"livestream\"", "adobe.stream_url: "),
        ("adobe", "reset = \"latest\"", "adobe.reset: unknown variant `latest`"),
        ("redshift", "tls = \"disable\"", "redshift.tls: \"disable\" is accepted only"),
        ("redshift", "auth = \"kerberos\"", "redshift.auth: unknown variant `kerberos`"),
        ("redshift", "user = \"\"", "redshift.user: is missing"),
        (
            "redshift",
            "copy_options = [\"MAXERROR 5\"]",
            "redshift.copy_options: \"MAXERROR 5\": it leaves rows out",
        ),
        (
            "redshift",
            "copy_options = [\"ROUNDEC\", \"ROUNDEC\"]",
            "redshift.copy_options: ROUNDEC is given twice",
        ),
        (
            "redshift",
            "copy_options = \"ROUNDEC\"",
            "redshift.copy_options: must be a list of text, not a string",
        ),
        ("ingester", "pause = [\"2-3\"]", "ingester.pause: \"2-3\" is no time of day"),
        (
            "ingester",
            "pause = [\"00:00-12:00\", \"11:00-00:00\"]",
            "ingester.pause: the windows leave no minute",
        ),
        ("redshift", "table = \"a.b.c\"", "redshift.table: "),
        ("redshift", "ledger = \"public.livestream\"", "redshift.ledger: must not be the table itself"),
        (
            "redshift",
            "table = \"public.livestream_ledger_lock\"",
            "redshift.ledger: must leave room for its lock",
        ),
        ("redshift", "lock_timeout = \"2d\"", "redshift.lock_timeout: must be between 100ms and 1d"),
        ("redshift", "iam_role = \"role\"", "redshift.iam_role: must be \"default\" or the ARN of a role"),
        ("redshift", "iam_role = \"arn:aws:iam::123456789012:user/u\"", "redshift.iam_role: must be"),
        (
            "redshift",
            "iam_role = \"arn:aws:iam::12345678901:role/r\"",
            "redshift.iam_role: the account id in an ARN has 12 digits, not",
        ),
        (
            "redshift",
            "iam_role = \"arn:aws:iam::123456789012:role/a,arn:aws:iam::1:role/b\"",
            "redshift.iam_role: the account id in an ARN has 12 digits, not",
        ),
        ("s3", "ingested = \"ToIngest/Done/\"", "s3.ingested: must not lie below s3.to_ingest"),
        ("s3", "to_ingest = \"ToIngest\"", "s3.to_ingest: must end in `/`"),
        ("s3", "quarantine = \"Quarantine\"", "s3.quarantine: must end in `/`"),
        ("s3", "quarantine = \"Rejected/rows/\"", "s3.quarantine: must be apart from s3.to_ingest"),
        ("instance", "name = \"a/b\"", "instance.name: "),
    ] {
        let said = complaint(&with(section, line), &[]);
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn a_share_is_a_fraction() {
    let share = |text: &str| parse(&format!("{EXAMPLE}\n[quarantine]\nmax_share = {text}\n"), &[]);
    assert!(
        (share("0").unwrap().quarantine.max_share, share("1").unwrap().quarantine.max_share) == (0.0, 1.0)
    );
    for wrong in ["10", "-0.1", "nan"] {
        let said = share(wrong).unwrap_err().to_string();
        assert!(said.contains("quarantine.max_share: must be between 0 and 1, where 0.1 is 10 %"), "{said}");
    }
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    let said = complaint("", &[]);
    for key in KEYS.iter().filter(|key| key.default.is_none() && !is_in_list(key.path)) {
        assert!(said.contains(&format!("{}: is missing; for example", key.path)), "{}: {said}", key.path);
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let config =
        parse(EXAMPLE, &[("LIVESTREAM__LOG__COMMIT_ROWS", "512"), ("LIVESTREAM__S3__REGION", "eu-west-1")]);
    let config = config.unwrap();
    assert_eq!((config.log.commit_rows, config.s3.region.as_str()), (512, "eu-west-1"));
    let said = complaint(EXAMPLE, &[("LIVESTREAM__LOG__COMMIT_ROWS", "many")]);
    assert!(said.contains("LIVESTREAM__LOG__COMMIT_ROWS: is not a TOML integer"), "{said}");
}

#[test]
fn a_secret_comes_from_one_place_and_is_needed_only_by_those_who_use_it() {
    let said = complaint(EXAMPLE, &[("LIVESTREAM__REDSHIFT__PASSWORD", "hunter2")]);
    assert!(said.contains("redshift.password: is set twice"), "{said}");
    let without = EXAMPLE.replace("password_file", "# password_file");
    let said = complaint(&without, &[]);
    assert!(said.contains("redshift.password: is missing: set it, redshift.password_file or"), "{said}");
    for (secrets, needed) in [(Secrets::Unused, false), (Secrets::Producer, false), (Secrets::Ingester, true)]
    {
        let parsed = Config::parse(&without, Path::new("x"), std::iter::empty(), secrets);
        assert_eq!(parsed.is_err(), needed, "{secrets:?}");
    }
    let without = EXAMPLE.replace("client_secret_file", "# client_secret_file");
    for (secrets, needed) in [(Secrets::Unused, false), (Secrets::Producer, true), (Secrets::Ingester, false)]
    {
        let parsed = Config::parse(&without, Path::new("x"), std::iter::empty(), secrets);
        assert_eq!(parsed.is_err(), needed, "{secrets:?}");
    }
}

#[test]
fn each_way_to_log_in_to_redshift_needs_its_own_keys_and_no_password_but_its_own() {
    let without = EXAMPLE.replace("password_file", "# password_file").replace("user = ", "# user = ");
    let config = |lines: &str| {
        let text = without.replace("[redshift]\n", &format!("[redshift]\n{lines}\n"));
        Config::parse(&text, Path::new("x"), std::iter::empty(), Secrets::Ingester)
    };
    let redshift = config("auth = \"iam\"\nuser = \"u\"").unwrap().redshift;
    assert_eq!((redshift.cluster().as_deref(), redshift.region("x")), (Some("example"), "eu-central-1"));
    let redshift = config("auth = \"iam-identity\"\ncluster = \"c\"\nregion = \"r\"").unwrap().redshift;
    assert_eq!((redshift.cluster().as_deref(), redshift.region("x")), (Some("c"), "r"));
    let redshift = config("auth = \"serverless\"\nworkgroup = \"w\"").unwrap().redshift;
    assert_eq!((redshift.workgroup().as_deref(), redshift.region("x")), (Some("w"), "eu-central-1"));
    for (lines, expected) in [
        ("", "redshift.password: is missing"),
        ("auth = \"iam\"", "redshift.user: is missing"),
        (
            "auth = \"iam-identity\"\nuser = \"u\"",
            "redshift.user: must be left out when redshift.auth is \"iam-identity\"",
        ),
        ("auth = \"serverless\"", "redshift.workgroup: is missing"),
        (
            "auth = \"serverless\"\nworkgroup = \"w\"\napi_endpoint = \"http://example.com\"",
            "redshift.api_endpoint: must be https",
        ),
    ] {
        let said = config(lines).unwrap_err().to_string();
        assert!(said.contains(expected), "{lines}: {said}");
    }
    let custom =
        without.replace("host = \"example.abc123", "host = \"warehouse.example.com\" # \"example.abc123");
    let custom = custom.replace("[redshift]\n", "[redshift]\nauth = \"iam\"\nuser = \"u\"\n");
    assert!(complaint(&custom, &[]).contains("redshift.cluster: is missing: redshift.host does not tell it"));
}

#[test]
fn a_service_account_needs_its_ids_and_its_key_and_has_another_token_url() {
    let jwt = |lines: &str| {
        let text = with("adobe", &format!("auth = \"jwt\"\n{lines}"));
        Config::parse(&text, Path::new("x"), std::iter::empty(), Secrets::Producer)
    };
    let ids = "jwt_organization = \"1@AdobeOrg\"\njwt_technical_account = \"2@techacct.adobe.com\"";
    let config = jwt(&format!("{ids}\njwt_key_file = \"/key\"")).unwrap();
    assert_eq!(config.adobe.token_url, "https://ims-na1.adobelogin.com/ims/exchange/jwt");
    assert_eq!(config.adobe.jwt_metascopes, ["ent_analytics_bulk_ingest_sdk"]);
    assert_eq!(parse(EXAMPLE, &[]).unwrap().adobe.token_url, "https://ims-na1.adobelogin.com/ims/token/v3");
    let said = jwt("jwt_metascopes = []").unwrap_err().to_string();
    for missing in [
        "adobe.jwt_organization: must end in @AdobeOrg",
        "adobe.jwt_technical_account: must end in @techacct.adobe.com",
        "adobe.jwt_key: is missing: set it, adobe.jwt_key_file or the variable LIVESTREAM__ADOBE__JWT_KEY",
        "adobe.jwt_metascopes: must not be empty",
    ] {
        assert!(said.contains(missing), "{missing}: {said}");
    }
}

#[test]
fn the_token_is_kept_beside_the_log_unless_told_otherwise() {
    let config = parse(EXAMPLE, &[]).unwrap();
    assert_eq!(config.token_cache(), Path::new("/var/lib/livestream/producer/token.json"));
    let config = parse(&with("adobe", "token_cache = \"/run/token\""), &[]).unwrap();
    assert_eq!(config.token_cache(), Path::new("/run/token"));
}

#[test]
fn no_secret_is_ever_printed() {
    let secret = "hunter2-hunter2";
    let mut texts = BTreeSet::new();
    for key in KEYS.iter().filter(|key| key.kind == Type::Secret) {
        let (section, name) = key.path.split_once('.').unwrap();
        for broken in [
            format!("{name} = \"{secret}\""),
            format!("{name} = [\"{secret}\"]"),
            format!("{name} = \"{secret}"),
        ] {
            let text = match section {
                "alert_target" => with_target(&format!("name = \"a\"\nkind = \"slack\"\n{broken}")),
                _ => with(section, &broken),
            };
            match parse(&text, &[]) {
                Ok(config) => texts.insert(format!("{config:?}")),
                Err(error) => texts.insert(format!("{error} {error:?}")),
            };
        }
        let variable = format!("LIVESTREAM__{}", key.path.to_uppercase().replace('.', "__"));
        let env = [(variable.as_str(), secret)];
        texts.insert(
            parse(EXAMPLE, &env).map_or_else(|error| format!("{error:?}"), |config| format!("{config:?}")),
        );
    }
    for text in texts {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_target_has_its_secrets_from_the_file_of_configuration_a_file_or_a_variable_by_its_name() {
    let chat = "name = \"night-chat\"\nkind = \"slack\"";
    let url = "https://hooks.example/T0";
    let given = parse(&with_target(&format!("{chat}\nurl = \"{url}\"")), &[]).unwrap();
    assert_eq!(given.alert_targets[0].url.reveal(), url);
    assert_eq!(given.alert_targets[0].severity, Severity::Warning);
    let set = parse(&with_target(chat), &[("LIVESTREAM__ALERT_TARGET__NIGHT_CHAT__URL", url)]).unwrap();
    assert_eq!(set.alert_targets[0].url.reveal(), url);
    let said = complaint(&with_target(chat), &[]);
    let variable = "the variable LIVESTREAM__ALERT_TARGET__NIGHT_CHAT__URL";
    assert!(said.contains("alert_target \"night-chat\": url is missing: set it, url_file or"), "{said}");
    assert!(said.contains(variable), "{said}");
    for unknown in ["OTHER__URL", "NIGHT_CHAT__KIND", "URL"] {
        let variable = format!("LIVESTREAM__ALERT_TARGET__{unknown}");
        let said = complaint(&with_target(&format!("{chat}\nurl = \"{url}\"")), &[(&variable, "slack")]);
        assert!(said.contains(&format!("{variable}: unknown key")), "{said}");
    }
    for (secrets, needed) in [
        (Secrets::Unused, false),
        (Secrets::Store, false),
        (Secrets::Producer, true),
        (Secrets::Alerts, true),
    ] {
        let parsed = Config::parse(&with_target(chat), Path::new("x"), std::iter::empty(), secrets);
        assert_eq!(parsed.is_err(), needed, "{secrets:?}");
    }
}

#[test]
fn a_target_that_cannot_be_told_is_named_with_the_rule_and_never_with_its_address() {
    for (lines, expected) in [
        ("kind = \"slack\"\nurl = \"http://hunter2.example/\"", "alert_target \"a\": url: must be https"),
        ("kind = \"json\"\nurl = \"hunter2\"", "alert_target \"a\": url: is not an address"),
        ("kind = \"pagerduty\"", "alert_target \"a\": routing_key is missing: set it, routing_key_file or"),
        ("kind = \"slack\"\nrouting_key = \"hunter2\"", "routing_key belongs to kind = \"pagerduty\""),
        ("kind = \"slack\"\nurl = \"hunter2\"\nurl_file = \"/x\"", "url is set twice: here and in url_file"),
        ("kind = \"mail\"", "alert_target[0].kind: unknown variant `mail`"),
        ("kind = \"json\"\nseverity = \"info\"", "alert_target[0].severity: unknown variant `info`"),
        (
            "kind = \"json\"\nurl = \"https://a.example\"\nuri = \"x\"",
            "alert_target.uri: unknown key; did you mean `url`?",
        ),
    ] {
        let said = complaint(&with_target(&format!("name = \"a\"\n{lines}")), &[]);
        assert!(said.contains(expected) && !said.contains("hunter2"), "{lines}: {said}");
    }
    let said = complaint(&with_target("name = \"a b\"\nkind = \"pagerduty\"\nrouting_key = \"k\""), &[]);
    assert!(said.contains("alert_target.name must be 1 to 32 letters"), "{said}");
    let one = "kind = \"pagerduty\"\nrouting_key = \"k\"";
    let two = with_target(&format!("name = \"a-b\"\n{one}\n[[alert_target]]\nname = \"A_B\"\n{one}"));
    assert!(complaint(&two, &[]).contains("another target is called so"));
    let said = complaint(&format!("alert_target = 5\n{EXAMPLE}"), &[]);
    assert!(said.contains("alert_target: must be a list of tables: write `[[alert_target]]`"), "{said}");
    for (line, expected) in [
        ("repeat = \"1s\"", "alerts.repeat: must be between 1m and 30d"),
        ("producer_heartbeat = \"http://hunter2.example\"", "alerts.producer_heartbeat: must be https"),
        ("docs = \"\"", "alerts.docs: must not be empty"),
    ] {
        let said = complaint(&format!("{EXAMPLE}\n[alerts]\n{line}\n"), &[]);
        assert!(said.contains(expected) && !said.contains("hunter2"), "{line}: {said}");
    }
}

#[test]
fn the_targets_the_example_suggests_are_accepted() {
    let (before, targets) = EXAMPLE.split_once("# [[alert_target]]").unwrap();
    let (targets, after) = targets.split_once("\n[logging]").unwrap();
    let text = format!("{before}[[alert_target]]{}\n[logging]{after}", targets.replace("\n# ", "\n"));
    let kinds: Vec<_> = parse(&text, &[]).unwrap().alert_targets.iter().map(|target| target.kind).collect();
    assert_eq!(kinds, [AlertKind::Slack, AlertKind::PagerDuty]);
}

#[test]
fn the_filters_the_example_suggests_are_accepted() {
    let (before, filters) = EXAMPLE.split_once("# Known bots").unwrap();
    let (filters, after) = filters.split_once("\n[log]").unwrap();
    let filters: Vec<_> =
        filters.lines().filter(|line| line.starts_with("# [") || line.contains('=')).collect();
    let text = format!("{before}\n{}\n[log]{after}", filters.join("\n").replace("# ", ""));
    let names: Vec<_> = parse(&text, &[]).unwrap().filters.into_iter().map(|filter| filter.name).collect();
    assert_eq!(names, ["excluded", "bots", "other report suites"]);
}

#[test]
fn a_filter_names_exactly_one_test() {
    for (wrong, expected) in [
        ("equals = []", "give exactly one of filter.exists, filter.equals, filter.not_equals,"),
        ("equals = []", "filter.less, not none"),
        ("equals = [\"yes\"]\nless = 5", "not filter.equals and filter.less"),
        ("exists = \"yes\"", "filter.exists: must be a boolean, not a string"),
        ("greater = \"5\"", "filter.greater: must be a number, not a string"),
        ("less = nan", "filter \"excluded\": filter.less must be a number"),
        (
            "contains = [\"a\", \"\"]",
            "filter \"excluded\": filter.contains: the empty text fits every record",
        ),
    ] {
        let said = complaint(&EXAMPLE.replace("equals = [\"yes\"]", wrong), &[]);
        assert!(said.contains(expected), "{wrong}: {said}");
    }
    for key in KEYS.iter().filter(|key| key.path.starts_with("filter.")) {
        let name = key.path.trim_start_matches("filter.");
        if !["name", "field"].contains(&name) {
            let one = format!("{name} = {}", key.example);
            let config = parse(&EXAMPLE.replace("equals = [\"yes\"]", &one), &[]);
            assert_eq!(config.unwrap().filters.len(), 1, "{one}");
        }
    }
    let said = complaint(&EXAMPLE.replace("field = ", "feild = "), &[]);
    assert!(said.contains("filter.feild: unknown key; did you mean `field`?"), "{said}");
}

#[test]
fn what_the_bucket_asks_for_is_checked_and_the_key_that_is_wrong_is_named() {
    for (lines, expected) in [
        ("kms_key_id = \"k\"", "s3.server_side_encryption: must be \"aws:kms\" or \"aws:kms:dsse\""),
        ("server_side_encryption = \"AES256\"\nkms_key_id = \"k\"", "s3.kms_key_id belongs to it"),
        ("server_side_encryption = \"kms\"", "s3.server_side_encryption: unknown variant"),
        ("acl = \"public-read\"", "s3.acl: unknown variant"),
        ("expected_bucket_owner = \"12345678901\"", "s3.expected_bucket_owner: must be the 12 digits"),
        ("archive_storage_class = \"GLACIER\"", "s3.archive_storage_class: \"GLACIER\" is none of STANDARD,"),
        ("session_token = \"t\"", "s3.access_key_id: is missing: s3.session_token belongs to it"),
        ("external_id = \"e\"", "s3.role_arn: is missing: s3.external_id belongs to it"),
        ("role_arn = \"arn:aws:iam::1:user/u\"", "s3.role_arn: must be the ARN of a role"),
        (
            "role_arn = \"arn:aws:iam::1:role/r\"\nsts_endpoint = \"http://sts\"",
            "s3.sts_endpoint: must be https",
        ),
    ] {
        let said = complaint(&with("s3", lines), &[]);
        assert!(said.contains(expected), "{lines}: {said}");
    }
    let said = complaint(EXAMPLE, &[("HTTPS_PROXY", "socks5://user:hunter2@p:1")]);
    assert!(said.contains("HTTPS_PROXY: is a socks5 proxy") && !said.contains("hunter2"), "{said}");
    let said = complaint(EXAMPLE, &[("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:9000")]);
    assert!(said.contains("AWS_ENDPOINT_URL_S3: must not be set") && said.contains("s3.endpoint"), "{said}");
}

/// The example with these lines in `[protect]`.
fn with_protection(lines: &str) -> String {
    format!("{EXAMPLE}\n[protect]\n{lines}\n")
}

const PSEUDONYM_KEY: &str = "fedcba9876543210fedcba9876543210";

#[test]
fn what_is_kept_of_rejects_follows_from_what_is_protected() {
    let keep = |text: &str| parse(text, &[]).unwrap().kept_rejects();
    assert_eq!(keep(EXAMPLE), KeepRejects::Full);
    assert_eq!(keep(&with_protection("drop = [\"ip\"]")), KeepRejects::Protected);
    for (word, expected) in
        [("full", KeepRejects::Full), ("protected", KeepRejects::Protected), ("reason", KeepRejects::Reason)]
    {
        let rejects = format!("[rejects]\nkeep = \"{word}\"\n");
        assert_eq!(keep(&format!("{EXAMPLE}\n{rejects}")), expected);
        assert_eq!(keep(&with_protection(&format!("drop = [\"ip\"]\n{rejects}"))), expected);
    }
    assert!(
        complaint(&format!("{EXAMPLE}\n[rejects]\nkeep = \"none\"\n"), &[])
            .contains("rejects.keep: unknown variant")
    );
}

#[test]
fn a_protection_that_cannot_be_is_named_with_the_rule() {
    let whole = "mask_parameters = [\"referrer\"]\nparameters = [\"email\"]\npseudonym = [\"evar1\", \"$.mcVisIdHigh\"]";
    let config = parse(&with_protection(whole), &[("LIVESTREAM__PROTECT__DROP", "[\"ip\"]")]).unwrap();
    assert_eq!(config.protect.drop, ["ip"]);
    for (lines, expected) in [
        ("drop = \"ip\"", "protect.drop: must be a list of text, not a string"),
        ("mask = [\"ip\"]", "protect.mask: unknown key"),
        ("drop = [\"\"]", "protect.drop: `` is not a path: a key is empty"),
        ("drop = [\"products[].name\"]", "a path names no elements: leave `[]` out"),
        ("drop = [\"$\"]", "protect.drop: `$` is the whole record: name the fields in it"),
        ("drop = [\"ip\"]\nmask_ip = [\"ip\"]", "protect.mask_ip: \"ip\" stands in protect.drop too"),
        (
            "mask_parameters = [\"referrer\"]",
            "protect.parameters: is missing: protect.mask_parameters does nothing",
        ),
        ("parameters = [\"email\"]", "protect.mask_parameters: is missing"),
        (
            "mask_parameters = [\"a\"]\nparameters = [\"e=\"]",
            "protect.parameters: a name is that of a parameter",
        ),
        ("pseudonym_length = 8", "protect.pseudonym_length: must be between 16 and 64, not 8"),
        (
            "pseudonym_spelling = \"base64url\"\npseudonym_length = 44",
            "protect.pseudonym_length: with base64url at most 43",
        ),
        ("pseudonym_spelling = \"base32\"", "protect.pseudonym_spelling: unknown variant `base32`"),
        ("pseudonym_key = \"hunter2\"", "protect.pseudonym_key: must have 32 bytes or more"),
    ] {
        let said = complaint(&with_protection(lines), &[]);
        assert!(said.contains(expected) && !said.contains("hunter2"), "{lines}: {said}");
    }
}

#[test]
fn only_who_makes_pseudonyms_needs_their_key() {
    let text = with_protection("pseudonym = [\"evar1\"]");
    for (secrets, needed) in [
        (Secrets::Producer, true),
        (Secrets::Replay, true),
        (Secrets::Store, false),
        (Secrets::Ingester, false),
        (Secrets::Unused, false),
    ] {
        let parse = |env: &[(&str, &str)]| {
            let env: Vec<_> =
                env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Config::parse(&text, Path::new("x"), env.into_iter(), secrets)
        };
        let said = parse(&[]).err().map(|error| error.to_string());
        assert_eq!(said.is_some(), needed, "{secrets:?}: {said:?}");
        if let Some(said) = said {
            let expected = "protect.pseudonym_key: is missing: set it, protect.pseudonym_key_file or the variable \
                            LIVESTREAM__PROTECT__PSEUDONYM_KEY";
            assert!(said.contains(expected), "{said}");
        }
        parse(&[("LIVESTREAM__PROTECT__PSEUDONYM_KEY", PSEUDONYM_KEY)]).unwrap();
    }
}

#[test]
fn a_key_of_pseudonyms_from_a_file_is_long_enough_and_never_shown() {
    let dir = std::env::temp_dir().join(format!("livestream-pseudonyms-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (key, config) = (dir.join("key"), dir.join("pipeline.toml"));
    let lines = format!("pseudonym = [\"evar1\"]\npseudonym_key_file = \"{}\"", key.display());
    std::fs::write(&config, with_protection(&lines)).unwrap();
    std::fs::write(&key, "hunter2\n").unwrap();
    let said = Config::load(&config, Secrets::Replay).unwrap_err().to_string();
    assert!(said.contains("protect.pseudonym_key_file") && said.contains("must have 32 bytes"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    std::fs::write(&key, format!("{PSEUDONYM_KEY}\n")).unwrap();
    let config = Config::load(&config, Secrets::Replay).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(config.protect.pseudonym_key.reveal(), PSEUDONYM_KEY);
    assert!(!format!("{config:?}").contains(PSEUDONYM_KEY));
}
