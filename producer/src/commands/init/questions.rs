//! What is asked, once: a flag, a question on a terminal, and the key that the answer is for.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One answer that a configuration needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// The flag, without its dashes.
    pub(super) flag: &'static str,
    /// The key of the configuration, by which a check complains.
    pub(super) key: &'static str,
    pub(super) text: &'static str,
    /// What is taken without an answer; None: an answer is needed.
    pub(super) default: Option<&'static str>,
    /// Whether a terminal is asked. Otherwise the flag or the default decides.
    pub(super) asked: bool,
}

const fn needed(flag: &'static str, key: &'static str, text: &'static str) -> Question {
    Question { flag, key, text, default: None, asked: true }
}

const fn usual(
    flag: &'static str,
    key: &'static str,
    text: &'static str,
    default: &'static str,
    asked: bool,
) -> Question {
    Question { flag, key, text, default: Some(default), asked }
}

/// All of them, in the order in which they are asked. The default of the first follows from the name of the file.
pub(super) const QUESTIONS: [Question; 13] = [
    usual("instance", "instance.name", "Name of this producer, unlike that of any other", "", true),
    needed("client-id", "adobe.client_id", "Adobe Developer Console: client id of the credential"),
    needed("stream-url", "adobe.stream_url", "Adobe Livestream: address of the stream (https://…)"),
    needed("bucket", "s3.bucket", "S3: bucket"),
    needed("region", "s3.region", "S3: region of the bucket"),
    usual("prefix", "s3.to_ingest", "S3: prefix in the bucket", "", false),
    needed("redshift-host", "redshift.host", "Redshift: host of the cluster or workgroup"),
    usual("redshift-port", "redshift.port", "Redshift: port", "5439", false),
    needed("database", "redshift.database", "Redshift: database"),
    usual("table", "redshift.table", "Redshift: table", "public.livestream", true),
    usual(
        "auth",
        "redshift.auth",
        "Redshift: login (password, iam, iam-identity, serverless)",
        "password",
        true,
    ),
    usual("user", "redshift.user", "Redshift: user that owns the tables", "livestream_loader", true),
    needed("iam-role", "redshift.iam_role", "Redshift: ARN of the role that COPY reads S3 with, or default"),
];

/// The answer to each question, by its flag.
pub(super) type Answers = BTreeMap<&'static str, String>;

/// What `producer init` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Set `instance.name`. Without it, the name of the file, or of this machine for `pipeline.toml`.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Set `adobe.client_id`.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Set `adobe.stream_url`.
    #[arg(long, value_name = "URL")]
    stream_url: Option<String>,
    /// Set `s3.bucket`.
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Set `s3.region`.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Put `ToIngest/` and the other prefixes below this one: each table needs prefixes of its own in a bucket.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Set `redshift.host`.
    #[arg(long, value_name = "HOST")]
    redshift_host: Option<String>,
    /// Set `redshift.port`. Without it 5439.
    #[arg(long, value_name = "PORT")]
    redshift_port: Option<String>,
    /// Set `redshift.database`.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Set `redshift.table`, and `redshift.ledger` beside it. Without it `public.livestream`.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Option<String>,
    /// Set `redshift.auth`: `password`, `iam`, `iam-identity` or `serverless`. Without it `password`.
    #[arg(long, value_name = "LOGIN")]
    auth: Option<String>,
    /// Set `redshift.user`, with `password` and `iam`. Without it `livestream_loader`.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Set `redshift.iam_role`.
    #[arg(long, value_name = "ARN")]
    iam_role: Option<String>,
    /// Name FILE as the one that holds the client secret. Without it, `client_secret` beside the configuration.
    #[arg(long, value_name = "FILE")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// Name FILE as the one that holds the password of Redshift. Without it, `redshift_password` beside the configuration.
    #[arg(long, value_name = "FILE")]
    pub(super) redshift_password_file: Option<PathBuf>,
    /// Name no files of secrets: the services read them from the environment.
    #[arg(long, conflicts_with_all = ["client_secret_file", "redshift_password_file"])]
    pub(super) secrets_in_environment: bool,
    /// Keep the databases of both services below DIR, and their log files.
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Ask nothing: take the defaults for what no flag says.
    #[arg(long)]
    pub(super) yes: bool,
    /// Replace a configuration that is there. Files of secrets and of the schema stay as they are.
    #[arg(long)]
    pub(super) force: bool,
}

impl Flags {
    /// What the flags answer, by question.
    pub(super) fn answers(&self) -> Answers {
        let given = [
            ("instance", &self.instance),
            ("client-id", &self.client_id),
            ("stream-url", &self.stream_url),
            ("bucket", &self.bucket),
            ("region", &self.region),
            ("prefix", &self.prefix),
            ("redshift-host", &self.redshift_host),
            ("redshift-port", &self.redshift_port),
            ("database", &self.database),
            ("table", &self.table),
            ("auth", &self.auth),
            ("user", &self.user),
            ("iam-role", &self.iam_role),
        ];
        given.into_iter().filter_map(|(flag, value)| Some((flag, value.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    #[test]
    fn every_question_has_a_flag_and_a_key_of_the_configuration() {
        let command = Flags::augment_args(Command::new("init"));
        for Question { flag, key, .. } in QUESTIONS {
            assert!(command.get_arguments().any(|argument| argument.get_long() == Some(flag)), "{flag}");
            assert!(shared::config::keys::KEYS.iter().any(|known| known.path == key), "{key}");
        }
    }
}
