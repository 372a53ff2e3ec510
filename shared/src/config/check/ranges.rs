//! Values between the least and the greatest that their key allows.

use std::fmt::Display;

use toml::{Table, Value};

use crate::config::keys::KEYS;
use crate::config::keys::Type;
use crate::config::problems::Problems;
use crate::human::{Size, Span};

pub(super) fn check(table: &Table, problems: &mut Problems) {
    for key in KEYS.iter() {
        let value = key.path.split_once('.').and_then(|(section, name)| table.get(section)?.get(name));
        let (Some(value), Some((least, greatest))) = (value, key.range) else { continue };
        if let Some(shown) = outside(key.kind, value, [least, greatest]) {
            problems.add(key.path, format_args!("must be between {least} and {greatest}, not {shown}"));
        }
    }
}

fn outside(kind: Type, value: &Value, bounds: [&str; 2]) -> Option<String> {
    fn of<T: PartialOrd + Display>(value: &T, [least, greatest]: [Option<T>; 2]) -> Option<String> {
        let below = least.is_some_and(|least| *value < least);
        let above = greatest.is_some_and(|greatest| *value > greatest);
        (below || above).then(|| value.to_string())
    }
    match kind {
        Type::Size => of(&Size::parse(value.as_str()?)?, bounds.map(Size::parse)),
        Type::Duration => of(&Span::parse(value.as_str()?)?, bounds.map(Span::parse)),
        _ => of(&value.as_integer()?, bounds.map(|bound| bound.parse().ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use crate::seal::{MAX_FILE_BYTES, MAX_FILE_ROWS};

    #[test]
    fn every_bound_can_be_read() {
        for key in KEYS.iter().filter(|key| key.range.is_some()) {
            let (least, greatest) = key.range.unwrap();
            let value = |text: &str| text.parse().map_or_else(|_| Value::from(text), Value::Integer);
            for (bounds, within) in [([least, greatest], true), ([greatest, greatest], false)] {
                assert_eq!(outside(key.kind, &value(least), bounds).is_none(), within, "{}", key.path);
            }
            assert!(outside(key.kind, &value(greatest), [least, least]).is_some(), "{}", key.path);
        }
    }

    #[test]
    fn a_file_that_the_configuration_allows_is_one_that_a_seal_may_name() {
        let greatest = |path: &str| keys::find(path).unwrap().range.unwrap().1;
        assert_eq!(greatest("batch.records_per_file"), MAX_FILE_ROWS.to_string());
        assert_eq!(Size::parse(greatest("batch.max_file_bytes")), Some(Size(MAX_FILE_BYTES)));
    }
}
