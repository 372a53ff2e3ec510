//! `docs/CONFIGURATION.md`, printed from the table of keys.

use std::fmt::Write;

use crate::config::keys::{KEYS, SECTIONS};

/// The page, whole.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         One TOML file for both services, given by `--config` or `LIVESTREAM_CONFIG`. It is checked as a whole before\n\
         anything is opened: an unknown key, a wrong type or a value out of range ends the program with code 78 and a\n\
         message that names the key. `deploy/pipeline.example.toml` is a file to start from.\n\n\
         Any key outside `[[filter]]` can be overridden by the environment: `redshift.password` by\n\
         `LIVESTREAM__REDSHIFT__PASSWORD`. Secrets can also stand in a file of their own, named by the key with `_file`\n\
         appended. A secret is never printed.\n\n\
         Durations are a whole number and `ms`, `s`, `m`, `h` or `d`; sizes a whole number and `B`, `KiB`, `MiB`, `GiB`\n\
         or `TiB`. Addresses must be https; plain http is accepted towards loopback only.\n\n\
         The environment also says how every HTTPS request (Adobe, S3, STS, passwords of Redshift) leaves the machine:\n\
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
    for (section, about) in SECTIONS {
        let _ = write!(
            out,
            "\n## {section}\n\n{about}\n\n| key | type | default | example | meaning |\n|---|---|---|---|---|\n"
        );
        for key in KEYS.iter().filter(|key| key.path.split('.').next() == Some(section)) {
            let default = match key.default {
                None => "**required**".to_owned(),
                Some(r#""""# | "") => "not set".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            let _ = writeln!(
                out,
                "| `{}` | {} | {default} | `{}` | {} |",
                key.path,
                key.kind.name(),
                key.example,
                key.help
            );
        }
    }
    out
}
