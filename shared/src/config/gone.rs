//! Keys that earlier versions had. A configuration that still has them works after an upgrade, with a warning.

use toml::{Table, Value};

use crate::config::keys::ENV_PREFIX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// `section.key`.
    path: &'static str,
    /// Why it is not needed any more, or what takes its place.
    why: &'static str,
}

pub(super) const GONE: &[Gone] = &[Gone {
    path: "log.lateness",
    why: "no hit is dropped by its time any more; what is not known by its id is compared with the table",
}];

pub(super) fn remove_keys(table: &mut Table, gone: &[Gone]) -> Vec<String> {
    let mut warnings = Vec::new();
    for key in gone {
        let Some((section, name)) = key.path.split_once('.') else { continue };
        let Some(keys) = table.get_mut(section).and_then(Value::as_table_mut) else { continue };
        if keys.remove(name).is_some() {
            warnings.push(warning(key.path, key));
        }
    }
    warnings
}

pub(super) fn remove_variables(
    env: impl Iterator<Item = (String, String)>,
    gone: &[Gone],
) -> (Vec<(String, String)>, Vec<String>) {
    let mut warnings = Vec::new();
    let kept = env.filter(|(name, _)| {
        let path = name.strip_prefix(ENV_PREFIX).map(|rest| rest.to_lowercase().replacen("__", ".", 1));
        let key = gone.iter().find(|key| path.as_deref() == Some(key.path));
        warnings.extend(key.map(|key| warning(name, key)));
        key.is_none()
    });
    let kept = kept.collect();
    (kept, warnings)
}

fn warning(name: &str, key: &Gone) -> String {
    format!("{name} does nothing any more: {}; take it out", key.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: &[Gone] = &[
        Gone { path: "log.guess", why: "the table decides what is new" },
        Gone { path: "old.section", why: "it went as a whole" },
    ];

    #[test]
    fn a_key_that_went_is_taken_out_and_named_and_others_stay() {
        let mut table: Table = toml::from_str("[log]\nguess = 5\nother = 1\n").unwrap();
        let warnings = remove_keys(&mut table, GONE);
        assert_eq!(warnings, ["log.guess does nothing any more: the table decides what is new; take it out"]);
        assert_eq!(table, toml::from_str("[log]\nother = 1\n").unwrap());
        assert!(remove_keys(&mut table, GONE).is_empty());
    }

    #[test]
    fn a_variable_of_a_key_that_went_is_taken_out_and_named() {
        let env =
            ["LIVESTREAM__LOG__GUESS", "LIVESTREAM__LOG__DIR"].map(|name| (name.to_owned(), "x".to_owned()));
        let (kept, warnings) = remove_variables(env.into_iter(), GONE);
        assert_eq!(kept, [("LIVESTREAM__LOG__DIR".to_owned(), "x".to_owned())]);
        assert!(warnings[0].starts_with("LIVESTREAM__LOG__GUESS does nothing any more"), "{warnings:?}");
    }
}
