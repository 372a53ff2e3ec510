//! Keys that earlier versions had: a configuration that still has them goes on after an upgrade, and its owner is told.

use toml::{Table, Value};

use crate::config::key::ENV_PREFIX;

/// A key that earlier versions had. It is accepted, so that a configuration goes on after an upgrade, and does nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    /// `section.key`.
    path: &'static str,
    /// Why it is not needed any more, or what takes its place.
    why: &'static str,
}

/// Every key that went.
pub(super) const GONE: &[Gone] = &[Gone {
    path: "log.lateness",
    why: "no hit is dropped by its time any more; what is not known by its id is compared with the table",
}];

/// Takes the keys that went out of `table`, and tells of each.
pub(super) fn set_aside(table: &mut Table, gone: &[Gone]) -> Vec<String> {
    let mut told = Vec::new();
    for key in gone {
        let Some((section, name)) = key.path.split_once('.') else { continue };
        let Some(keys) = table.get_mut(section).and_then(Value::as_table_mut) else { continue };
        if keys.remove(name).is_some() {
            told.push(tell(key.path, key));
        }
    }
    told
}

/// Takes the variables of keys that went out of the environment, and tells of each.
pub(super) fn set_aside_variables(
    env: impl Iterator<Item = (String, String)>,
    gone: &[Gone],
) -> (Vec<(String, String)>, Vec<String>) {
    let mut told = Vec::new();
    let kept = env.filter(|(name, _)| {
        let path = name.strip_prefix(ENV_PREFIX).map(|rest| rest.to_lowercase().replacen("__", ".", 1));
        let key = gone.iter().find(|key| path.as_deref() == Some(key.path));
        told.extend(key.map(|key| tell(name, key)));
        key.is_none()
    });
    let kept = kept.collect();
    (kept, told)
}

fn tell(name: &str, key: &Gone) -> String {
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
        let told = set_aside(&mut table, GONE);
        assert_eq!(told, ["log.guess does nothing any more: the table decides what is new; take it out"]);
        assert_eq!(table, toml::from_str("[log]\nother = 1\n").unwrap());
        assert!(set_aside(&mut table, GONE).is_empty());
    }

    #[test]
    fn a_variable_of_a_key_that_went_is_taken_out_and_named() {
        let env =
            ["LIVESTREAM__LOG__GUESS", "LIVESTREAM__LOG__DIR"].map(|name| (name.to_owned(), "x".to_owned()));
        let (kept, told) = set_aside_variables(env.into_iter(), GONE);
        assert_eq!(kept, [("LIVESTREAM__LOG__DIR".to_owned(), "x".to_owned())]);
        assert!(told[0].starts_with("LIVESTREAM__LOG__GUESS does nothing any more"), "{told:?}");
    }
}
