//! The rules of `[s3]`: the credential, the terms of a bucket, and prefixes that must be apart.

use crate::config::choices::{Archive, Encryption, Secrets};
use crate::config::keys::{Config, S3};
use crate::config::problems::{Problems, role_fault};

/// Storage classes whose objects can be read at once: the archive is compared with what is moved there.
const READABLE: [&str; 5] = ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];

pub(super) fn check(config: &Config, secrets: Secrets, problems: &mut Problems) {
    for (key, address) in [("s3.endpoint", &config.s3.endpoint), ("s3.sts_endpoint", &config.s3.sts_endpoint)]
    {
        if !address.is_empty() {
            problems.check_url(key, address);
        }
    }
    credential(&config.s3, secrets, problems);
    terms(&config.s3, problems);
    prefixes(config, problems);
}

fn credential(s3: &S3, secrets: Secrets, problems: &mut Problems) {
    let fixed_key = !s3.access_key_id.is_empty();
    for (key, secret, file, needed) in [
        (
            "s3.secret_access_key",
            &s3.secret_access_key,
            &s3.secret_access_key_file,
            secrets.s3() && fixed_key,
        ),
        ("s3.session_token", &s3.session_token, &s3.session_token_file, false),
    ] {
        problems.one_source(key, !secret.is_empty(), file, needed);
        let given = !secret.is_empty() || !file.as_os_str().is_empty();
        if given && !fixed_key {
            problems.add("s3.access_key_id", format_args!("is missing: {key} belongs to it"));
        }
    }
    if !s3.role_arn.is_empty()
        && let Some(fault) = role_fault(&s3.role_arn, "the ARN of a role")
    {
        problems.add("s3.role_arn", format_args!("{fault}, such as arn:aws:iam::123456789012:role/name"));
    }
    for (key, text) in [("s3.external_id", &s3.external_id), ("s3.sts_endpoint", &s3.sts_endpoint)] {
        if s3.role_arn.is_empty() && !text.is_empty() {
            problems.add("s3.role_arn", format_args!("is missing: {key} belongs to it"));
        }
    }
}

fn terms(s3: &S3, problems: &mut Problems) {
    if !s3.kms_key_id.is_empty()
        && !matches!(s3.server_side_encryption, Encryption::Kms | Encryption::KmsDsse)
    {
        let rule = "must be \"aws:kms\" or \"aws:kms:dsse\": s3.kms_key_id belongs to it";
        problems.add("s3.server_side_encryption", rule);
    }
    let owner = &s3.expected_bucket_owner;
    let is_account = owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
    if !owner.is_empty() && !is_account {
        problems.add("s3.expected_bucket_owner", "must be the 12 digits of an AWS account");
    }
    let class = s3.archive_storage_class.as_str();
    if !class.is_empty() && !READABLE.contains(&class) {
        let all = READABLE.join(", ");
        problems.add(
            "s3.archive_storage_class",
            format_args!("{class:?} is none of {all}: for a class that must be restored before it is read, use a lifecycle rule"),
        );
    }
}

fn prefixes(config: &Config, problems: &mut Problems) {
    let Config { s3, ingester, .. } = config;
    for (key, prefix) in [
        ("s3.to_ingest", &s3.to_ingest),
        ("s3.ingested", &s3.ingested),
        ("s3.rejected", &s3.rejected),
        ("s3.loads", &s3.loads),
        ("s3.quarantine", &s3.quarantine),
    ] {
        if !prefix.ends_with('/') || prefix.starts_with('/') {
            problems.add(key, "must end in `/` and not begin with it");
        }
    }
    if ingester.archive == Archive::Move && s3.ingested.starts_with(&s3.to_ingest) {
        problems
            .add("s3.ingested", "must not lie below s3.to_ingest: batches moved there would be found again");
    }
    let others = [&s3.to_ingest, &s3.ingested, &s3.rejected];
    if others.iter().any(|other| s3.quarantine.starts_with(*other) || other.starts_with(&s3.quarantine)) {
        problems.add(
            "s3.quarantine",
            "must be apart from s3.to_ingest, s3.ingested and s3.rejected: none below another",
        );
    }
    let others = [&s3.to_ingest, &s3.ingested, &s3.rejected, &s3.quarantine];
    if others.iter().any(|other| s3.loads.starts_with(*other) || other.starts_with(&s3.loads)) {
        problems.add("s3.loads", "must be apart from the other prefixes: what is old there is deleted");
    }
}
