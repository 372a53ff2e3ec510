//! The grants and policies of `deploy/`, with the names of the configuration in the place of the examples'.

use std::fmt::Write;

use serde_json::Value;
use shared::config::{Config, Login};
use shared::exit::{Exit, Failure};
use shared::table_name::TableName;

const GRANTS: &str = include_str!("../../../../deploy/grants.sql");
/// Those that name the bucket.
const POLICIES: [(&str, &str); 5] = [
    ("iam-producer.json", include_str!("../../../../deploy/iam-producer.json")),
    ("iam-ingester.json", include_str!("../../../../deploy/iam-ingester.json")),
    ("iam-operator.json", include_str!("../../../../deploy/iam-operator.json")),
    ("iam-copy-role.json", include_str!("../../../../deploy/iam-copy-role.json")),
    ("iam-copy-role-trust.json", include_str!("../../../../deploy/iam-copy-role-trust.json")),
];
const LOGIN: &str = include_str!("../../../../deploy/iam-redshift-login.json");
const ACCOUNT: &str = "123456789012";
/// What the example says of its names.
const OF_EXAMPLE: &str =
    "The names are the defaults of the configuration; change them here if you changed them there.";

/// The files, by name.
pub(super) fn files(config: &Config) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut files = vec![("grants.sql", grants(config))];
    files.extend(POLICIES.map(|(name, policy)| (name, of_bucket(config, policy))));
    if config.redshift.auth != Login::Password {
        files.push(("iam-redshift-login.json", login(config)?));
    }
    Ok(files)
}

/// What stands for the account where no key tells it.
fn account(config: &Config) -> &str {
    config.redshift.iam_role.split(':').nth(4).filter(|account| !account.is_empty()).unwrap_or(ACCOUNT)
}

/// How an ARN of this region begins: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.
fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "arn:aws-cn:",
        _ if region.starts_with("us-gov-") => "arn:aws-us-gov:",
        _ => "arn:aws:",
    }
}

fn of_bucket(config: &Config, policy: &str) -> String {
    let s3 = &config.s3;
    let mut policy = policy.to_owned();
    for (example, prefix) in [
        ("ToIngest/", &s3.to_ingest),
        ("Ingested/", &s3.ingested),
        ("Loads/", &s3.loads),
        ("Rejected/", &s3.rejected),
        ("Quarantine/", &s3.quarantine),
    ] {
        policy = policy
            .replace(&format!(":::example-livestream/{example}"), &format!(":::{}/{prefix}", s3.bucket));
    }
    policy
        .replace(":::example-livestream", &format!(":::{}", s3.bucket))
        .replace("arn:aws:", partition(&s3.region))
}

/// The one statement of the login that is configured.
fn login(config: &Config) -> Result<String, Failure> {
    let redshift = &config.redshift;
    let wanted = match redshift.auth {
        Login::Iam | Login::Password => "IamGetClusterCredentials",
        Login::IamIdentity => "IamIdentity",
        Login::Serverless => "Serverless",
    };
    let unfit = |error| Failure::new(Exit::Software, error);
    let mut policy: Value = serde_json::from_str(LOGIN).map_err(unfit)?;
    if let Some(statements) = policy.get_mut("Statement").and_then(Value::as_array_mut) {
        statements.retain(|one| one["Sid"].as_str().is_some_and(|sid| sid.starts_with(wanted)));
    }
    let region = redshift.region(&config.s3.region);
    let cluster = redshift.cluster().unwrap_or_else(|| "CLUSTER".to_owned());
    let text = serde_json::to_string_pretty(&policy).map_err(unfit)?;
    Ok(text
        .replace(":dbuser:example/livestream_loader", &format!(":dbuser:{cluster}/{}", redshift.user))
        .replace(":dbname:example/analytics", &format!(":dbname:{cluster}/{}", redshift.database))
        .replace(&format!(":eu-central-1:{ACCOUNT}:"), &format!(":{region}:{}:", account(config)))
        .replace("arn:aws:", partition(region))
        + "\n")
}

fn grants(config: &Config) -> String {
    let redshift = &config.redshift;
    let user = match redshift.auth {
        Login::Password | Login::Iam => identifier(&redshift.user),
        // The name of the role or user that the ingester has in AWS, which no key tells.
        Login::IamIdentity | Login::Serverless => "\"IAMR:livestream\"".to_owned(),
    };
    let mut text = String::new();
    for line in GRANTS.lines() {
        match (redshift.auth, line) {
            (Login::Password, _) => {}
            (_, line) if line.contains("MD5") => continue,
            (_, line) if line.starts_with("CREATE USER ") => {
                if redshift.auth != Login::Iam {
                    text.push_str("-- Put the name of the ingester's role behind IAMR:, or that of its user behind IAM:.\n");
                }
                text.push_str("CREATE USER livestream_loader PASSWORD DISABLE;\n");
                continue;
            }
            _ => {}
        }
        let _ = writeln!(text, "{line}");
    }
    let schema = redshift.table.schema().map_or_else(|| "public".to_owned(), identifier);
    // The longer names first: they begin with the shorter ones.
    text.replace(OF_EXAMPLE, "The names are those of the configuration.")
        .replace("public.livestream_ledger_lock", &name(&redshift.ledger.lock_table()))
        .replace("public.livestream_ledger", &name(&redshift.ledger))
        .replace("public.livestream", &name(&redshift.table))
        .replace("SCHEMA public", &format!("SCHEMA {schema}"))
        .replace("DATABASE dev", &format!("DATABASE {}", identifier(&redshift.database)))
        .replace("'livestream_loader'", &format!("'{}'", redshift.user.replace('\'', "''")))
        .replace("livestream_loader", &user)
        .replace(&format!("arn:aws:iam::{ACCOUNT}:role/livestream-copy"), &redshift.iam_role)
}

fn name(table: &TableName) -> String {
    let schema = table.schema().map(|schema| identifier(schema) + ".").unwrap_or_default();
    schema + &identifier(table.table())
}

/// A name as SQL takes it.
fn identifier(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if begins && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::config::Secrets;

    use super::*;

    fn config(alter: impl FnOnce(String) -> String) -> Config {
        let example = include_str!("../../../../deploy/pipeline.example.toml")
            .replace("example-livestream", "the-bucket")
            .replace("example.abc123", "cluster-7.abc123")
            .replace("\"analytics\"", "\"Dev\"")
            .replace("\"livestream_loader\"", "\"loader\"")
            .replace("public.livestream", "ana.hits")
            .replace(ACCOUNT, "999999999999")
            .replace("[s3]\n", "[s3]\nto_ingest = \"a/ToIngest/\"\nquarantine = \"a/Quarantine/\"\n");
        Config::parse(&alter(example), Path::new("p"), std::iter::empty(), Secrets::Unused).unwrap()
    }

    #[test]
    fn no_name_of_the_examples_is_left() {
        for (from, to) in [
            ("", ""),
            ("password_file", "auth = \"iam\"\npassword_file"),
            ("user = \"loader\"\n", "auth = \"iam-identity\"\n"),
        ] {
            let files = files(&config(|text| text.replacen(from, to, 1))).unwrap();
            for (name, text) in &files {
                for example in
                    ["example", ACCOUNT, "livestream_loader", "public.", "arn:aws:s3:::the-bucket/ToIngest/"]
                {
                    let left = text.lines().find(|line| !line.starts_with("--") && line.contains(example));
                    assert!(left.is_none(), "{name} has {example}: {left:?}");
                }
                if name.ends_with(".json") {
                    serde_json::from_str::<Value>(text).unwrap();
                }
            }
            let grants = &files[0].1;
            assert!(grants.contains("ALTER TABLE ana.hits_ledger_lock OWNER TO"), "{grants}");
            assert!(grants.contains("GRANT USAGE ON SCHEMA ana TO"), "{grants}");
            assert!(grants.contains("The names are those of the configuration."), "{grants}");
            assert!(files[1].1.contains("\"arn:aws:s3:::the-bucket/a/ToIngest/*\""), "{}", files[1].1);
            assert!(files[1].1.contains("\"arn:aws:s3:::the-bucket/Rejected/*\""), "{}", files[1].1);
            assert_eq!(files.iter().any(|(name, _)| *name == "iam-redshift-login.json"), !to.is_empty());
        }
    }

    #[test]
    fn the_login_has_the_one_statement_that_it_needs() {
        let login = |from: &str, to: &str| login(&config(|text| text.replacen(from, to, 1))).unwrap();
        let iam = login("password_file", "auth = \"iam\"\npassword_file");
        assert!(iam.contains("arn:aws:redshift:eu-central-1:999999999999:dbuser:cluster-7/loader"), "{iam}");
        assert!(iam.contains(":dbname:cluster-7/Dev") && !iam.contains("serverless"), "{iam}");
        let identity = login("user = \"loader\"\n", "auth = \"iam-identity\"\n");
        assert!(
            identity.contains("GetClusterCredentialsWithIAM") && !identity.contains("dbuser"),
            "{identity}"
        );
    }

    #[test]
    fn names_are_quoted_where_sql_wants_it_and_china_has_other_arns() {
        assert_eq!(
            [identifier("a_1"), identifier("IAMR:x"), identifier("1a"), identifier("a\"b")],
            ["a_1", "\"IAMR:x\"", "\"1a\"", "\"a\"\"b\""]
        );
        let china = config(|text| text.replace("region = \"eu-central-1\"", "region = \"cn-north-1\""));
        assert!(of_bucket(&china, POLICIES[0].1).contains("arn:aws-cn:s3:::the-bucket/"));
    }
}
