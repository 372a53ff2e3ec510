//! The rules of `[alerts]` and `[[alert_target]]`. Addresses and keys of targets are secrets: no complaint shows them.

use std::collections::BTreeSet;

use crate::config::choices::{AlertKind, Secrets};
use crate::config::keys::{AlertTarget, Config, ENV_PREFIX, in_variable};
use crate::config::problems::{Problems, unusable};
use crate::secret::Secret;

/// Characters of a target's name.
const NAME_CHARS: usize = 32;

pub(super) fn check(config: &Config, secrets: Secrets, problems: &mut Problems) {
    let alerts = &config.alerts;
    for (key, secret, file) in [
        ("alerts.producer_heartbeat", &alerts.producer_heartbeat, &alerts.producer_heartbeat_file),
        ("alerts.ingester_heartbeat", &alerts.ingester_heartbeat, &alerts.ingester_heartbeat_file),
    ] {
        problems.one_source(key, !secret.is_empty(), file, false);
        address(key, secret, problems);
    }
    if alerts.docs.trim().is_empty() {
        problems.add("alerts.docs", "must not be empty: each alert names it");
    }
    let mut names = BTreeSet::new();
    for target in &config.alert_targets {
        let key = format!("alert_target {:?}", target.name);
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let length = target.name.chars().count();
        if length == 0 || length > NAME_CHARS || !target.name.chars().all(legal) {
            let rule = format!("alert_target.name must be 1 to {NAME_CHARS} letters, digits, `-` or `_`");
            problems.add(&key, rule);
        } else if !names.insert(in_variable(&target.name)) {
            problems.add(&key, "alert_target.name: another target is called so");
        }
        check_target(&key, target, secrets, problems);
    }
}

fn check_target(key: &str, target: &AlertTarget, secrets: Secrets, problems: &mut Problems) {
    let used = secrets.alerts();
    let is_pagerduty = target.kind == AlertKind::PagerDuty;
    for (name, secret, file, needed) in [
        ("url", &target.url, &target.url_file, used && !is_pagerduty),
        ("routing_key", &target.routing_key, &target.routing_key_file, used && is_pagerduty),
    ] {
        let in_file = !file.as_os_str().is_empty();
        if !secret.is_empty() && in_file {
            problems.add(key, format_args!("{name} is set twice: here and in {name}_file; remove one"));
        } else if needed && secret.is_empty() && !in_file {
            let (target, its) = (in_variable(&target.name).to_uppercase(), name.to_uppercase());
            let variable = format!("{ENV_PREFIX}ALERT_TARGET__{target}__{its}");
            problems
                .add(key, format_args!("{name} is missing: set it, {name}_file or the variable {variable}"));
        }
    }
    if !is_pagerduty && (!target.routing_key.is_empty() || !target.routing_key_file.as_os_str().is_empty()) {
        problems.add(key, "routing_key belongs to kind = \"pagerduty\"");
    }
    address(&format!("{key}: url"), &target.url, problems);
}

fn address(key: &str, secret: &Secret, problems: &mut Problems) {
    if let Some(rule) = unusable(secret.reveal()).filter(|_| !secret.is_empty()) {
        problems.add(key, rule);
    }
}
