//! The sections of the file, and what the values of a few of their keys may be.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{CopyOptions, pause};
use crate::egress::Egress;
use crate::human::{Size, Span};
use crate::ids::Instance;
use crate::layout::Compression;
use crate::schema::table_options::Encodings;
use crate::secret::Secret;
use crate::table_name::TableName;

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "documented once, in keys.rs")]
        pub struct $name { $($(#[$attr])* pub $field: $kind,)* }
    };
}

section!(
    /// `[instance]`
    InstanceSection { name: Instance, }
);
section!(
    /// `[adobe]`
    Adobe {
        auth: Auth,
        token_url: String,
        client_id: String,
        client_secret: Secret,
        client_secret_file: PathBuf,
        scopes: Vec<String>,
        jwt_organization: String,
        jwt_technical_account: String,
        jwt_key: Secret,
        jwt_key_file: PathBuf,
        jwt_metascopes: Vec<String>,
        token_cache: PathBuf,
        stream_url: String,
        redirect_hosts: Vec<String>,
        max_connections: u8,
        connections: u8,
        smoothing: bool,
        smoothing_bucket_size: u16,
        reset: Reset,
        connect_timeout: Span,
        idle_timeout: Span,
        retry_max: Span,
        max_record_bytes: Size,
        invalid_text: InvalidText,
        damaged_after: u32,
        /// Of the environment, not of the file.
        #[serde(skip)]
        egress: Egress,
    }
);
section!(
    /// `[schema]`
    SchemaSection { file: PathBuf, events: String, }
);
section!(
    /// One `[[filter]]`
    FilterRule {
        name: String,
        field: String,
        exists: Option<bool>,
        equals: Vec<String>,
        not_equals: Vec<String>,
        contains: Vec<String>,
        starts_with: Vec<String>,
        ends_with: Vec<String>,
        matches: Vec<String>,
        greater: Option<f64>,
        less: Option<f64>,
    }
);
section!(
    /// `[log]`
    Log {
        dir: PathBuf,
        commit_rows: u32,
        commit_interval: Span,
        max_bytes: Size,
        keep_uploaded: Size,
        cache: Size,
        dedup_window: Span,
        dedup_hits: usize,
        gap_tolerance: Span,
    }
);
section!(
    /// `[batch]`
    Batch {
        records_per_file: u32,
        max_file_bytes: Size,
        max_file_age: Span,
        files_per_batch: u32,
        max_batch_age: Span,
        compression: Compression,
    }
);
section!(
    /// `[s3]`
    S3 {
        bucket: String,
        region: String,
        endpoint: String,
        path_style: bool,
        access_key_id: String,
        secret_access_key: Secret,
        secret_access_key_file: PathBuf,
        session_token: Secret,
        session_token_file: PathBuf,
        role_arn: String,
        external_id: String,
        sts_endpoint: String,
        server_side_encryption: Encryption,
        kms_key_id: String,
        acl: Acl,
        expected_bucket_owner: String,
        archive_storage_class: String,
        to_ingest: String,
        ingested: String,
        loads: String,
        rejected: String,
        quarantine: String,
        uploads: usize,
        timeout: Span,
        /// Of the environment, not of the file.
        #[serde(skip)]
        egress: Egress,
    }
);
section!(
    /// `[redshift]`
    Redshift {
        host: String,
        port: u16,
        database: String,
        auth: Login,
        user: String,
        password: Secret,
        password_file: PathBuf,
        cluster: String,
        workgroup: String,
        region: String,
        api_endpoint: String,
        tls: Tls,
        ca_file: PathBuf,
        #[serde(deserialize_with = "table_name")]
        table: TableName,
        #[serde(deserialize_with = "table_name")]
        ledger: TableName,
        iam_role: String,
        copy_options: CopyOptions,
        sortkey: Vec<String>,
        distkey: String,
        encodings: Encodings,
        connect_timeout: Span,
        lock_timeout: Span,
        statement_timeout: Span,
    }
);
section!(
    /// `[ingester]`
    Ingester {
        dir: PathBuf,
        feed: PathBuf,
        list_interval: Span,
        list_all_interval: Span,
        batches_per_copy: usize,
        rows_per_copy: u64,
        bytes_per_copy: Size,
        alert_after: u32,
        retry_first: Span,
        retry_max: Span,
        pause: pause::Windows,
        archive: Archive,
        reconcile_interval: Span,
    }
);
section!(
    /// `[quarantine]`
    Quarantine { max_share: f64, }
);
section!(
    /// `[metrics]`
    Metrics { producer_listen: String, ingester_listen: String, }
);
section!(
    /// `[logging]`
    Logging { level: String, format: LogFormat, dir: PathBuf, keep_days: usize, }
);
section!(
    /// `[shutdown]`
    ShutdownSection { timeout: Span, }
);

/// Which secrets a program uses: those it does not use need not be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Adobe's and S3's: the producer knows nothing of Redshift.
    Producer,
    /// Redshift's and S3's.
    Ingester,
    /// S3's.
    Store,
    /// None.
    Unused,
}

impl Secrets {
    pub(super) fn adobe(self) -> bool {
        self == Self::Producer
    }

    pub(super) fn s3(self) -> bool {
        self != Self::Unused
    }

    pub(super) fn redshift(self) -> bool {
        self == Self::Ingester
    }
}

/// Kind of the credential at Adobe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// OAuth server-to-server.
    Oauth,
    /// Service account: a signed JWT is exchanged for a token.
    Jwt,
}

impl Auth {
    /// Where Adobe gives out tokens for credentials of this kind.
    #[must_use]
    pub fn token_url(self) -> &'static str {
        match self {
            Self::Oauth => "https://ims-na1.adobelogin.com/ims/token/v3",
            Self::Jwt => "https://ims-na1.adobelogin.com/ims/exchange/jwt",
        }
    }
}

/// Where reading starts after a disconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// The oldest data Adobe still holds.
    Smallest,
    /// The newest.
    Largest,
    /// As Adobe decides: from the point of disconnection if that was some minutes ago at most.
    None,
}

/// What becomes of a record with bytes that are no UTF-8, or with raw control characters in its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidText {
    /// U+FFFD takes the place of the bytes; control characters are taken as they are.
    Replace,
    /// It is a reject.
    Reject,
}

/// How the ingester logs in to Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// As `redshift.user`, with its password.
    Password,
    /// As `redshift.user`, with a temporary password for a cluster.
    Iam,
    /// As the user of the caller's IAM identity, with a temporary password for a cluster.
    IamIdentity,
    /// As the user of the caller's IAM identity, with a temporary password for a workgroup.
    Serverless,
}

impl Login {
    /// The action of AWS that gives out the password, if it is one of AWS's.
    #[must_use]
    pub fn action(self) -> Option<&'static str> {
        match self {
            Self::Password => None,
            Self::Iam => Some("GetClusterCredentials"),
            Self::IamIdentity => Some("GetClusterCredentialsWithIAM"),
            Self::Serverless => Some("GetCredentials"),
        }
    }

    /// Whether the user is named by `redshift.user`.
    #[must_use]
    pub fn needs_user(self) -> bool {
        matches!(self, Self::Password | Self::Iam)
    }
}

/// How the connection to Redshift is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Chain and host name are checked.
    VerifyFull,
    /// No TLS; towards loopback only.
    Disable,
}

/// The encryption that every object is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Encryption {
    /// The bucket's own default.
    #[serde(rename = "")]
    OfBucket,
    /// With a key of S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of KMS.
    #[serde(rename = "aws:kms")]
    Kms,
    /// Twice, with a key of KMS.
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl Encryption {
    /// Whether a key of KMS encrypts.
    #[must_use]
    pub fn is_kms(self) -> bool {
        matches!(self, Self::Kms | Self::KmsDsse)
    }
}

/// The access that every object is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Acl {
    /// Nothing is said of it.
    #[serde(rename = "")]
    OfBucket,
    /// The bucket's owner may do everything, also when another account has written the object.
    #[serde(rename = "bucket-owner-full-control")]
    BucketOwnerFullControl,
}

/// What happens to the folder of a loaded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// Moved below `s3.ingested`.
    Move,
    /// Left where it is.
    Keep,
    /// Deleted.
    Delete,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

fn table_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TableName, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}
