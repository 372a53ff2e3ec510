//! The rules of `[protect]`: what can be said without the schema, which the producer adds.

use std::collections::BTreeMap;

use crate::config::choices::{Secrets, Spelling};
use crate::config::keys::Protect;
use crate::config::problems::Problems;
use crate::config::protected::{KEY_RULE, is_key};

/// A hash of 256 bits has so many characters of base64url.
const LONGEST_BASE64URL: usize = 43;

pub(super) fn check(protect: &Protect, secrets: Secrets, problems: &mut Problems) {
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for (list, fields) in protect.lists() {
        let key = format!("protect.{list}");
        for field in fields {
            match Protect::path(field) {
                Err(error) => problems.add(&key, error),
                Ok(path) if path.is_record() => {
                    problems.add(&key, "`$` is the whole record: name the fields in it");
                }
                Ok(_) => {}
            }
            if let Some(other) = named.insert(field, list) {
                let rule = format!("{field:?} stands in protect.{other} too: remove it from one of them");
                problems.add(&key, rule);
            }
        }
    }
    let (urls, parameters) = (&protect.mask_parameters, &protect.parameters);
    if urls.is_empty() != parameters.is_empty() {
        let (missing, given) = if urls.is_empty() {
            ("protect.mask_parameters", "protect.parameters")
        } else {
            ("protect.parameters", "protect.mask_parameters")
        };
        problems.add(missing, format_args!("is missing: {given} does nothing without it"));
    }
    if parameters.iter().any(|name| name.is_empty() || name.contains(['=', '&', ';', '[', '%', '#', '?'])) {
        let rule = "a name is that of a parameter as a person writes it, without `=`, `&`, `[` and `%`";
        problems.add("protect.parameters", rule);
    }
    let (key, file) = (&protect.pseudonym_key, &protect.pseudonym_key_file);
    let needed = secrets.pseudonyms() && !protect.pseudonym.is_empty();
    problems.one_source("protect.pseudonym_key", !key.is_empty(), file, needed);
    if !key.is_empty() && !is_key(key) {
        problems.add("protect.pseudonym_key", KEY_RULE);
    }
    let length = protect.pseudonym_length;
    if protect.pseudonym_spelling == Spelling::Base64url && length > LONGEST_BASE64URL {
        let rule = format!("with base64url at most {LONGEST_BASE64URL}, not {length}");
        problems.add("protect.pseudonym_length", rule);
    }
}
