//! Any value comes back from a CSV reader as it went in, and nothing that can be sent does harm.

use super::{cells, schema};
use crate::transform::tests::totals;
use crate::transform::{Outcome, Transform};
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::config::InvalidText;
use shared::schema::Schema;

/// Any JSON value, of a size that tests bear, rich in the characters that matter.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![any::<String>(), "[~\"\r\n \\\\\u{0}aé😀]{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            "[a-z]{0,3}",
            Just("values".to_owned()),
            Just("delim".to_owned()),
            Just("count".to_owned())
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn every_string_comes_back_without_its_nuls(texts in prop::collection::vec(
        prop_oneof![any::<String>(), "[~\"\r\n \t\\\\\u{0}.Naé]{0,20}"], 1..6,
    )) {
        let columns: Vec<_> = (0..texts.len()).map(|n| format!("c{n} c{n} text varchar(65535)")).collect();
        let record: Value = texts.iter().enumerate().map(|(n, text)| (format!("c{n}"), json!(text))).collect();
        let mut transform = Transform::new(&schema(&columns.join("\n")), &[]).unwrap();
        let mut row = Vec::new();
        transform.record(record.to_string().as_bytes(), &mut row);
        let expected: Vec<_> = texts.iter().map(|text| text.replace('\0', "")).collect();
        prop_assert_eq!(cells(&row), expected);
        let nuls = texts.iter().map(|text| text.matches('\0').count() as u64).sum::<u64>();
        prop_assert_eq!(totals(&transform).nuls, nuls);
    }

    #[test]
    fn text_is_cut_to_the_longest_start_that_fits(text in "[ab~\"éあ😀]{0,20}", max in 1_usize..20) {
        let mut transform = Transform::new(&schema(&format!("v v text varchar({max})")), &[]).unwrap();
        let mut row = Vec::new();
        transform.record(json!({ "v": text }).to_string().as_bytes(), &mut row);
        let fits = |end: &usize| *end <= max;
        let mut ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = ends.rfind(fits).unwrap_or(0);
        prop_assert_eq!(cells(&row).concat(), &text[..end]);
        prop_assert_eq!(totals(&transform).cut, u64::from(end < text.len()));
    }

    #[test]
    fn any_record_of_any_shape_becomes_a_row_of_the_right_width(values in prop::collection::vec(any_json(), 10)) {
        let columns = "text v0 text varchar(30)\nwhole v1 integer integer\nid v2 unsigned decimal(20,0)\n\
                       number v3 decimal decimal(18,2)\nflag v4 boolean boolean\ntime v5 timestamp timestamp\n\
                       event v6 event_value decimal(18,2)\nlist v7 list varchar(30)\njson v8 json varchar(60)\n\
                       part v9.values text varchar(9)\nwhole_part v9 json varchar(60)";
        let record: Value = values.iter().enumerate().map(|(n, value)| (format!("v{n}"), value.clone())).collect();
        let mut transform = Transform::new(&schema(columns), &[]).unwrap();
        let mut row = Vec::new();
        let outcome = transform.record(record.to_string().as_bytes(), &mut row);
        let is_row = matches!(outcome, Outcome::Row { .. });
        prop_assert!(is_row, "{:?}", outcome);
        prop_assert_eq!(row.last(), Some(&b'\n'));
        let cells = cells(&row);
        prop_assert_eq!(cells.len(), 11);
        for (number, cell) in cells.iter().enumerate() {
            let empty = cell.is_empty();
            prop_assert!(!cell.contains('\0'));
            match number {
                1 => prop_assert!(empty || cell.parse::<i32>().is_ok(), "{}", cell),
                2 => prop_assert!(empty || cell.parse::<u64>().is_ok(), "{}", cell),
                3 | 6 => {
                    let (whole, fraction) = cell.trim_start_matches('-').split_once('.').unwrap_or((cell, ""));
                    prop_assert!(whole.trim_start_matches('-').len() <= 16 && fraction.len() <= 2, "{}", cell);
                }
                4 => prop_assert!(empty || cell == "true" || cell == "false"),
                5 => prop_assert!(empty || cell.len() == 19 || cell.len() == 26),
                0 | 7 => prop_assert!(cell.len() <= 30),
                8 | 10 => prop_assert!(empty || serde_json::from_str::<Value>(cell).is_ok()),
                _ => prop_assert!(cell.len() <= 9),
            }
        }
    }

    #[test]
    fn whatever_json_takes_for_a_record_the_transform_takes_and_nothing_else(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::vec(prop::sample::select(br#"{}[]",:\u0d8an1e-. ~tru"#.to_vec()), 0..40),
            r#"\{("(ip|evars|products)":("[a~\\"]{0,3}"|[0-9.eE+-]{1,4}|\{"evars":\{\}\}|\[1?\]|null|true),?){0,3}\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let mut row = Vec::new();
        let outcome = Transform::new(&Schema::built_in(1..=2), &[])
            .unwrap()
            .with_invalid_text(InvalidText::Reject)
            .record(&bytes, &mut row);
        // A raw value checks the grammar only, as the transform does: half a surrogate pair is none of its business.
        let reference = serde_json::from_slice::<Box<serde_json::value::RawValue>>(&bytes);
        let is_object = reference.is_ok_and(|raw| raw.get().starts_with('{'));
        prop_assert_eq!(matches!(outcome, Outcome::Row { .. }), is_object, "{:?}", outcome);
        prop_assert_eq!(row.is_empty(), !is_object);
    }
}
