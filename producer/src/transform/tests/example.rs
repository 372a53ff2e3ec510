//! The record of Adobe's documentation, through the built-in schema.

use crate::transform::tests::cells;
use crate::transform::tests::totals;
use crate::transform::{HitId, Outcome, Transform};
use shared::schema::Schema;

const EXAMPLE: &[u8] = include_bytes!("example.json");

#[test]
fn the_documented_record_gives_the_expected_row() {
    let schema = Schema::default();
    let mut transform = Transform::new(&schema, &[]).unwrap();
    let mut row = Vec::new();
    let outcome = transform.record(EXAMPLE, &mut row);
    let hit = HitId { high: 2_948_027_281_753_079_808, low: 4_948_646_782_672_799_561 };
    assert_eq!(outcome, Outcome::Row { hit: Some(hit), received: Some(1_372_782_179) });

    let cells = cells(&row);
    assert_eq!(cells.len(), schema.columns.len());
    let named =
        schema.columns.iter().map(|column| column.name.as_str()).zip(cells.iter().map(String::as_str));
    let filled: Vec<_> = named.filter(|(_, cell)| !cell.is_empty()).collect();
    let expected = [
        ("reportsuite", "examplecomprod"),
        ("service", "ss"),
        ("timegmt", "2013-07-02 16:22:59"),
        ("receivedtimegmt", "2013-07-02 16:22:59"),
        ("hitidhigh", "2948027281753079808"),
        ("hitidlow", "4948646782672799561"),
        ("visidhigh", "1944017885723175213"),
        ("visidlow", "2512895455560210216"),
        ("visidtype", "3"),
        ("customvisid", "420520"),
        ("hitsource", "1"),
        ("exclude_id", "0"),
        ("exclude_value", "false"),
        ("exclude_description", "include"),
        ("truncated", "false"),
        ("bot", "<Not a bot>"),
        ("ip", "91.71.30.70"),
        (
            "useragent",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_8_5) AppleWebKit/537.36 (KHTML,like Gecko) \
             Chrome/29.0.1547.76 Safari/537.36",
        ),
        ("browser", "Google Chrome 32.0"),
        ("browsertype", "Google"),
        ("browserwidth", "820"),
        ("browserheight", "1350"),
        ("operatingsystem", "Macintosh"),
        ("language", "English"),
        ("languageabbrev", "en-US"),
        ("javaenabled", "true"),
        ("usespersistentcookie", "1"),
        ("monitorwidth", "1650"),
        ("monitorheight", "1080"),
        ("monitorcolordepth", "16 million colors"),
        ("connectiontype", "LAN/WiFi"),
        ("carrier", "AT&T"),
        ("geocity", "paris"),
        ("geocountry", "fra"),
        ("georegion", "j"),
        ("geozip", "75001"),
        ("geodma", "0"),
        ("domain", "sfr.net"),
        ("topleveldomain", ".net"),
        ("pagename", "Page #8552"),
        ("pageurl", "http://example.com/page8552.html"),
        ("referrer", "http://example.com/page139.html"),
        ("searchengine", "Google"),
        ("currency", "USD"),
        ("campaign", "DFA:172612:21725632:182361"),
        ("evar1", "Summer Shoe Promo"),
        ("event1", "1"),
    ];
    assert_eq!(filled.get(..expected.len()), Some(expected.as_slice()));
    // The rest are JSON texts and the list variable.
    let rest: Vec<_> = filled.into_iter().skip(expected.len()).collect();
    let names: Vec<_> = rest.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["products", "hierarchies", "mvvar1", "tnt", "tntaction"]);
    assert_eq!(rest[2].1, "event_category:summer sale,event_type:click,source_platform:iOS");
    let whole: serde_json::Value = serde_json::from_slice(EXAMPLE).unwrap();
    for (column, field) in [(0, "products"), (1, "hierarchies"), (3, "tnt"), (4, "tntAction")] {
        assert_eq!(serde_json::from_str::<serde_json::Value>(rest[column].1).unwrap(), whole[field]);
    }
    assert!(totals(&transform).is_zero());
}

#[test]
fn both_spellings_of_evars_and_coordinates_are_read() {
    let schema = Schema::default();
    let mut transform = Transform::new(&schema, &[]).unwrap();
    let mut row = Vec::new();
    let record = br#"{"evars":{"evars":{"eVar1":"a","evar2":"b","eVar3":"c","evar3":"no"}},"geoLatitude":"48.85","lon":2.3}"#;
    assert!(matches!(transform.record(record, &mut row), Outcome::Row { hit: None, received: None }));
    let cells = cells(&row);
    for (name, expected) in [("evar1", "a"), ("evar2", "b"), ("evar3", "c"), ("lat", "48.85"), ("lon", "2.3")]
    {
        assert_eq!(cells[schema.position(name).unwrap()], expected);
    }
}
