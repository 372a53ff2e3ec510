//! What is protected stands nowhere as it was sent: not in its column, not in another one, not in the JSON around it, not in
//! a reject.

use std::path::Path;

use shared::config::{Config, KeepRejects, Secrets};
use shared::schema::Schema;
use state::log::{KeptRecord, ProtectedNote};

use super::{cells, schema};
use crate::transform::{Outcome, ProtectedCounts, Transform};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A transform with these lines of `[protect]`.
pub(super) fn protecting(schema: &Schema, lines: &str) -> Result<Transform, String> {
    let example = include_str!("../../../../deploy/pipeline.example.toml");
    let text = format!("{example}\n[protect]\npseudonym_key = \"{KEY}\"\n{lines}\n");
    let config = Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused);
    let config = config.map_err(|error| error.to_string())?;
    let transform = Transform::new(schema, &[]).unwrap().with_protection(&config.protect, schema);
    let transform = transform.map_err(|error| error.to_string())?;
    Ok(transform.with_rejects(config.kept_rejects()))
}

/// The cells of the record's row, and what was counted, by field.
fn row(schema: &Schema, lines: &str, record: &str) -> (Vec<String>, Vec<(String, u64, u64)>) {
    let mut transform = protecting(schema, lines).unwrap();
    let mut row = Vec::new();
    let outcome = transform.record(record.as_bytes(), &mut row);
    assert!(matches!(outcome, Outcome::Row { .. }), "{outcome:?}");
    let mut counts = Vec::new();
    transform.drain_protected(|field, ProtectedCounts { values, unexpected }| {
        counts.push((field.to_owned(), values, unexpected));
    });
    (cells(&row), counts)
}

fn pseudonym(text: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = ring::hmac::sign(&key, text.as_bytes());
    tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

const FIELDS: &str = "ip ip text varchar(64)\nmail mail text varchar(99)\nurl url text varchar(99)\n\
                      who who text varchar(64)\nsame who text varchar(64)\ngone gone text varchar(64)\n\
                      page page text varchar(99)";

#[test]
fn each_way_does_to_a_value_what_it_says() {
    let lines = "mask_ip = [\"ip\"]\nmask_email = [\"mail\"]\nmask_query = [\"url\"]\npseudonym = [\"who\"]\n\
                 drop = [\"gone\"]";
    let record = r#"{"ip":"198.51.100.77","mail":"jane@example.com","url":"https://x.example/a?q=jane","who":"jane",
                     "gone":"jane","page":"jane"}"#;
    let (cells, counts) = row(&schema(FIELDS), lines, record);
    let who = pseudonym("jane");
    // A column of another name that reads the same path has the same.
    assert_eq!(cells, ["198.51.100.0", "@example.com", "https://x.example/a", &who, &who, "", "jane"]);
    let all: Vec<_> = counts.iter().map(|(field, values, lost)| (field.as_str(), *values, *lost)).collect();
    assert_eq!(all, [("gone", 1, 0), ("ip", 1, 0), ("mail", 1, 0), ("url", 1, 0), ("who", 1, 0)]);
}

#[test]
fn a_value_is_protected_whatever_its_type_and_spelling() {
    let schema = schema("who who json varchar(999)\nlist list list varchar(999)\nip ip text varchar(64)");
    let lines = "pseudonym = [\"who\", \"list\"]\nmask_ip = [\"ip\"]";
    let jane = pseudonym("jane");
    for (value, who, unexpected) in [
        (r#""jane""#, format!("\"{jane}\""), 0),
        (r#""j\u0061n\u0065""#, format!("\"{jane}\""), 0),
        // Redshift would store it without the NUL.
        (r#""ja\u0000ne""#, format!("\"{jane}\""), 0),
        ("12345", format!("\"{}\"", pseudonym("12345")), 0),
        (r#""12345""#, format!("\"{}\"", pseudonym("12345")), 0),
        ("true", format!("\"{}\"", pseudonym("true")), 0),
        (r#"["jane", null, "", 7]"#, format!("[\"{jane}\",null,\"\",\"{}\"]", pseudonym("7")), 0),
        (r#"[["jane"]]"#, format!("[[\"{jane}\"]]"), 0),
        ("[]", "[]".to_owned(), 0),
        (r#"[{"jane":1},"jane"]"#, format!("[null,\"{jane}\"]"), 1),
        (r#"{"jane":"jane"}"#, String::new(), 1),
        (r#"[[[[["jane"]]]]]"#, "[[[[null]]]]".to_owned(), 1),
        (r#"{"values":["jane"],"delim":58}"#, format!("{{\"values\":[\"{jane}\"],\"delim\":58}}"), 0),
        (r#"{"delim":"jane jane","values":"jane"}"#, format!("{{\"values\":\"{jane}\"}}"), 0),
        (r#"{"values":["jane"],"more":"jane"}"#, format!("{{\"values\":[\"{jane}\"]}}"), 1),
    ] {
        let (cells, counts) = row(&schema, lines, &format!("{{\"who\":{value}}}"));
        assert_eq!(cells[0], who, "{value}");
        assert_eq!(counts, [("who".to_owned(), 1, unexpected)], "{value}");
    }
    let (cells, _) = row(&schema, lines, r#"{"list":{"values":["a","b"],"delim":"|"}}"#);
    assert_eq!(cells[1], format!("{}|{}", pseudonym("a"), pseudonym("b")));
    // What an IP address is not is dropped and counted.
    for value in
        ["\"jane\"", "3325256781", "true", "[\"jane\"]", "{\"a\":\"198.51.100.7\"}", "\"198.51.100.7:80\""]
    {
        let (cells, counts) = row(&schema, lines, &format!("{{\"ip\":{value}}}"));
        let expected = if value.starts_with('[') { "[null]" } else { "" };
        assert_eq!((cells[2].as_str(), counts), (expected, vec![("ip".to_owned(), 1, 1)]), "{value}");
    }
    // No value is none.
    for value in ["null", "\"\""] {
        let (cells, counts) = row(&schema, lines, &format!("{{\"ip\":{value}}}"));
        assert_eq!((cells[2].as_str(), counts), ("", vec![]), "{value}");
    }
}

#[test]
fn a_value_is_protected_wherever_it_stands() {
    let schema = schema(
        "first a.b|c text varchar(99)\nouter a json varchar(999)\ntext a text varchar(999)\nrecord $ record varchar(9999)\n\
         products products json varchar(999)",
    );
    let lines = "pseudonym = [\"a.b\"]\ndrop = [\"$.products.evars.evar5\", \"x.y\"]";
    let jane = pseudonym("jane");
    let record = r#"{ "a" : {"b": "jane", "k": "jane?"}, "c":"kept", "products":[{"evars":{"evar5":"jane","evar6":1}},
                      [{"evars":{"evar5":2}}], "evar5"], "x":[{"y":{"jane":1}}], "a":{"\u0062":"jane","b\u0000":"jane"}}"#;
    let (cells, counts) = row(&schema, lines, record);
    let inner = format!(r#"{{"\u0062":"{jane}","b\u0000":"{jane}"}}"#);
    let products = r#"[{"evars":{"evar5":null,"evar6":1}},
                      [{"evars":{"evar5":null}}], "evar5"]"#;
    assert_eq!(cells[..3], [jane.clone(), inner.clone(), inner.clone()]);
    assert_eq!(cells[4], products);
    let whole = format!(
        r#"{{ "a" : {{"b": "{jane}", "k": "jane?"}}, "c":"kept", "products":{products}, "x":[{{"y":null}}], "a":{inner}}}"#
    );
    assert_eq!(cells[3], whole);
    let expected = [("$.products.evars.evar5", 2), ("x.y", 1), ("a.b", 3)];
    let counts: Vec<_> = counts.iter().map(|(field, values, _)| (field.as_str(), *values)).collect();
    assert_eq!(counts, expected);
}

#[test]
fn of_a_key_that_stands_twice_every_value_is_protected() {
    let schema = schema("ip ip text varchar(64)\nrecord $ record varchar(999)");
    let (cells, _) =
        row(&schema, "mask_ip = [\"ip\"]", r#"{"ip":"198.51.100.77","\u0069p":"203.0.113.9","ip":""}"#);
    assert_eq!(cells, ["203.0.113.0", r#"{"ip":"198.51.100.0","\u0069p":"203.0.113.0","ip":""}"#]);
}

#[test]
fn a_column_inside_a_protected_value_is_empty_and_arrays_within_arrays_end_somewhere() {
    let inside = schema("inside a.b text varchar(9)\nother c text varchar(9)\nrecord $ record varchar(9999)");
    let (cells, _) = row(&inside, "drop = [\"$.a\"]", r#"{"a":{"b":"jane"},"c":"kept"}"#);
    assert_eq!(cells[..2], ["", "kept"]);
    let (cells, _) = row(&inside, "pseudonym = [\"$.a\"]", r#"{"a":{"b":"jane"},"c":"kept"}"#);
    assert_eq!(cells, ["", "kept", r#"{"a":null,"c":"kept"}"#]);

    let deep = |depth: usize| format!(r#"{{"x":{}{{"y":"jane"}}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 8, 9, 10, 5_000] {
        let (cells, counts) = row(&inside, "drop = [\"x.y\"]", &deep(depth));
        assert!(!cells[2].contains("jane"), "{depth}: {}", cells[2]);
        assert_eq!(counts, [("x.y".to_owned(), 1, u64::from(depth > 9))], "{depth}");
    }
}

#[test]
fn a_column_takes_the_next_path_if_only_one_of_them_is_protected() {
    let schema = schema("both a|b text varchar(99)");
    let record = r#"{"a":"jane","b":"joe"}"#;
    assert_eq!(row(&schema, "drop = [\"$.a\"]", record).0, ["joe"]);
    assert_eq!(row(&schema, "drop = [\"both\"]", record).0, [""]);
    assert_eq!(row(&schema, "pseudonym = [\"both\"]", record).0, [pseudonym("jane")]);
}

#[test]
fn what_cannot_be_protected_so_is_refused_with_what_to_do() {
    let schema = schema(
        "ids hitIdHigh unsigned decimal(20,0)\nid visIdHigh unsigned decimal(20,0)\nshort short text varchar(8)\n\
         whole $ record super\nip ip text varchar(64)\nouter o json super\ninner o.i text varchar(64)",
    );
    for (lines, expected) in [
        ("drop = [\"ids\"]", "protect.drop: \"ids\": hitIdHigh tells one hit from another"),
        ("drop = [\"receivedTimeGMT\"]", "protect.drop: \"receivedTimeGMT\": receivedTimeGMT tells"),
        ("pseudonym = [\"id\"]", "protect.pseudonym: \"id\": column id has kind `unsigned`"),
        ("pseudonym = [\"visIdHigh\"]", "column id has kind `unsigned`"),
        ("pseudonym = [\"short\"]", "column short is varchar(8), and a pseudonym has 32 characters"),
        ("drop = [\"whole\"]", "protect.drop: \"whole\": the column holds the whole record"),
        (
            "drop = [\"ip\"]\nmask_ip = [\"$.ip\"]",
            "protect.mask_ip: \"$.ip\": `ip` and `ip`, which \"ip\" in protect.drop",
        ),
        ("drop = [\"outer\"]\nmask_ip = [\"inner\"]", "protect.mask_ip: \"inner\": `o.i` and `o`"),
        ("drop = [\"products[].name\"]", "protect.drop: `products[].name` is not a path"),
        ("drop = [\"$\"]", "protect.drop: `$` is the whole record"),
        ("drop = [\"ip\"]\nmask_ip = [\"ip\"]", "protect.mask_ip: \"ip\" stands in protect.drop too"),
    ] {
        let said = protecting(&schema, lines).unwrap_err();
        assert!(said.contains(expected), "{lines}: {said}");
    }
    // Fields that are the same twice over do no harm.
    protecting(&schema, "drop = [\"ip\", \"$.ip\"]").unwrap();
}

#[test]
fn a_filter_sees_the_value_as_it_was_sent() {
    let schema = schema("ip ip text varchar(64)");
    let filter = crate::transform::Filter {
        name: "office".to_owned(),
        path: "ip".to_owned(),
        test: crate::transform::FilterTest::Equals(vec!["198.51.100.77".to_owned()]),
    };
    let protect = protecting(&schema, "drop = [\"ip\"]").unwrap().protection;
    let mut transform = Transform::new(&schema, &[filter]).unwrap();
    assert!(protect.is_some());
    let example = include_str!("../../../../deploy/pipeline.example.toml");
    let text = format!("{example}\n[protect]\ndrop = [\"ip\"]\n");
    let config = Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused).unwrap();
    transform = transform.with_protection(&config.protect, &schema).unwrap();
    let mut row = Vec::new();
    let outcome = transform.record(br#"{"ip":"198.51.100.77"}"#, &mut row);
    assert!(matches!(outcome, Outcome::Filtered { .. }) && row.is_empty(), "{outcome:?}");
    transform.record(br#"{"ip":"198.51.100.78"}"#, &mut row);
    assert_eq!(row, b"\"\"\n");
}

#[test]
fn of_a_reject_as_much_is_kept_as_is_asked_for() {
    let schema = schema("ip ip text varchar(64)\nwho who text varchar(64)\nn n integer smallint reject");
    let lines = "mask_ip = [\"ip\"]\npseudonym = [\"who\"]";
    let misfit = r#"{"ip":"198.51.100.77","who":"jane","n":70000}"#.as_bytes();
    let mut transform = protecting(&schema, lines).unwrap();
    assert!(matches!(transform.record(misfit, &mut Vec::new()), Outcome::Rejected(_)));
    let KeptRecord::Protected(text, note) = transform.kept(misfit, misfit.len() as u64, true) else {
        panic!()
    };
    assert_eq!(text, format!(r#"{{"ip":"198.51.100.0","who":"{}","n":70000}}"#, pseudonym("jane")));
    assert_eq!(
        (note.key.clone(), note.pseudonyms.as_slice()),
        (transform.form().pseudonym_key.clone(), &["who".to_owned()][..])
    );
    assert_eq!(note.key.as_ref().map(String::len), Some(8));
    assert_eq!(transform.form().pseudonym_spelling.as_deref(), Some("hex 32"));

    // Taken in again, it gets no pseudonym of a pseudonym.
    let earlier = ProtectedNote { key: Some("of another".to_owned()), ..note };
    transform.set_earlier(earlier.clone());
    let KeptRecord::Protected(again, note) = transform.kept(text.as_bytes(), 1, true) else { panic!() };
    assert_eq!((again, note), (text.clone(), earlier));
    transform.set_earlier(ProtectedNote::default());
    let KeptRecord::Protected(twice, _) = transform.kept(text.as_bytes(), 1, true) else { panic!() };
    assert_ne!(twice, text);

    let kept = |transform: &mut Transform, record: &[u8], readable| {
        transform.kept(record, record.len() as u64, readable)
    };
    let broken = br#"{"ip":"198.51.100.77"#;
    let KeptRecord::Digest { bytes, hash } = kept(&mut transform, broken, false) else { panic!() };
    assert_eq!((bytes, hash.len()), (broken.len() as u64, 32));
    assert_eq!(kept(&mut transform, broken, false), KeptRecord::Digest { bytes, hash }, "the same again");
    let mut full = transform.clone().with_rejects(KeepRejects::Full);
    assert_eq!(kept(&mut full, misfit, true), KeptRecord::Full(misfit.to_vec()));
    let mut reason = transform.clone().with_rejects(KeepRejects::Reason);
    assert!(matches!(kept(&mut reason, misfit, true), KeptRecord::Digest { .. }));
    // Without any protection a record that can be read is kept whole.
    let mut plain = Transform::new(&schema, &[]).unwrap().with_rejects(KeepRejects::Protected);
    assert_eq!(kept(&mut plain, misfit, true), KeptRecord::Full(misfit.to_vec()));
    assert!(matches!(kept(&mut plain, broken, false), KeptRecord::Digest { .. }));
    assert_eq!(
        Transform::new(&schema, &[]).unwrap().kept(broken, 1, false),
        KeptRecord::Full(broken.to_vec())
    );
}

#[test]
fn an_explanation_shows_how_a_value_is_protected_and_not_the_value() {
    let schema = schema(
        "ip ip text varchar(64)\nwho who text varchar(64)\ngone gone text varchar(64)\nrecord $ record varchar(999)\n\
         page page text varchar(9)",
    );
    let mut transform =
        protecting(&schema, "mask_ip = [\"ip\"]\npseudonym = [\"who\"]\ndrop = [\"gone\"]").unwrap();
    let record = br#"{"ip":"198.51.100.77","who":"jane-doe","gone":"secret","page":"kept"}"#;
    let explained = transform.explain(&schema, record).unwrap();
    let shown = |at: usize| {
        let one = &explained[at];
        (one.raw.as_deref(), one.protection.as_deref(), one.stored.as_deref())
    };
    assert_eq!(shown(0), (None, Some("mask_ip"), Some("198.51.100.0")));
    assert_eq!(shown(1), (None, Some("pseudonym"), Some(&*pseudonym("jane-doe"))));
    assert_eq!(shown(2), (None, Some("drop"), None));
    assert_eq!(shown(3).1, Some("mask_ip ip, pseudonym who, drop gone"));
    assert_eq!(shown(4), (Some("\"kept\""), None, Some("kept")));
    let text = format!("{explained:?}");
    assert!(!text.contains("100.77") && !text.contains("jane-doe") && !text.contains("secret"), "{text}");
}
