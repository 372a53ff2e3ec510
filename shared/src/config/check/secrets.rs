//! A secret is set in one place, and a program that uses it has it.

use crate::config::keys::ENV_PREFIX;
use crate::config::problems::Problems;

pub(super) fn one_source(
    key: &str,
    given: bool,
    file: &std::path::Path,
    needed: bool,
    problems: &mut Problems,
) {
    let in_file = !file.as_os_str().is_empty();
    if given && in_file {
        problems.add(key, format_args!("is given twice: here and by {key}_file"));
    } else if needed && !given && !in_file {
        let variable = format!("{}{}", ENV_PREFIX, key.to_uppercase().replace('.', "__"));
        problems.add(key, format_args!("is missing: give it, {key}_file or the variable {variable}"));
    }
}
