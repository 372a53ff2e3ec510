//! From a TOML text and the environment to a table with every key. Every complaint names its key.

use std::path::Path;

use toml::Table;
use toml::Value;

use crate::config::keys::{self, ENV_PREFIX, KEYS, Key, LISTS, SECTIONS, Type};
use crate::config::problems::{ConfigError, Problems};
use crate::human::{Size, Span};

/// Completes and checks a configuration. Returns a warning for each key that earlier versions had.
pub(super) fn resolve(
    text: &str,
    origin: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(Table, Vec<String>), ConfigError> {
    let fail = |problem: String| ConfigError { origin: origin.to_owned(), problems: vec![problem] };
    let mut table: Table = toml::from_str(text).map_err(|error| fail(without_values(&error, text)))?;
    let mut problems = Problems::default();
    let mut warnings = remove_keys(&mut table, GONE);
    let (env, more) = remove_variables(env, GONE);
    warnings.extend(more);
    override_from(env.into_iter(), &mut table, &mut problems);
    check_known(&table, &mut problems);
    fill_defaults(&mut table, &mut problems);
    problems.end(origin, (table, warnings))
}

/// A syntax error, with its line but without the text of the line: it may hold a secret.
fn without_values(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

fn override_from(env: impl Iterator<Item = (String, String)>, table: &mut Table, problems: &mut Problems) {
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        let path = rest.to_lowercase().replacen("__", ".", 1);
        if set_of_target(&path, &text, table) {
            continue;
        }
        let of_list =
            LISTS.iter().any(|list| path.split_once('.').is_some_and(|(section, _)| section == *list));
        let Some(key) = keys::find(&path).filter(|_| !of_list) else {
            problems.add(&name, unknown(&path, KEYS.iter().map(|key| key.path)));
            continue;
        };
        let value = match key.kind {
            Type::Integer | Type::Number | Type::Boolean | Type::Texts => one_value(&text),
            _ => Some(Value::String(text)),
        };
        let Some(value) = value else {
            problems.add(&name, format_args!("is not a TOML {}", key.kind.name()));
            continue;
        };
        let (section, name) = path.split_once('.').unwrap_or((&path, ""));
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(name.to_owned(), value);
        }
    }
}

/// Sets a secret of a target, which `alert_target.name__key` names. False when there is no such target or secret.
fn set_of_target(path: &str, text: &str, table: &mut Table) -> bool {
    let named = path.strip_prefix("alert_target.").and_then(|rest| rest.rsplit_once("__"));
    let Some((name, key)) = named else { return false };
    let is_secret = |key: &Key| key.kind == Type::Secret;
    let targets = table.get_mut("alert_target").and_then(Value::as_array_mut);
    let mut targets = targets.into_iter().flatten().filter_map(Value::as_table_mut);
    let called = |target: &Table| target.get("name").and_then(Value::as_str).map(keys::in_variable);
    let target = targets.find(|target| called(target).is_some_and(|called| called == name));
    let Some(target) = target.filter(|_| keys::find(&format!("alert_target.{key}")).is_some_and(is_secret))
    else {
        return false;
    };
    target.insert(key.to_owned(), Value::String(text.to_owned()));
    true
}

/// A value as it would stand behind `=` in the file: blanks, line ends and a comment around it do not matter.
fn one_value(text: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("v = {text}")).ok()?;
    let value = table.remove("v");
    value.filter(|_| table.is_empty())
}

/// The variables that are read here. Bytes that are not UTF-8 are replaced, so that the value is refused.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let ours = |name: &str| name.starts_with(ENV_PREFIX) || crate::egress::VARIABLES.contains(&name);
        let name = name.into_string().ok().filter(|name| ours(name))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

fn unknown<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> String {
    match nearest(wrong, names) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key".to_owned(),
    }
}

fn check_known(table: &Table, problems: &mut Problems) {
    for (section, value) in table {
        if !SECTIONS.iter().any(|(name, ..)| name == section) {
            problems.add(section, unknown(section, SECTIONS.iter().map(|(name, ..)| *name)));
            continue;
        }
        match (section.as_str(), value) {
            (list, Value::Array(rules)) if LISTS.contains(&list) && rules.iter().all(Value::is_table) => {
                rules
                    .iter()
                    .filter_map(Value::as_table)
                    .for_each(|rule| check_section(section, rule, problems));
            }
            (list, _) if LISTS.contains(&list) => {
                problems.add(section, format_args!("must be a list of tables: write `[[{list}]]`"));
            }
            (_, Value::Table(keys)) => check_section(section, keys, problems),
            _ => problems.add(section, format_args!("must be a section: write `[{section}]`")),
        }
    }
}

fn check_section(section: &str, table: &Table, problems: &mut Problems) {
    for (name, value) in table {
        let path = format!("{section}.{name}");
        match keys::find(&path) {
            Some(key) => check_type(key.path, key.kind, value, problems),
            None => {
                let near = KEYS.iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'));
                problems.add(&path, unknown(name, near));
            }
        }
    }
}

fn check_type(path: &str, kind: Type, value: &Value, problems: &mut Problems) {
    let fits = match kind {
        Type::Integer => value.is_integer(),
        Type::Number => value.is_integer() || value.is_float(),
        Type::Boolean => value.is_bool(),
        Type::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
        Type::Text | Type::Secret | Type::Path | Type::Duration | Type::Size => value.is_str(),
    };
    if !fits {
        problems.add(path, format_args!("must be {}, not {}", one(kind.name()), one(value.type_str())));
    } else if kind == Type::Duration && value.as_str().and_then(Span::parse).is_none() {
        problems.add(path, format_args!("{value} is not a duration: a whole number and ms, s, m, h or d"));
    } else if kind == Type::Size && value.as_str().and_then(Size::parse).is_none() {
        problems.add(path, format_args!("{value} is not a size: a whole number and B, KiB, MiB, GiB or TiB"));
    }
}

/// The word with its article.
fn one(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

fn fill_defaults(table: &mut Table, problems: &mut Problems) {
    for key in KEYS.iter() {
        let Some((section, name)) = key.path.split_once('.') else { continue };
        if LISTS.contains(&section) {
            let rules = table.entry(section).or_insert_with(|| Value::Array(Vec::new()));
            let rules = rules.as_array_mut().map_or(&mut [][..], |rules| rules.as_mut_slice());
            rules.iter_mut().filter_map(Value::as_table_mut).for_each(|rule| fill(key, name, rule, problems));
        } else {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Some(section) = section.as_table_mut() {
                fill(key, name, section, problems);
            }
        }
    }
}

fn fill(key: &Key, name: &str, section: &mut Table, problems: &mut Problems) {
    match key.default {
        _ if section.contains_key(name) => {}
        None => problems.add(key.path, format_args!("is missing; for example {name} = {}", key.example)),
        Some(default) => {
            // Nothing at all stands for "not set".
            if let Ok(value) = default.parse::<Value>() {
                section.insert(name.to_owned(), value);
            }
        }
    }
}

/// The known name nearest to `wrong`, if one is near enough to be meant.
fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .map(|(_, name)| name)
}

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
