//! Every key of the configuration, once: its name, type, default and meaning. The loader takes defaults and the names it
//! accepts from here, and `docs/CONFIGURATION.md` is printed from here (a test compares them).

use std::path::PathBuf;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::config::choices::{
    Acl, AlertKind, Archive, Auth, Encodings, Encryption, InvalidText, KeepRejects, LogFormat, Login,
    OnSchemaChange, Reset, Severity, Spelling, Tls,
};
use crate::config::copy_options::CopyOptions;
use crate::config::key::Type::{
    Boolean, Duration, Integer, Number, Path, Secret as Hidden, Size as Bytes, Text, Texts,
};
pub use crate::config::key::{Key, Type};
use crate::config::key::{Section, key, section};
use crate::config::pause;
use crate::config::source::Source;
use crate::egress::Egress;
use crate::human::{Size, Span};
use crate::ids::Instance;
use crate::layout::Compression;
use crate::secret::Secret;
use crate::table_name::TableName;

/// The whole configuration. Each field is a section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each section says what it is")]
pub struct Config {
    pub instance: InstanceSection,
    pub adobe: Adobe,
    pub schema: SchemaSection,
    #[serde(rename = "filter")]
    pub filters: Vec<FilterRule>,
    pub protect: Protect,
    pub rejects: Rejects,
    pub log: Log,
    pub batch: Batch,
    pub s3: S3,
    pub redshift: Redshift,
    pub ingester: Ingester,
    pub quarantine: Quarantine,
    pub metrics: Metrics,
    pub alerts: Alerts,
    #[serde(rename = "alert_target")]
    pub alert_targets: Vec<AlertTarget>,
    pub logging: Logging,
    pub shutdown: ShutdownSection,
    /// What its owner should know, a line each: keys that went.
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// What it was made of, so that it can be read again.
    #[serde(skip)]
    pub(super) source: Source,
}

section!(
    InstanceSection("instance", "Which producer this is.") {
        name: Instance = key(Text, None, r#""web-1""#, "Name of this producer: 1 to 64 letters, digits, `.`, `_`, `-`. It stands in every seal and ledger row; two producers must not share one.");
    }
);
section!(
    Adobe("adobe", "Adobe IMS (the token) and Livestream (the stream). Used by the producer.") {
        auth: Auth = key(Text, Some(r#""oauth""#), r#""oauth""#, "Kind of the credential: `oauth` (OAuth server-to-server) or `jwt` (service account, for IMS deployments that still take it).");
        token_url: String = key(Text, Some(r#""""#), r#""https://ims-na1.adobelogin.com/ims/token/v3""#, "Where tokens come from. Empty: Adobe's, by `adobe.auth`: `https://ims-na1.adobelogin.com/ims/token/v3` or `…/ims/exchange/jwt`.");
        client_id: String = key(Text, None, r#""0123456789abcdef0123456789abcdef""#, "Client id of the credential, from the Adobe Developer Console. Sent as `x-api-key` too.");
        client_secret: Secret = key(Hidden, Some(r#""""#), r#""…""#, "Its secret. Give this, `adobe.client_secret_file`, or `LIVESTREAM__ADOBE__CLIENT_SECRET`.").reloads();
        client_secret_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/client_secret""#, "A file that holds the secret and nothing else.").reloads();
        scopes: Vec<String> = key(Texts, Some(r#"["openid", "session", "AdobeID", "read_organizations", "additional_info.projectedProductContext"]"#), r#"["openid", "AdobeID"]"#, "With `oauth`, scopes to ask for: copy them from the credential's card.");
        jwt_organization: String = key(Text, Some(r#""""#), r#""0123456789ABCDEF01234567@AdobeOrg""#, "With `jwt`, the organization id of the credential, which ends in `@AdobeOrg`.");
        jwt_technical_account: String = key(Text, Some(r#""""#), r#""0123456789ABCDEF01234567@techacct.adobe.com""#, "With `jwt`, the id of the technical account, which ends in `@techacct.adobe.com`.");
        jwt_key: Secret = key(Hidden, Some(r#""""#), r#""…""#, "With `jwt`, the private RSA key as PEM text. Give this, `adobe.jwt_key_file`, or `LIVESTREAM__ADOBE__JWT_KEY`.").reloads();
        jwt_key_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/technical_account.pem""#, "A PEM file that holds it, not encrypted.").reloads();
        jwt_metascopes: Vec<String> = key(Texts, Some(r#"["ent_analytics_bulk_ingest_sdk"]"#), r#"["ent_analytics_bulk_ingest_sdk"]"#, "With `jwt`, metascopes to ask for.");
        token_cache: PathBuf = key(Path, Some(r#""""#), r#""/var/lib/livestream/token.json""#, "File, mode 0600, that keeps the token across restarts. Producers of one machine and user with the same credential may share one. Empty: `token.json` in `log.dir`.");
        stream_url: String = key(Text, None, r#""https://livestream.adobe.net/api/1/stream/my-endpoint""#, "The stream's address, without query.");
        redirect_hosts: Vec<String> = key(Texts, Some(r#"["*.adobe.net"]"#), r#"["*.adobe.net"]"#, "Hosts a redirect may lead to; the token is sent to no other. `*.` stands for one or more labels.");
        max_connections: u8 = key(Integer, Some("1"), "1", "`maxConnections` of the stream, 1 to 8: the same for every client of one stream.").within("1", "8");
        connections: u8 = key(Integer, Some("1"), "1", "Connections this producer reads the stream with, 1 to `adobe.max_connections`. One core reads one connection at full speed.");
        smoothing: bool = key(Boolean, Some("false"), "false", "Ask Adobe to even out bursts, at the price of latency.");
        smoothing_bucket_size: u16 = key(Integer, Some("270"), "270", "Seconds over which Adobe evens out, 1 to 7200; sent with `adobe.smoothing` only.").within("1", "7200");
        reset: Reset = key(Text, Some(r#""smallest""#), r#""smallest""#, "Where to read from: `smallest` (the oldest Adobe still holds, also with a new log: no hole, and what was read before is left out by its hit id, here or by the load), `largest` (after a disconnect or a stop the newest: a hole) or `none` (as Adobe decides).");
        connect_timeout: Span = key(Duration, Some(r#""10s""#), r#""10s""#, "Longest wait for a connection, and for the head of an answer.").within("100ms", "10m");
        idle_timeout: Span = key(Duration, Some(r#""60s""#), r#""60s""#, "No byte for this long is a disconnect.").within("100ms", "1d");
        retry_max: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "Longest wait between two tries to connect; also the wait when Adobe answers that there are too many clients, that it is busy, or what only an operator can correct. Whether an Adobe that is away is back is tried every 20s or more often.").within("100ms", "1h");
        max_record_bytes: Size = key(Bytes, Some(r#""1MiB""#), r#""1MiB""#, "A longer record is a reject. 1KiB to 16MiB.").within("1KiB", "16MiB");
        invalid_text: InvalidText = key(Text, Some(r#""replace""#), r#""replace""#, "What becomes of a record with bytes that are no UTF-8, or with control characters that stand in a text as they are: `replace` (U+FFFD takes the place of the bytes, counted by column, and the control characters are taken as they are; counted by record) or `reject`.").reloads();
        damaged_after: u32 = key(Integer, Some("200"), "200", "So many records in a row that cannot be read (no JSON, no UTF-8, too long) end the session as damaged, and the next one is sent the hits in their place again; a readable one in between takes four off the count. When three sessions in a row end so, Adobe sends such records if the same ones come again: these are kept as rejects and read past. A longer line counts as one for each adobe.max_record_bytes. 10 to 1000000; 0 is never.");
        @egress: Egress;
    }
);
section!(
    SchemaSection("schema", "The columns of the table. Both services must see the same.") {
        file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/schema.toml""#, "A schema that replaces the built-in one, or extends it (docs/SCHEMA.md shows its form).").reloads();
        events: String = key(Text, Some(r#""1..1000""#), r#""1..100""#, "Which of event1 to event1000 are columns of the built-in schema.").reloads();
    }
);
section!(
    FilterRule("filter", "Records to drop, as a list of tables `[[filter]]`: each has a name, a field, and exactly one of the other keys, \
         which says when a record is dropped. The first that fits counts. A string is compared as it is, a number or \
         boolean by its text, anything else by its JSON text; an absent field, null and the empty text are the same. \
         `deploy/pipeline.example.toml` has some to start from. Used by the producer.") {
        name: String = key(Text, None, r#""excluded""#, "What the filter is called where its drops are counted.").reloads();
        field: String = key(Text, None, r#""exclude.value""#, "Path of the field within the record.").reloads();
        exists: Option<bool> = key(Boolean, Some(""), "true", "`true`: drop the record when the field has a value; `false`: when it has none.").reloads();
        equals: Vec<String> = key(Texts, Some("[]"), r#"["yes"]"#, "Drop it when the value is one of these.").reloads();
        not_equals: Vec<String> = key(Texts, Some("[]"), r#"["examplecomprod"]"#, "Drop it when the value is none of these, or absent.").reloads();
        contains: Vec<String> = key(Texts, Some("[]"), r#"["/internal/"]"#, "Drop it when one of these stands in the value.").reloads();
        starts_with: Vec<String> = key(Texts, Some("[]"), r#"["https://test."]"#, "Drop it when the value begins with one of these.").reloads();
        ends_with: Vec<String> = key(Texts, Some("[]"), r#"[".example.com"]"#, "Drop it when the value ends with one of these.").reloads();
        matches: Vec<String> = key(Texts, Some("[]"), r#"["(?i)crawler|spider"]"#, "Drop it when one of these regular expressions (syntax of the Rust crate `regex`) is found in the value; `^` and `$` stand for its ends.").reloads();
        greater: Option<f64> = key(Number, Some(""), "1000", "Drop it when the value is a number above this.").reloads();
        less: Option<f64> = key(Number, Some(""), "0.5", "Drop it when the value is a number below this.").reloads();
    }
);
section!(
    Protect("protect", "Fields that must not come to rest as they were sent: in rows, `json` and `record` columns, rejects and taps alike. \
         Each list names columns, or paths within the record (`$.evars.evars.eVar5` where a column is called like the path). \
         A column stands for all of its paths, and a path for every column that reads it. docs/PROTECTION.md says what becomes \
         of each value. Used by the producer.") {
        drop: Vec<String> = key(Texts, Some("[]"), r#"["geozip", "evars.evars.eVar9"]"#, "Nothing is kept of these.").reloads();
        mask_ip: Vec<String> = key(Texts, Some("[]"), r#"["ip"]"#, "IP addresses: of IPv4 the first three numbers are kept (`198.51.100.0`), of IPv6 the first 48 bits (`2001:db8:85a3::`).").reloads();
        mask_email: Vec<String> = key(Texts, Some("[]"), r#"["evar12"]"#, "E-mail addresses: the domain is kept (`@example.com`).").reloads();
        mask_query: Vec<String> = key(Texts, Some("[]"), r#"["pageurl", "referrer"]"#, "URLs: what stands before the query is kept, and a fragment without parameters.").reloads();
        mask_parameters: Vec<String> = key(Texts, Some("[]"), r#"["referrer"]"#, "URLs: everything is kept but the parameters that `protect.parameters` names.").reloads();
        parameters: Vec<String> = key(Texts, Some("[]"), r#"["email", "token"]"#, "With `protect.mask_parameters`, names of parameters, in any case.").reloads();
        pseudonym: Vec<String> = key(Texts, Some("[]"), r#"["customvisid", "mcVisIdHigh"]"#, "A pseudonym takes their place: HMAC-SHA-256 of the value's text under `protect.pseudonym_key`. Equal values have equal pseudonyms, in every column.").reloads();
        pseudonym_key: Secret = key(Hidden, Some(r#""""#), r#""…""#, "The key of pseudonyms, 32 bytes or more, such as `openssl rand -hex 32` makes. Give this, `protect.pseudonym_key_file`, or `LIVESTREAM__PROTECT__PSEUDONYM_KEY`. Its id stands in seals and rejects. docs/PROTECTION.md says how to change it.").reloads();
        pseudonym_key_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/pseudonym_key""#, "A file that holds the key and nothing else.").reloads();
        pseudonym_spelling: Spelling = key(Text, Some(r#""hex""#), r#""base64url""#, "How a pseudonym is spelled: `hex` (4 bits a character) or `base64url` (6 bits).").reloads();
        pseudonym_length: usize = key(Integer, Some("32"), "22", "Its characters, 16 to 64; with `base64url` 43 at most. 32 of hex are 128 bits.").within("16", "64").reloads();
    }
);
section!(
    Rejects("rejects", "Records that cannot become rows. Used by the producer.") {
        keep: KeepRejects = key(Text, Some(r#""""#), r#""reason""#, "What is kept of a reject: `full` (the record as received), `protected` (a record that can be read, under the protections of `[protect]`; of any other only the reason, the length and a hash) or `reason` (these three of every one). Empty: `protected` if `[protect]` names a field, otherwise `full`.").reloads();
    }
);
section!(
    Log("log", "The producer's crash-safe log.") {
        dir: PathBuf = key(Path, Some(r#""/var/lib/livestream/producer""#), r#""/var/lib/livestream/producer""#, "The log's directory, mode 0700, made if it is not there; on its own disk if possible. With `/feed.sock`, or else `ingester.feed`, at most 107 bytes.");
        commit_rows: u32 = key(Integer, Some("256"), "256", "Rows made durable together, 1 to 10000.").within("1", "10000");
        commit_interval: Span = key(Duration, Some(r#""50ms""#), r#""50ms""#, "Longest wait of a row before it is made durable, 1ms to 10s.").within("1ms", "10s");
        max_bytes: Size = key(Bytes, Some(r#""10GiB""#), r#""10GiB""#, "When rows not yet in S3 take this much disk, the stream is not read until space returns. At least 16MiB.").within("16MiB", "1024TiB");
        keep_uploaded: Size = key(Bytes, Some(r#""1GiB""#), r#""1GiB""#, "Copies of uploaded files take at most this much disk; they are kept until the ingester has loaded the batch, so that an object lost or altered in S3 can be uploaded once more. The oldest go first, and rows not yet in S3 have the room first: both together stay below `log.max_bytes`. `0B`: none.");
        cache: Size = key(Bytes, Some(r#""32MiB""#), r#""32MiB""#, "Memory sled may use for its page cache, 1MiB to 4GiB.").within("1MiB", "4GiB");
        dedup_window: Span = key(Duration, Some(r#""2h""#), r#""2h""#, "For how long a hit id is remembered, told by the `receivedTimeGMT` of what comes. A hit that is sent again later than that is compared with the table when it is loaded, which takes longer. 1s to 31d.").within("1s", "31d");
        dedup_hits: usize = key(Integer, Some("5000000"), "5000000", "How many hit ids are remembered at most.").within("1", "1000000000");
        gap_tolerance: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "A longer time between the last hit before a reconnect and the first after it is recorded as a gap. 10ms to 1d.").within("10ms", "1d");
    }
);
section!(
    Batch("batch", "When files close and batches seal, and how files are written.") {
        records_per_file: u32 = key(Integer, Some("1000"), "1000", "A file closes at this many rows if they have `batch.min_file_bytes`, 1 to 1000000.").within("1", "1000000");
        min_file_bytes: Size = key(Bytes, Some(r#""8MiB""#), r#""0B""#, "Before its rows, uncompressed, have this size, a file closes by its age only: S3 and Redshift charge and wait for each object. They compress to about a quarter. 0B: files of `batch.records_per_file` rows. At most `batch.max_file_bytes`, which files grow to while batches wait for S3.").within("0B", "1GiB");
        max_file_bytes: Size = key(Bytes, Some(r#""16MiB""#), r#""64MiB""#, "A file closes when its rows, uncompressed, reach this size, 1KiB to 1GiB.").within("1KiB", "1GiB");
        max_file_age: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "A file closes when its first row is this old.").within("100ms", "1d");
        files_per_batch: u32 = key(Integer, Some("10"), "10", "A batch seals at this many files, or at the rows of so many files of `batch.records_per_file`. 1 to 1000.").within("1", "1000");
        min_batch_age: Span = key(Duration, Some(r#""10s""#), r#""0s""#, "Before it is this old, a batch does not seal for its rows: so a busy stream makes larger files, not more. 0s to 1d, at most `batch.max_batch_age`.").within("0s", "1d");
        max_batch_age: Span = key(Duration, Some(r#""5m""#), r#""5m""#, "A batch seals when it is this old, however few rows it has; rejects are shipped as often.").within("100ms", "1d");
        compression: Compression = key(Text, Some(r#""zstd""#), r#""zstd""#, "How files are compressed: `zstd`, `gzip` or `none`.");
    }
);
section!(
    S3("s3", "Where files and seals go, and where the ingester looks for them.") {
        bucket: String = key(Text, None, r#""example-livestream""#, "The bucket.");
        region: String = key(Text, None, r#""eu-central-1""#, "Its region; COPY is told the same.");
        endpoint: String = key(Text, Some(r#""""#), r#""https://s3.eu-central-1.amazonaws.com""#, "Address of an S3-compatible store. Empty: Amazon's, by region.");
        path_style: bool = key(Boolean, Some("false"), "false", "Put the bucket in the path rather than in the host name.");
        access_key_id: String = key(Text, Some(r#""""#), r#""AKIAIOSFODNN7EXAMPLE""#, "A fixed access key. Empty: the usual AWS chain (environment, profile, container, instance).").reloads();
        secret_access_key: Secret = key(Hidden, Some(r#""""#), r#""…""#, "The secret of the fixed access key.").reloads();
        secret_access_key_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/s3_secret""#, "A file that holds it and nothing else.").reloads();
        session_token: Secret = key(Hidden, Some(r#""""#), r#""…""#, "The session token of a temporary key. It is read at the start and at a reload, and not renewed: for a service use `s3.role_arn` or the AWS chain.").reloads();
        session_token_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/s3_session_token""#, "A file that holds it and nothing else.").reloads();
        role_arn: String = key(Text, Some(r#""""#), r#""arn:aws:iam::123456789012:role/livestream-producer""#, "A role to assume with the fixed key or the AWS chain; every request to S3 and for passwords of Redshift is signed as this role, and it is assumed again before it ends. Empty: none. COPY reads with `redshift.iam_role`.");
        external_id: String = key(Text, Some(r#""""#), r#""example""#, "The external id that the role's trust policy asks for.");
        sts_endpoint: String = key(Text, Some(r#""""#), r#""https://sts.eu-central-1.amazonaws.com""#, "Address of STS, which gives out the role, such as that of a VPC endpoint. Empty: Amazon's, by region.");
        server_side_encryption: Encryption = key(Text, Some(r#""""#), r#""aws:kms""#, "The encryption that every object is written and copied with: `AES256`, `aws:kms` or `aws:kms:dsse`. Empty: the bucket's default. With KMS the programs need `kms:GenerateDataKey` and `kms:Decrypt` (deploy/iam-kms.json) and the role of COPY `kms:Decrypt` (deploy/iam-kms-copy-role.json).");
        kms_key_id: String = key(Text, Some(r#""""#), r#""arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000""#, "With `aws:kms` and `aws:kms:dsse`, the key: its ARN or id. Empty: the bucket's key, or the one that AWS manages for S3.");
        acl: Acl = key(Text, Some(r#""""#), r#""bucket-owner-full-control""#, "`bucket-owner-full-control`: written with every object, for a bucket of another account whose policy asks for it; needs `s3:PutObjectAcl` (deploy/iam-acl.json). Empty: nothing is said.");
        expected_bucket_owner: String = key(Text, Some(r#""""#), r#""123456789012""#, "The account the bucket must belong to, 12 digits; S3 refuses every request when it belongs to another. Empty: any. It is not sent for other buckets that `producer replay` reads.");
        archive_storage_class: String = key(Text, Some(r#""""#), r#""STANDARD_IA""#, "Storage class of archived batches: `STANDARD`, `STANDARD_IA`, `ONEZONE_IA`, `INTELLIGENT_TIERING` or `GLACIER_IR`, which can be read at once. For colder ones use a lifecycle rule. Empty: S3's default.");
        to_ingest: String = key(Text, Some(r#""ToIngest/""#), r#""ToIngest/""#, "Prefix of batches to load.");
        ingested: String = key(Text, Some(r#""Ingested/""#), r#""Ingested/""#, "Prefix of loaded batches, with `ingester.archive = \"move\"`.");
        loads: String = key(Text, Some(r#""Loads/""#), r#""Loads/""#, "Prefix of the manifests by which one COPY loads several batches. They are deleted after the load.");
        rejected: String = key(Text, Some(r#""Rejected/""#), r#""Rejected/""#, "Prefix of rejected records.");
        quarantine: String = key(Text, Some(r#""Quarantine/""#), r#""Quarantine/""#, "Prefix of rows that Redshift refused, with the reasons; COPY also reads the rest of their batches from there.");
        uploads: usize = key(Integer, Some("4"), "4", "Uploads and copies at once, 1 to 64.").within("1", "64");
        timeout: Span = key(Duration, Some(r#""60s""#), r#""60s""#, "Longest time of one request, retries of the SDK not included. A connection may take 10s of it, through a proxy too.").within("1s", "1d");
        @egress: Egress;
    }
);
section!(
    Redshift("redshift", "Where batches are loaded to. Used by the ingester.") {
        host: String = key(Text, None, r#""example.abc123.eu-central-1.redshift.amazonaws.com""#, "Host of the cluster or workgroup.");
        port: u16 = key(Integer, Some("5439"), "5439", "Its port.").within("1", "65535");
        database: String = key(Text, None, r#""analytics""#, "The database.");
        auth: Login = key(Text, Some(r#""password""#), r#""password""#, "How the ingester logs in: `password`; or with passwords that AWS gives out for 15 minutes: `iam` (a cluster, as `redshift.user`: GetClusterCredentials), `iam-identity` (a cluster, as the user of the caller's IAM identity: GetClusterCredentialsWithIAM) or `serverless` (a workgroup, likewise: GetCredentials). The request to AWS is signed with the credential of [s3].");
        user: String = key(Text, Some(r#""""#), r#""livestream_loader""#, "With `password` and `iam`, a user that owns the table and the ledger (deploy/grants.sql). Otherwise the user follows from the IAM identity.").reloads();
        password: Secret = key(Hidden, Some(r#""""#), r#""…""#, "With `password`, its password. Give this, `redshift.password_file`, or `LIVESTREAM__REDSHIFT__PASSWORD`.").reloads();
        password_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/redshift_password""#, "A file that holds the password and nothing else.").reloads();
        cluster: String = key(Text, Some(r#""""#), r#""example""#, "With `iam` and `iam-identity`, the identifier of the cluster. Empty: the first part of `redshift.host`, if that is the name Amazon gave it.");
        workgroup: String = key(Text, Some(r#""""#), r#""example""#, "With `serverless`, the name of the workgroup. Empty: the first part of `redshift.host`, if that is the name Amazon gave it.");
        region: String = key(Text, Some(r#""""#), r#""eu-central-1""#, "Its region, where AWS gives out passwords. Empty: the one in `redshift.host`, if that is the name Amazon gave it, otherwise `s3.region`.");
        api_endpoint: String = key(Text, Some(r#""""#), r#""https://redshift.eu-central-1.amazonaws.com""#, "Address of the API that gives out passwords, such as that of a VPC endpoint. Empty: Amazon's, by region.");
        tls: Tls = key(Text, Some(r#""verify-full""#), r#""verify-full""#, "`verify-full` (chain and host name are checked) or `disable` (towards loopback only).");
        ca_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/amazon-trust-ca-bundle.crt""#, "Certificates (PEM) to trust for Redshift, and no others: Amazon's bundle is `https://s3.amazonaws.com/redshift-downloads/amazon-trust-ca-bundle.crt`. Empty: the system's.");
        #[serde(deserialize_with = "table_name")]
        table: TableName = key(Text, Some(r#""public.livestream""#), r#""public.livestream""#, "The table rows are loaded to.");
        #[serde(deserialize_with = "table_name")]
        ledger: TableName = key(Text, Some(r#""public.livestream_ledger""#), r#""public.livestream_ledger""#, "The table that says which batches are loaded.");
        iam_role: String = key(Text, None, r#""arn:aws:iam::123456789012:role/livestream-copy""#, "The role COPY reads S3 with, or `default`.");
        copy_options: CopyOptions = key(Texts, Some("[]"), r#"["ACCEPTINVCHARS '?'", "TRUNCATECOLUMNS"]"#, "More options for COPY, of these: `ACCEPTINVCHARS ['c']`, `BLANKSASNULL`, `ROUNDEC`, `TRIMBLANKS`, `TRUNCATECOLUMNS`, which let Redshift alter values without a word, and `COMPUPDATE ON|OFF|PRESET`, `STATUPDATE ON|OFF`, both OFF if not given.");
        sortkey: Vec<String> = key(Texts, Some(r#"["receivedtimegmt"]"#), r#"["receivedtimegmt"]"#, "Sort key of the table, for `ingester ddl`.");
        distkey: String = key(Text, Some(r#""""#), r#""hitidlow""#, "Distribution key of the table, for `ingester ddl`. Empty: Redshift's choice.");
        encodings: Encodings = key(Text, Some(r#""auto""#), r#""explicit""#, "Compression of columns, for `ingester ddl`: `auto` (Redshift's choice, and the encodings the schema names) or `explicit` (one for every column).");
        on_schema_change: OnSchemaChange = key(Text, Some(r#""refuse""#), r#""add_columns""#, "What the ingester does about a column of the schema that the table lacks: `refuse` (it does not start) or `add_columns` (it adds the column, empty for the rows that are there, before it loads anything). It never drops or alters a column: see `ingester ddl --diff` and `--apply`.");
        connect_timeout: Span = key(Duration, Some(r#""10s""#), r#""10s""#, "Longest wait for a connection.").within("100ms", "10m");
        lock_timeout: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "Longest wait for the lock that one load at a time holds (`<ledger>_lock`). When it is over, the log says who holds it, and it is tried again. 100ms to 1d.").within("100ms", "1d");
        statement_timeout: Span = key(Duration, Some(r#""30m""#), r#""30m""#, "Longest time of one statement, waiting in Redshift's queue included.").within("1s", "1d");
    }
);
section!(
    Ingester("ingester", "How the ingester discovers, retries and archives.") {
        dir: PathBuf = key(Path, Some(r#""/var/lib/livestream/ingester""#), r#""/var/lib/livestream/ingester""#, "The directory of the ingester's load store, mode 0700, made if it is not there. With `/feed.sock` at most 107 bytes.");
        feed: PathBuf = key(Path, Some(r#""""#), r#""/var/lib/livestream/producer/feed.sock""#, "The producer's socket, if it runs on this machine. Empty: `feed.sock` in `log.dir`.");
        list_interval: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "How often S3 is listed for batches, besides at start and when the feed goes away.").within("100ms", "1d");
        list_all_interval: Span = key(Duration, Some(r#""1h""#), r#""1h""#, "A prefix of more than one page (1000 objects) is listed from where listings stand; as often as this as a whole, a request a page. 100ms to 1d.").within("100ms", "1d");
        batches_per_copy: usize = key(Integer, Some("50"), "50", "Batches that wait are loaded together by one COPY, up to this many, 1 to 1000. Nothing is held back for it: see `ingester.load_interval`.").within("1", "1000");
        rows_per_copy: u64 = key(Integer, Some("5000000"), "5000000", "Rows of such a COPY at most; a larger batch goes alone. 1 to 1000000000.").within("1", "1000000000");
        bytes_per_copy: Size = key(Bytes, Some(r#""8GiB""#), r#""8GiB""#, "Bytes in S3 of such a COPY at most; a larger batch goes alone. 1MiB to 1024GiB.").within("1MiB", "1024GiB");
        load_interval: Span = key(Duration, Some(r#""0s""#), r#""10m""#, "How long a batch may be held back so that one COPY loads many: Redshift Serverless bills a minute for whatever wakes it. It is counted from when the batch is found, over restarts. 0s: load at once. 0s to 1d.").within("0s", "1d");
        load_rows: u64 = key(Integer, Some("1000000"), "1000000", "Rows of batches held back that are worth a COPY before `ingester.load_interval` is over. 1 to 1000000000.").within("1", "1000000000");
        alert_after: u32 = key(Integer, Some("5"), "5", "Failures of a batch, or of all loading, after which trouble that should pass is an error in the log and marked in `state dump`. 1 to 1000.").within("1", "1000");
        retry_first: Span = key(Duration, Some(r#""1s""#), r#""1s""#, "Wait after the first failed try; doubled with each further one.").within("10ms", "1d");
        retry_max: Span = key(Duration, Some(r#""5m""#), r#""5m""#, "Longest wait between tries. Whether a Redshift or S3 that is away is back is tried every 20s or more often.").within("10ms", "1d");
        pause: pause::Windows = key(Texts, Some("[]"), r#"["02:00-03:00", "23:30-00:30"]"#, "Times of day, UTC, at which nothing is loaded: the first minute and the one at which loading goes on. `ingester pause` does the same by hand.");
        archive: Archive = key(Text, Some(r#""move""#), r#""move""#, "What happens to a loaded batch: `move` to `s3.ingested`, `keep` or `delete`.");
        reconcile_interval: Span = key(Duration, Some(r#""1h""#), r#""1h""#, "How often `ingester run` compares log, S3 and ledger, besides at start, unless nothing happened since. 1s to 1d.").within("1s", "1d");
    }
);
section!(
    Quarantine("quarantine", "What becomes of rows that Redshift refuses. Used by the ingester.") {
        max_share: f64 = key(Number, Some("0.1"), "0.02", "The largest share of a batch's rows that may be refused while the others are loaded, 0 to 1; 0.1 is 10 %. With more refused, or all, the batch waits whole: that is a fault of the table or the schema, not of rows.");
    }
);
section!(
    Metrics("metrics", "Where each service shows its page (`/`), its figures to Prometheus (`/metrics`), that it lives (`/healthz`) and whether it is ready (`/readyz`).") {
        producer_listen: String = key(Text, Some(r#""127.0.0.1:9464""#), r#""0.0.0.0:9464""#, "Address and port of the producer's page and figures. Empty: none. Nothing of it is encrypted, and the figures need no token.");
        ingester_listen: String = key(Text, Some(r#""127.0.0.1:9465""#), r#""0.0.0.0:9465""#, "Address and port of the ingester's page and figures. Empty: none.");
        token: Secret = key(Hidden, Some(r#""""#), r#""0123456789abcdef0123456789abcdef""#, "The token that the page and its data ask for: 16 to 256 letters, digits, `.`, `_`, `~`, `-`, such as `openssl rand -hex 32` makes. Without one the page is served on loopback addresses only.").reloads();
        token_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/page_token""#, "A file that holds it and nothing else.").reloads();
    }
);
section!(
    Alerts("alerts", "What every `[[alert_target]]` has in common, and where a service says that all is well. docs/OPERATIONS.md has the alerts.") {
        repeat: Span = key(Duration, Some(r#""4h""#), r#""4h""#, "An alert that still stands is sent again after this time. 1m to 30d.").within("1m", "30d").reloads();
        docs: String = key(Text, Some(r#""docs/OPERATIONS.md""#), r#""https://wiki.example.com/livestream/OPERATIONS.md""#, "Where your people read docs/OPERATIONS.md: each alert names this address with the heading that says what to do.").reloads();
        off: Vec<String> = key(Texts, Some("[]"), r#"["stream_behind"]"#, "Alerts that this site does without, by name, such as `stream_behind` where nights are quiet. They stand nowhere, and do not stop the heartbeat. docs/OPERATIONS.md has the names.").reloads();
        producer_heartbeat: Secret = key(Hidden, Some(r#""""#), r#""https://hc-ping.com/…""#, "Address of a dead man's switch, which the producer calls (GET) while all is well: no critical alert stands and every target takes what it is sent. Give this, `alerts.producer_heartbeat_file`, or `LIVESTREAM__ALERTS__PRODUCER_HEARTBEAT`. Empty: none.").reloads();
        producer_heartbeat_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/producer_heartbeat""#, "A file that holds the address and nothing else.").reloads();
        ingester_heartbeat: Secret = key(Hidden, Some(r#""""#), r#""https://hc-ping.com/…""#, "The same of the ingester: another address, so that each service is missed when it is silent.").reloads();
        ingester_heartbeat_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/ingester_heartbeat""#, "A file that holds the address and nothing else.").reloads();
        heartbeat_interval: Span = key(Duration, Some(r#""1m""#), r#""1m""#, "How often it is called. 1s to 1d.").within("1s", "1d").reloads();
    }
);
section!(
    AlertTarget("alert_target", "Where alerts are sent, as a list of tables `[[alert_target]]`. Each service sends its own. `state alerts test` tries them.") {
        name: String = key(Text, None, r#""oncall""#, "What the target is called in the log and in `state dump`: letters, digits, `-` and `_`, at most 32.").reloads();
        kind: AlertKind = key(Text, None, r#""pagerduty""#, "`slack` (an incoming webhook of Slack or what understands the same), `pagerduty` (Events API v2) or `json` (an object for each alert).").reloads();
        url: Secret = key(Hidden, Some(r#""""#), r#""https://hooks.slack.com/services/…""#, "The address to POST to. Give this, `url_file`, or the variable `LIVESTREAM__ALERT_TARGET__<NAME>__URL` (the name in capitals, `_` for `-`). With `pagerduty` not needed: Empty is `https://events.pagerduty.com/v2/enqueue`.").reloads();
        url_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/slack_url""#, "A file that holds the address and nothing else.").reloads();
        routing_key: Secret = key(Hidden, Some(r#""""#), r#""…""#, "With `pagerduty`, the integration key. Give this, `routing_key_file`, or `LIVESTREAM__ALERT_TARGET__<NAME>__ROUTING_KEY`.").reloads();
        routing_key_file: PathBuf = key(Path, Some(r#""""#), r#""/etc/livestream/pagerduty_key""#, "A file that holds the key and nothing else.").reloads();
        severity: Severity = key(Text, Some(r#""warning""#), r#""critical""#, "Send alerts of this severity and above: `warning` (all) or `critical` (what should wake somebody).").reloads();
    }
);
section!(
    Logging("logging", "What the services say, and where.") {
        level: String = key(Text, Some(r#""info""#), r#""info,sled=warn""#, "Filter of what is said: `error`, `warn`, `info`, `debug`, `trace`, also per module. A level without a module is that of the programs; libraries then say only what is an error. They say no more than `info`, whatever it asks for: below that they write bodies and headers.").reloads();
        format: LogFormat = key(Text, Some(r#""human""#), r#""json""#, "`human` or `json`.");
        dir: PathBuf = key(Path, Some(r#""""#), r#""/var/log/livestream""#, "Directory of a log file a day besides standard error, rolled at 00:00 UTC. Empty: none.");
        keep_days: usize = key(Integer, Some("14"), "14", "Days of which log files are kept, the present one included, 1 to 3650. Of older ones only files named `<service>.<YYYY-MM-DD>.log` are deleted, by that date.").within("1", "3650");
    }
);
section!(
    ShutdownSection("shutdown", "How a service stops.") {
        timeout: Span = key(Duration, Some(r#""30s""#), r#""30s""#, "Longest time an orderly stop may take; work that is not done by then is left for the next start.").within("100ms", "1h");
    }
);

fn table_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TableName, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

/// Every section, in the order of the documentation.
pub const SECTIONS: &[Section] = &[
    InstanceSection::SECTION,
    Adobe::SECTION,
    SchemaSection::SECTION,
    FilterRule::SECTION,
    Protect::SECTION,
    Rejects::SECTION,
    Log::SECTION,
    Batch::SECTION,
    S3::SECTION,
    Redshift::SECTION,
    Ingester::SECTION,
    Quarantine::SECTION,
    Metrics::SECTION,
    Alerts::SECTION,
    AlertTarget::SECTION,
    Logging::SECTION,
    ShutdownSection::SECTION,
];

/// The sections that are lists of tables, `[[filter]]`.
pub const LISTS: [&str; 2] = ["filter", "alert_target"];

/// Every key, in the order of the documentation.
pub static KEYS: LazyLock<Vec<Key>> =
    LazyLock::new(|| SECTIONS.iter().flat_map(|(_, _, keys)| *keys).copied().collect());

pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// A name as it stands in a variable, in small letters.
pub(super) fn in_variable(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// Environment variables of this prefix override keys: `LIVESTREAM__REDSHIFT__PASSWORD`.
pub const ENV_PREFIX: &str = "LIVESTREAM__";
