//! Whole numbers and decimals.

use super::{assert_kept, assert_nulled, one_by};
use crate::transform::ColumnCounts;

#[test]
fn a_whole_number_is_read_from_number_string_and_boolean() {
    assert_kept(
        "integer",
        "integer",
        &[
            ("820", "820"),
            ("-820", "-820"),
            ("\"820\"", "820"),
            ("\" +0820 \"", "820"),
            ("\"\\u0038\"", "8"),
            ("12.0", "12"),
            ("1.2e3", "1200"),
            ("1200e-2", "12"),
            ("-0", "0"),
            ("0e999999999", "0"),
            ("true", "1"),
            ("false", "0"),
            ("2147483647", "2147483647"),
            ("-2147483648", "-2147483648"),
            ("null", ""),
            ("\"\"", ""),
        ],
    );
    assert_nulled(
        "integer",
        "integer",
        &[
            "2147483648",
            "-2147483649",
            "1.5",
            "1e10",
            "1e999999999",
            "1e-1",
            "\"x\"",
            "\" \"",
            "\"NaN\"",
            "\"true\"",
            "[]",
            "[1]",
            "{}",
            "{\"a\":1}",
            "\"1,000\"",
            "\"1\\u00002\"",
            "\"\\ud800\"",
        ],
    );
    assert_kept("integer", "smallint", &[("-32768", "-32768"), ("32767", "32767")]);
    assert_nulled("integer", "smallint", &["-32769", "32768"]);
    assert_kept("integer", "bigint", &[("-9223372036854775808", "-9223372036854775808")]);
    assert_nulled("integer", "bigint", &["9223372036854775808"]);
    assert_kept("integer", "decimal(3,0)", &[("-999", "-999"), ("9.99e2", "999")]);
    assert_nulled("integer", "decimal(3,0)", &["1000", "-1000"]);
}

#[test]
fn a_hit_id_keeps_all_its_64_bits() {
    assert_kept(
        "unsigned",
        "decimal(20,0)",
        &[
            ("18446744073709551615", "18446744073709551615"),
            ("\"18446744073709551615\"", "18446744073709551615"),
            ("9007199254740993", "9007199254740993"),
            ("\"0000000000000000042\"", "42"),
            ("0", "0"),
        ],
    );
    assert_nulled("unsigned", "decimal(20,0)", &["18446744073709551616", "-1", "1.5"]);
}

#[test]
fn a_decimal_keeps_the_digits_it_was_sent_with() {
    assert_kept(
        "decimal",
        "decimal(9,6)",
        &[
            ("48.8566", "48.8566"),
            ("\"-2.352200\"", "-2.352200"),
            ("1.2e2", "120"),
            ("1.25e-3", "0.00125"),
            ("-0.0", "0.0"),
            ("5", "5"),
            ("999.999999", "999.999999"),
        ],
    );
    assert_nulled(
        "decimal",
        "decimal(9,6)",
        &["1000", "999.9999995", "1e400", "\"north\"", "true", "{\"lat\":1}", "1e99999999999999999999"],
    );
}

#[test]
fn a_decimal_with_more_digits_than_its_column_is_rounded_if_the_rule_says_so() {
    let rounded = ColumnCounts { rounded: 1, ..ColumnCounts::default() };
    for (value, expected) in [
        ("48.85660000000000451109372079372406005859375", "48.856600"),
        ("0.0000005", "0.000001"),
        ("-0.0000005", "-0.000001"),
        ("0.00000049", "0.000000"),
        ("1e-400", "0.000000"),
    ] {
        assert_eq!(
            one_by("decimal", "decimal(9,6)", "cut", value),
            (expected.to_owned(), rounded),
            "{value}"
        );
    }
}
