//! The rules of `[[filter]]`.

use crate::config::keys::FilterRule;
use crate::config::problems::Problems;

pub(super) fn check(rule: &FilterRule, problems: &mut Problems) {
    let key = format!("filter {:?}", rule.name);
    let tests = [
        ("filter.exists", rule.exists.is_some()),
        ("filter.equals", !rule.equals.is_empty()),
        ("filter.not_equals", !rule.not_equals.is_empty()),
        ("filter.contains", !rule.contains.is_empty()),
        ("filter.starts_with", !rule.starts_with.is_empty()),
        ("filter.ends_with", !rule.ends_with.is_empty()),
        ("filter.matches", !rule.matches.is_empty()),
        ("filter.greater", rule.greater.is_some()),
        ("filter.less", rule.less.is_some()),
    ];
    let given: Vec<_> = tests.iter().filter(|(_, given)| *given).map(|(test, _)| *test).collect();
    if given.len() != 1 {
        let all = tests.map(|(test, _)| test).join(", ");
        let given = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        problems.add(&key, format_args!("give exactly one of {all}, not {given}"));
    }
    for (test, values) in [
        ("filter.contains", &rule.contains),
        ("filter.starts_with", &rule.starts_with),
        ("filter.ends_with", &rule.ends_with),
        ("filter.matches", &rule.matches),
    ] {
        if values.iter().any(String::is_empty) {
            problems.add(&key, format_args!("{test}: the empty text fits every record"));
        }
    }
    for (test, bound) in [("filter.greater", rule.greater), ("filter.less", rule.less)] {
        if bound.is_some_and(|bound| !bound.is_finite()) {
            problems.add(&key, format_args!("{test} must be a number"));
        }
    }
    if rule.name.is_empty() || rule.field.is_empty() {
        problems.add(&key, "filter.name and filter.field must not be empty");
    }
}
