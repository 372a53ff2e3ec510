//! Whatever is sent in a protected field, however it is spelled and wherever it stands: no eight bytes of it come out.

use proptest::prelude::*;
use serde_json::Value;
use shared::schema::Schema;
use state::log::KeptRecord;

use super::protections::protecting;
use super::{cells, schema};
use crate::transform::{Outcome, Transform};

/// What a leak is told by: nothing shorter is sure not to be there by chance.
const WINDOW: usize = 8;

/// A value that must not come out, as JSON, and the texts in it.
#[derive(Debug, Clone)]
struct Hidden {
    json: String,
    texts: Vec<String>,
}

/// How the characters of a text are spelled: as they are, or as an escape.
fn spelled(text: &str, escapes: u64) -> String {
    let mut json = "\"".to_owned();
    for (n, c) in text.chars().enumerate() {
        if escapes >> (n % 64) & 1 == 1 {
            json += &format!("\\u{:04x}", u32::from(c));
        } else if c == '"' || c == '\\' {
            json += &format!("\\{c}");
        } else {
            json.push(c);
        }
    }
    json + "\""
}

/// Texts of letters that stand nowhere else.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof!["[G-Z]{8,30}", "[G-Z\"\\\\~é]{8,30}"]
}

fn text(secrets: impl Strategy<Value = String>) -> impl Strategy<Value = Hidden> {
    (secrets, prop_oneof![Just(0), any::<u64>()])
        .prop_map(|(text, escapes)| Hidden { json: spelled(&text, escapes), texts: vec![text] })
}

fn number() -> impl Strategy<Value = Hidden> {
    (1_000_000_000_u64..u64::MAX, "(\\.[0-9]{0,3}[1-9])?(e-[1-9])?")
        .prop_map(|(whole, rest)| format!("{whole}{rest}"))
        .prop_map(|text| Hidden { json: text.clone(), texts: vec![text] })
}

/// Any JSON of such texts, in which keys are values too.
fn any_form() -> impl Strategy<Value = Hidden> {
    let leaf = prop_oneof![3 => text(secret()), 1 => number()];
    leaf.prop_recursive(6, 12, 3, |inner| {
        let all = |parts: Vec<(String, Hidden)>| Hidden {
            json: parts
                .iter()
                .map(|(key, part)| format!("{key}{}", part.json))
                .collect::<Vec<_>>()
                .join(", "),
            texts: parts.into_iter().flat_map(|(_, part)| part.texts).collect(),
        };
        let array = prop::collection::vec(inner.clone(), 0..4).prop_map(move |parts| {
            let all = all(parts.into_iter().map(|part| (String::new(), part)).collect());
            Hidden { json: format!("[{}]", all.json), ..all }
        });
        let key =
            prop_oneof![Just("values".to_owned()), Just("delim".to_owned()), Just("b".to_owned()), secret()];
        let object = prop::collection::vec((key, inner), 0..4).prop_map(move |parts| {
            let keys: Vec<String> =
                parts.iter().map(|(key, _)| key.clone()).filter(|key| key.len() >= WINDOW).collect();
            let mut all =
                all(parts.into_iter().map(|(key, part)| (format!("{}:", spelled(&key, 0)), part)).collect());
            all.texts.extend(keys);
            Hidden { json: format!("{{{}}}", all.json), ..all }
        });
        prop_oneof![array, object]
    })
}

/// An e-mail address, an IPv6 address or a URL: of `texts` nothing may come out.
fn masked() -> impl Strategy<Value = (&'static str, Hidden)> {
    let mail = (text("[G-Z]{8,20}(\\.[G-Z]{3,9})?"), Just("@abc.de")).prop_map(|(local, domain)| {
        let json = local.json.trim_end_matches('"').to_owned() + domain + "\"";
        ("mail", Hidden { json, ..local })
    });
    let ip = prop::array::uniform5(0x1000_u16..).prop_map(|parts| {
        let host: Vec<_> = parts.iter().map(|part| format!("{part:x}")).collect();
        let hidden = host.join(":");
        ("ip", Hidden { json: format!("\"2001:db8:1:{hidden}\""), texts: vec![hidden] })
    });
    let url = (text(secret()), prop::sample::select(vec!["?q=", "?a=b&", "#a=", ";s=", "%3Fx="])).prop_map(
        |(query, mark)| {
            let json = format!("\"https://abc.de/f{mark}{}", query.json.trim_start_matches('"'));
            ("url", Hidden { json, ..query })
        },
    );
    prop_oneof![mail, ip, url]
}

/// The key of a field, which may be spelled by escapes.
fn key(name: &str, escapes: u64) -> String {
    spelled(name, escapes)
}

fn record() -> impl Strategy<Value = (String, Vec<String>)> {
    let field = prop_oneof![
        (prop::sample::select(vec!["gone", "who", "ip", "mail", "url", "part"]), any_form()),
        masked(),
    ];
    let kept = prop::sample::select(vec![
        "\"page\":\"abc\"",
        "\"n\":\"many\"",
        "\"part\":null",
        "\"x\":[1,{\"y\":2}]",
    ]);
    let place = prop_oneof![
        3 => (field, prop_oneof![Just(0), any::<u64>()]).prop_map(|((name, hidden), escapes)| {
            // A part of JSON: within objects and arrays.
            let json = match name {
                "part" => format!("\"part\": [ {{\"deep\":[{{{}:{}}}]}} ]", key("inner", escapes), hidden.json),
                _ => format!("{}: {}", key(name, escapes), hidden.json),
            };
            (json, hidden.texts)
        }),
        1 => kept.prop_map(|json| (json.to_owned(), Vec::new())),
    ];
    prop::collection::vec(place, 1..8).prop_map(|places| {
        let json: Vec<_> = places.iter().map(|(json, _)| json.as_str()).collect();
        (format!("{{{}}}", json.join(",")), places.into_iter().flat_map(|(_, texts)| texts).collect())
    })
}

fn all_fields() -> Schema {
    schema(
        "gone gone text varchar(999)\ngones gone list varchar(999)\nwho who text varchar(999)\nwhos who list varchar(999)\n\
         whoj who json varchar(9999)\nin who.b text varchar(99)\nip ip text varchar(64)\nmail mail text varchar(99)\n\
         url url text varchar(99)\npart part json varchar(9999)\nsuper part json super\nrecord $ record varchar(65535)\n\
         all $ record super\nn n integer smallint reject\npage page text varchar(99)",
    )
}

fn transform() -> Transform {
    let lines = "drop = [\"gone\", \"part.deep.inner\"]\npseudonym = [\"who\"]\nmask_ip = [\"ip\"]\n\
                 mask_email = [\"mail\"]\nmask_query = [\"url\"]";
    protecting(&all_fields(), lines).unwrap()
}

/// Every text in a JSON text, keys too, without their escapes.
fn texts_in(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(elements) => elements.iter().for_each(|element| texts_in(element, texts)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            texts.push(key.clone());
            texts_in(value, texts);
        }),
        other => texts.push(other.to_string()),
    }
}

/// Eight bytes of a hidden text that stand in what came out.
fn leak(out: &str, hidden: &[String]) -> Option<String> {
    let mut told = vec![out.to_owned()];
    if let Ok(value) = serde_json::from_str(out) {
        texts_in(&value, &mut told);
    }
    let windows = hidden.iter().flat_map(|text| text.as_bytes().windows(WINDOW));
    let found = windows
        .filter(|window| told.iter().any(|told| memchr::memmem::find(told.as_bytes(), window).is_some()));
    found.map(|window| window.escape_ascii().to_string()).next()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_eight_bytes_of_a_protected_value_come_out((record, hidden) in record()) {
        let mut transform = transform();
        let mut row = Vec::new();
        match transform.record(record.as_bytes(), &mut row) {
            Outcome::Row { .. } => {
                let line = String::from_utf8(row.clone()).unwrap();
                for cell in cells(&row).into_iter().chain([line]) {
                    prop_assert_eq!(leak(&cell, &hidden), None, "{} of {}", cell, record);
                }
            }
            Outcome::Rejected(reject) => prop_assert_eq!(leak(&reject.to_string(), &hidden), None),
            Outcome::Filtered { .. } => {}
        }
        // As a reject, and as somebody who taps sees it.
        let KeptRecord::Protected(kept, _) = transform.kept(record.as_bytes(), 1, true) else { panic!("{record}") };
        prop_assert_eq!(leak(&kept, &hidden), None, "{} of {}", kept, record);
        prop_assert!(serde_json::from_str::<Value>(&kept).is_ok(), "{}", kept);
        let explained = transform.explain(&all_fields(), record.as_bytes()).unwrap();
        for text in explained.into_iter().flat_map(|one| [one.raw, one.stored, one.applied]).flatten() {
            prop_assert_eq!(leak(&text, &hidden), None, "{} of {}", text, record);
        }
        // Cut off anywhere it is no record any more.
        let cut = record.as_bytes().get(..record.len() * 2 / 3).unwrap_or_default();
        let outcome = transform.record(cut, &mut Vec::new());
        if let Outcome::Rejected(reject) = outcome {
            prop_assert_eq!(leak(&reject.to_string(), &hidden), None);
            let kept = transform.kept(cut, 1, !reject.is_unreadable());
            prop_assert!(matches!(kept, KeptRecord::Digest { .. }), "{:?}", kept);
        }
    }
}
