//! Text: what is kept, what is cut, and what cannot be stored.

use super::{assert_kept, one, schema};
use crate::transform::{ColumnCounts, Transform};

const NONE: ColumnCounts = ColumnCounts {
    cut: 0,
    nulled: 0,
    rounded: 0,
    nuls: 0,
    replaced: 0,
    invalid: 0,
    delimiters: 0,
    rejected: 0,
};

#[test]
fn a_string_is_stored_as_it_was_sent() {
    assert_kept(
        "text",
        "varchar(100)",
        &[
            (r#""a~b""#, "a~b"),
            (r#""say \"hi\"""#, "say \"hi\""),
            (r#""C:\\temp\\new""#, "C:\\temp\\new"),
            (r#""\\N""#, "\\N"),
            (r#""\\.""#, "\\."),
            (r#""line\r\nbreak""#, "line\r\nbreak"),
            (r#"" blanks ""#, " blanks "),
            (r#""\ttab\t""#, "\ttab\t"),
            (r#"" ""#, " "),
            (r#""\b\f\/\u0001\u007f""#, "\u{8}\u{c}/\u{1}\u{7f}"),
            (r#""\u00e9\u4e2d\uD83D\uDE00😀""#, "é中😀😀"),
            (r#""\uffff\ufdd0""#, "\u{ffff}\u{fdd0}"),
            (r#""""#, ""),
            ("null", ""),
        ],
    );
}

#[test]
fn what_is_no_string_keeps_its_text() {
    assert_kept(
        "text",
        "varchar(100)",
        &[
            ("12.50", "12.50"),
            ("1E400", "1E400"),
            ("18446744073709551616", "18446744073709551616"),
            ("true", "true"),
            (r#"{"a":[1,"~"]}"#, r#"{"a":[1,"~"]}"#),
            (r#"["\n"]"#, r#"["\n"]"#),
        ],
    );
}

#[test]
fn text_is_cut_between_two_characters_within_its_bytes() {
    let cut = ColumnCounts { cut: 1, ..NONE };
    for (value, expected) in [
        (r#""abcdef""#, "abcd"),
        (r#""abcéé""#, "abc"),
        (r#""ab\u00e9\u00e9""#, "abé"),
        (r#""😀😀""#, "😀"),
        (r#""a😀""#, "a"),
        (r#""abc~ef""#, "abc~"),
        (r#""abc ef""#, "abc "),
        ("123456", "1234"),
    ] {
        assert_eq!(one("text", "varchar(4)", value), (expected.to_owned(), cut), "{value}");
    }
    assert_kept("text", "varchar(4)", &[(r#""abé""#, "abé"), (r#""abcd""#, "abcd")]);
    assert_eq!(one("text", "varchar(1)", "\"é\""), (String::new(), cut));
}

#[test]
fn nul_is_left_out_and_counted() {
    assert_eq!(
        one("text", "varchar(4)", r#""a\u0000b\u0000cd""#),
        ("abcd".into(), ColumnCounts { nuls: 2, ..NONE })
    );
    assert_eq!(one("text", "varchar(4)", r#""\u0000""#), (String::new(), ColumnCounts { nuls: 1, ..NONE }));
    assert_eq!(
        one("list", "varchar(9)", r#"["\u0000a","b"]"#),
        ("a,b".into(), ColumnCounts { nuls: 1, ..NONE })
    );
}

#[test]
fn half_a_surrogate_pair_is_replaced_and_the_rest_survives() {
    for (value, expected, replaced) in [
        (r#""a\ud800b""#, "a\u{fffd}b", 1),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}", 2),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀", 1),
        (r#""\ud83dA""#, "\u{fffd}A", 1),
        (r#""\ud83d\n""#, "\u{fffd}\n", 1),
        (r#""\ud83d""#, "\u{fffd}", 1),
    ] {
        assert_eq!(
            one("text", "varchar(20)", value),
            (expected.to_owned(), ColumnCounts { replaced, ..NONE }),
            "{value}"
        );
    }
}

#[test]
fn a_short_string_with_blanks_around_it_is_quoted() {
    let mut row = Vec::new();
    let mut transform = Transform::new(&schema("v v text varchar(9)"), &[]).unwrap();
    for value in [" a", "a ", "a"] {
        transform.record(format!("{{\"v\":\"{value}\"}}").as_bytes(), &mut row);
    }
    assert_eq!(row, b"\" a\"\n\"a \"\na\n");
}
