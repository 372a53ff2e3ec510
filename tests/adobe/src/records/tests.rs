use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use serde_json::{Map, Value as Json};

use super::*;

fn generator(hits: u64) -> Generator {
    let plan = Plan {
        seed: 42,
        hits,
        duplicates_per_mille: 50,
        excluded_per_mille: 30,
        malformed_per_mille: 40,
        ..Plan::default()
    };
    Generator::new(plan)
}

fn hit(of: &Generator, index: u64) -> Map<String, Json> {
    let mut line = Vec::new();
    of.write_hit(index, &mut line);
    match serde_json::from_slice(&line) {
        Ok(Json::Object(record)) => record,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&line)),
    }
}

fn as_text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn every_hit_is_one_line_of_json_with_the_id_the_oracle_states() {
    let of = generator(20_000);
    let mut line = Vec::new();
    for index in 0..20_000 {
        line.clear();
        of.write_hit(index, &mut line);
        assert!(line.ends_with(b"}\r\n"));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n' || **byte == b'\r').count(), 2);
        let record = hit(&of, index);
        let (high, low) = of.hit_id(index);
        assert_eq!(as_text(&record["hitIdHigh"]), high.to_string());
        assert_eq!(as_text(&record["hitIdLow"]), low.to_string());
        let excluded = record.get("exclude").is_some_and(|exclude| exclude["value"] == "yes");
        assert_eq!(excluded, of.kind(index) == Kind::Excluded);
    }
}

#[test]
fn no_key_occurs_twice_in_a_record() {
    // serde_json would keep the last one in silence, and what a product does with two is its own business.
    struct Keys;
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some((key, _)) = map.next_entry::<String, Json>()? {
                assert!(seen.insert(key.clone()), "{key} twice");
            }
            Ok(())
        }
    }
    let of = generator(2_000);
    for index in 0..2_000 {
        let mut line = Vec::new();
        of.write_hit(index, &mut line);
        let mut reader = serde_json::Deserializer::from_slice(&line);
        serde::Deserializer::deserialize_map(&mut reader, Keys).unwrap();
    }
}

#[test]
fn ids_are_unique_over_a_million_indexes_and_often_too_large_for_signed_integers() {
    let of = generator(1_000_000);
    let mut lows = HashSet::with_capacity(1_000_000);
    let (mut high_large, mut low_large) = (0, 0);
    for index in 0..1_000_000 {
        let (high, low) = of.hit_id(index);
        assert!(lows.insert(low), "the low half alone tells hits apart");
        high_large += high >> 63;
        low_large += low >> 63;
    }
    for large in [high_large, low_large] {
        assert!((490_000..510_000).contains(&large), "{large}");
    }
}

#[test]
fn the_oracle_and_the_json_agree() {
    let of = generator(5_000);
    let mut seen_null = BTreeSet::new();
    for index in 0..5_000 {
        let record = hit(&of, index);
        let evars = &record["evars"]["evars"];
        for (column, expected) in of.expected(index) {
            let found = match column {
                "hitidhigh" => record.get("hitIdHigh"),
                "hitidlow" => record.get("hitIdLow"),
                "pagename" => record.get("pageName"),
                "browserwidth" => record.get("browserWidth"),
                "timegmt" => record.get("timeGMT"),
                "receivedtimegmt" => record.get("receivedTimeGMT"),
                "event1" => record["events"].get("event1"),
                evar => evars.get(evar).or_else(|| evars.get(evar.replace("evar", "eVar"))),
            };
            let found = found.filter(|value| !value.is_null()).map(|value| match column {
                "timegmt" | "receivedtimegmt" => {
                    let at = chrono::DateTime::from_timestamp(as_text(value).parse().unwrap(), 0).unwrap();
                    at.naive_utc().to_string()
                }
                "event1" => {
                    let hundredths: i128 = value
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|entry| {
                            let shift = entry["exponent"].as_i64().unwrap() + 3;
                            i128::from(entry["count"].as_i64().unwrap())
                                * 10_i128.pow(u32::try_from(shift).unwrap())
                        })
                        .sum::<i128>()
                        / 10;
                    let sign = if hundredths < 0 { "-" } else { "" };
                    format!("{sign}{}.{:02}", (hundredths / 100).abs(), (hundredths % 100).abs())
                }
                _ => {
                    let text: String = as_text(value).chars().filter(|c| *c != '\0').collect();
                    text[..text.floor_char_boundary(255)].to_owned()
                }
            });
            assert_eq!(found.filter(|text| !text.is_empty()), expected, "{column} of {index}");
            if expected.is_none() {
                seen_null.insert(column);
            }
        }
    }
    assert_eq!(seen_null, BTreeSet::from(["browserwidth", "evar1", "evar2", "evar3", "event1", "pagename"]));
}

#[test]
fn every_field_kind_occurs_over_a_run() {
    let of = generator(20_000);
    let (mut keys, mut evars, mut props, mut events) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for index in 0..20_000 {
        let record = hit(&of, index);
        let names = |value: &Json| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        evars.extend(names(&record["evars"]["evars"]));
        props.extend(names(&record["props"]));
        events.extend(names(&record["events"]));
        keys.extend(record.into_iter().map(|(key, _)| key));
    }
    for key in [
        "reportSuite",
        "service",
        "mcVisIdHigh",
        "customVisId",
        "sessionId",
        "truncated",
        "bot",
        "ip",
        "userAgent",
        "javaEnabled",
        "javascriptVersion",
        "homePage",
        "plugins",
        "carrier",
        "mobileDeviceName",
        "mobileColorDepth",
        "mobileAudioSupport",
        "geoDMA",
        "lat",
        "lon",
        "geoLatitude",
        "geoLongitude",
        "isErrorPage",
        "currency",
        "purchaseId",
        "transactionId",
        "state",
        "zip",
        "products",
        "hierarchies",
        "mvvars",
        "mcAudiences",
        "tnt",
        "tntAction",
        "fieldOfTheFuture7",
        "clé~\"\n",
    ] {
        assert!(keys.contains(key), "{key}");
    }
    for evar in ["campaign", "evar1", "eVar1", "evar100", "eVar250"] {
        assert!(evars.contains(evar), "{evar}");
    }
    for prop in ["site_section", "channel", "prop1", "prop75"] {
        assert!(props.contains(prop), "{prop}");
    }
    for event in ["event1", "event500", "revenue", "productViews", "cartViews"] {
        assert!(events.contains(event), "{event}");
    }
    let highest = events.iter().filter_map(|name| name.strip_prefix("event")?.parse::<u64>().ok()).max();
    assert!((900..=1_000).contains(&highest.unwrap()), "{highest:?}");
}

#[test]
fn malformed_lines_differ_and_none_is_a_json_object_or_the_line_that_means_refusal() {
    let of = generator(3_000);
    let mut lines = HashSet::new();
    for index in 0..3_000 {
        let mut line = Vec::new();
        of.write_malformed(index, &mut line);
        let content = line.strip_suffix(b"\r\n").unwrap().to_vec();
        assert!(!content.is_empty() && !content.contains(&b'\n'));
        assert_ne!(content, b"not authorized");
        assert!(!matches!(serde_json::from_slice(&content), Ok(Json::Object(_))));
        assert!(lines.insert(content));
    }
}

#[test]
fn the_lines_of_an_index_are_those_the_judge_counts() {
    let of = generator(5_000);
    let mut text = Vec::new();
    for index in 0..5_000 {
        of.write(index, &mut text);
    }
    let counts = of.counts(0..5_000);
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count() as u64, counts.lines());
    assert_eq!(counts.hits + counts.excluded, 5_000);
    let (mut distinct, mut again) = (HashSet::new(), 0);
    for line in text.split(|byte| *byte == b'\n') {
        if let Ok(Json::Object(record)) = serde_json::from_slice(line) {
            let id = (as_text(&record["hitIdHigh"]), as_text(&record["hitIdLow"]));
            again += u64::from(!distinct.insert(id));
        }
    }
    assert_eq!((distinct.len() as u64, again), (5_000, counts.duplicates + counts.excluded_duplicates));
    for (count, share) in [(counts.excluded, 150), (again, 250), (counts.malformed, 200), (counts.empty, 50)]
    {
        assert!((share / 2..share * 2).contains(&count), "{count} of about {share}");
    }
}

#[test]
fn the_same_plan_gives_the_same_stream_and_another_seed_another() {
    let lines = |seed| {
        let of = Generator::new(Plan { seed, ..Plan::default() });
        let mut text = Vec::new();
        (0..100).for_each(|index| of.write(index, &mut text));
        text
    };
    assert_eq!(lines(1), lines(1));
    assert_ne!(lines(1), lines(2));
}

#[test]
fn records_are_of_a_realistic_size_and_written_fast() {
    let of = generator(200_000);
    let started = Instant::now();
    let (mut text, mut bytes) = (Vec::new(), 0);
    for index in 0..200_000 {
        text.clear();
        of.write_hit(index, &mut text);
        bytes += text.len();
    }
    let rate = 200_000.0 / started.elapsed().as_secs_f64();
    println!("{rate:.0} records/s, {} bytes each", bytes / 200_000);
    assert!((2_600..3_500).contains(&(bytes / 200_000)), "{} bytes", bytes / 200_000);
}

#[test]
fn gzip_finds_about_as_much_in_it_as_in_real_traffic() {
    use std::io::Write as _;
    let of = generator(50_000);
    let mut text = Vec::new();
    (0..50_000).for_each(|index| of.write(index, &mut text));
    let started = Instant::now();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let packed = gzip.finish().unwrap();
    let ratio = text.len() as f64 / packed.len() as f64;
    let speed = text.len() as f64 / 1e6 / started.elapsed().as_secs_f64();
    println!("gzip ratio {ratio:.2} at {speed:.0} MB/s");
    assert!((2.5..8.0).contains(&ratio), "{ratio:.2}");
}

#[test]
fn late_hits_are_those_of_the_plan_and_late_by_what_it_says() {
    let plan = Plan {
        seed: 42,
        hits: 10_000,
        hits_per_second: 2,
        step_seconds: 3,
        late_per_mille: 50,
        late_between: (600, 12_600),
        ..Plan::default()
    };
    let of = Generator::new(plan);
    let late = (0..plan.hits).filter(|index| of.is_late(*index)).count();
    assert!((400..600).contains(&late), "{late}");
    let mut longest = 0;
    for index in 0..plan.hits {
        let behind = plan.start_epoch + i64::try_from(index / 2 * 3).unwrap() - of.received_at(index);
        match of.is_late(index) {
            true => assert!((600..=12_600).contains(&behind), "{behind}"),
            false => assert_eq!(behind, 0),
        }
        longest = longest.max(behind);
    }
    assert!(longest > 10_000, "{longest}");
    assert_eq!(plan.hits_in(30), 20);
    assert!((0..plan.hits).all(|index| !Generator::new(Plan { late_per_mille: 0, ..plan }).is_late(index)));
}

#[test]
fn since_the_release_evars_are_cut_some_agents_are_gone_and_nothing_else_is_other() {
    let (from, hits) = (5_000, 10_000);
    let before = generator(hits);
    let since = Generator::new(Plan { release_from: Some(from), ..*before.plan() });
    let (mut cut, mut gone) = (0, 0);
    for index in 0..hits {
        let (old, mut new) = (hit(&before, index), hit(&since, index));
        if index < from {
            assert_eq!(old, new);
            continue;
        }
        let evars = |record: &Map<String, Json>| record["evars"]["evars"].as_object().unwrap().clone();
        let whole = evars(&old);
        for (name, value) in evars(&new) {
            let (Some(text), Some(long)) = (value.as_str(), whole[&name].as_str()) else { continue };
            assert!(text.len() <= 255 && long.starts_with(text), "{name}");
            cut += u64::from(text.len() < long.len());
        }
        if new["userAgent"] == "" {
            assert!(since.lacks_agent(index));
            gone += 1;
        }
        for key in ["evars", "userAgent", "products"] {
            new.insert(key.to_owned(), old.get(key).cloned().unwrap_or_default());
        }
        assert!(old.iter().all(|(key, value)| new[key] == *value));
        assert_eq!(before.expected(index), since.expected(index), "what fits the column is the same");
    }
    assert!(cut > 500 && (1_000..1_500).contains(&gone), "{cut} cut, {gone} gone");
}
