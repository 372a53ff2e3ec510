//! The built-in schema: every documented field of a Livestream record, in the order of Adobe's reference.

use crate::schema::path::JsonPath;
use crate::schema::sql_type::SqlType;
use crate::schema::table::{Column, Schema};
use crate::schema::words::{Kind, Rule};
use std::ops::RangeInclusive;

pub(crate) const EVENTS: RangeInclusive<u16> = 1..=1000;

const EVARS: RangeInclusive<u16> = 1..=250;
const PROPS: RangeInclusive<u16> = 1..=75;
const HIERARCHIES: RangeInclusive<u16> = 1..=5;
const LIST_VARIABLES: RangeInclusive<u16> = 1..=3;

const fn varchar(bytes: u32) -> SqlType {
    SqlType::Varchar(bytes)
}
const ID: SqlType = SqlType::Decimal { precision: 20, scale: 0 };
const DEGREES: SqlType = SqlType::Decimal { precision: 9, scale: 6 };
const AMOUNT: SqlType = SqlType::Decimal { precision: 18, scale: 2 };
const LONG: SqlType = varchar(65535);

/// Adobe's field, its path where that differs, other spellings seen, kind, type.
type Field = (&'static str, &'static [&'static str], Kind, SqlType);

#[rustfmt::skip]
const FIELDS: &[Field] = &[
    ("reportSuite", &[], Kind::Text, varchar(255)),
    ("service", &[], Kind::Text, varchar(16)),
    ("timeGMT", &[], Kind::Timestamp, SqlType::Timestamp),
    ("receivedTimeGMT", &[], Kind::Timestamp, SqlType::Timestamp),
    ("hitIdHigh", &[], Kind::Unsigned, ID),
    ("hitIdLow", &[], Kind::Unsigned, ID),
    ("visIdHigh", &[], Kind::Unsigned, ID),
    ("visIdLow", &[], Kind::Unsigned, ID),
    ("visIdType", &[], Kind::Integer, SqlType::Smallint),
    ("mcVisIdHigh", &[], Kind::Unsigned, ID),
    ("mcVisIdLow", &[], Kind::Unsigned, ID),
    ("customVisId", &[], Kind::Text, varchar(255)),
    ("sessionId", &[], Kind::Integer, SqlType::Bigint),
    ("hitSource", &[], Kind::Integer, SqlType::Smallint),
    ("exclude.id", &[], Kind::Integer, SqlType::Smallint),
    ("exclude.value", &[], Kind::Boolean, SqlType::Boolean),
    ("exclude.description", &[], Kind::Text, varchar(255)),
    ("truncated", &[], Kind::Boolean, SqlType::Boolean),
    ("bot", &[], Kind::Text, varchar(255)),
    ("ip", &[], Kind::Text, varchar(64)),
    ("userAgent", &[], Kind::Text, varchar(1024)),
    ("browser", &[], Kind::Text, varchar(255)),
    ("browserType", &[], Kind::Text, varchar(64)),
    ("browserWidth", &[], Kind::Integer, SqlType::Integer),
    ("browserHeight", &[], Kind::Integer, SqlType::Integer),
    ("operatingSystem", &[], Kind::Text, varchar(255)),
    ("language", &[], Kind::Text, varchar(64)),
    ("languageAbbrev", &[], Kind::Text, varchar(32)),
    ("javaEnabled", &[], Kind::Boolean, SqlType::Boolean),
    ("javascriptVersion", &[], Kind::Text, varchar(16)),
    ("usesPersistentCookie", &[], Kind::Integer, SqlType::Smallint),
    ("homePage", &[], Kind::Integer, SqlType::Smallint),
    ("monitorWidth", &[], Kind::Integer, SqlType::Integer),
    ("monitorHeight", &[], Kind::Integer, SqlType::Integer),
    ("monitorColorDepth", &[], Kind::Text, varchar(64)),
    ("connectionType", &[], Kind::Text, varchar(64)),
    ("carrier", &[], Kind::Text, varchar(255)),
    ("mobileDeviceName", &[], Kind::Text, varchar(255)),
    ("mobileDeviceType", &[], Kind::Text, varchar(64)),
    ("mobileManufacturer", &[], Kind::Text, varchar(255)),
    ("mobileScreenWidth", &[], Kind::Integer, SqlType::Integer),
    ("mobileScreenHeight", &[], Kind::Integer, SqlType::Integer),
    ("mobileColorDepth", &[], Kind::Text, varchar(64)),
    ("mobileCookieSupport", &[], Kind::Boolean, SqlType::Boolean),
    ("mobileAudioSupport", &[], Kind::Text, varchar(255)),
    ("mobileVideoSupport", &[], Kind::Text, varchar(255)),
    ("geoCity", &[], Kind::Text, varchar(255)),
    ("geoCountry", &[], Kind::Text, varchar(64)),
    ("geoRegion", &[], Kind::Text, varchar(255)),
    ("geoZip", &[], Kind::Text, varchar(32)),
    ("geoDMA", &[], Kind::Integer, SqlType::Integer),
    ("lat", &["lat", "geoLatitude"], Kind::Decimal, DEGREES),
    ("lon", &["lon", "geoLongitude"], Kind::Decimal, DEGREES),
    ("domain", &[], Kind::Text, varchar(255)),
    ("topLevelDomain", &[], Kind::Text, varchar(255)),
    ("pageName", &[], Kind::Text, varchar(255)),
    ("pageURL", &[], Kind::Text, varchar(4096)),
    ("isErrorPage", &[], Kind::Boolean, SqlType::Boolean),
    ("referrer", &[], Kind::Text, varchar(4096)),
    ("searchEngine", &[], Kind::Text, varchar(255)),
    ("currency", &[], Kind::Text, varchar(8)),
    ("purchaseId", &[], Kind::Text, varchar(64)),
    ("transactionId", &[], Kind::Text, varchar(255)),
    ("state", &[], Kind::Text, varchar(64)),
    ("zip", &[], Kind::Text, varchar(32)),
    ("plugins", &[], Kind::Text, varchar(1024)),
    ("campaign", &["evars.evars.campaign"], Kind::Text, varchar(255)),
];

const NAMED_EVENTS: [&str; 7] =
    ["revenue", "productViews", "carts", "checkouts", "cartAdditions", "cartRemovals", "cartViews"];

impl Schema {
    /// Every documented field, with the custom events of this range; numbers Adobe does not have are left out.
    pub fn built_in(events: RangeInclusive<u16>) -> Self {
        let mut columns = Vec::with_capacity(1500);
        let mut add = |name: &str, paths: Vec<JsonPath>, kind, sql_type| {
            columns.push(Column::new(name.to_lowercase().replace('.', "_"), paths, kind, sql_type));
        };
        for &(field, paths, kind, sql_type) in FIELDS {
            let paths = if paths.is_empty() { &[field] } else { paths };
            add(field, paths.iter().map(|path| dotted(path)).collect(), kind, sql_type);
        }
        for n in EVARS {
            let paths = ["eVar", "evar"].map(|key| JsonPath::of(["evars", "evars", &format!("{key}{n}")]));
            add(&format!("evar{n}"), paths.into(), Kind::Text, varchar(255));
        }
        add(
            "site_section",
            vec![dotted("props.site_section"), dotted("props.channel")],
            Kind::Text,
            varchar(100),
        );
        for n in PROPS {
            // A list prop comes as `{values, delim}`, any other as a string: the same kind takes both.
            add(&format!("prop{n}"), vec![dotted(&format!("props.prop{n}"))], Kind::List, varchar(100));
        }
        for n in (*events.start()).max(*EVENTS.start())..=(*events.end()).min(*EVENTS.end()) {
            add(&format!("event{n}"), vec![dotted(&format!("events.event{n}"))], Kind::EventValue, AMOUNT);
        }
        for name in NAMED_EVENTS {
            add(name, vec![dotted(&format!("events.{name}"))], Kind::EventValue, AMOUNT);
        }
        add("products", vec![dotted("products")], Kind::Json, LONG);
        for n in HIERARCHIES {
            add(&format!("hier{n}"), vec![dotted(&format!("hierarchies.hier{n}"))], Kind::List, varchar(255));
        }
        // Report suites name their hierarchies freely; those would have no column of their own.
        add("hierarchies", vec![dotted("hierarchies")], Kind::Json, LONG);
        for n in LIST_VARIABLES {
            add(&format!("mvvar{n}"), vec![dotted(&format!("mvvars.{n}.m"))], Kind::List, LONG);
        }
        add("mcAudiences", vec![dotted("mcAudiences")], Kind::List, LONG);
        add("tnt", vec![dotted("tnt")], Kind::Json, LONG);
        add("tntAction", vec![dotted("tntAction")], Kind::Json, LONG);
        for column in &mut columns {
            // Six digits are a tenth of a metre: what a converter of addresses writes beyond them says nothing.
            if column.sql_type == DEGREES {
                column.rule = Rule::Cut;
            }
        }
        Self { columns }
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::built_in(EVENTS)
    }
}

fn dotted(path: &str) -> JsonPath {
    JsonPath::of(path.split('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_schema_keeps_every_rule() {
        let no_events = Schema::built_in(EVENTS.end() + 1..=u16::MAX);
        for schema in [Schema::default(), no_events, Schema::built_in(0..=u16::MAX)] {
            schema.validate("built-in").unwrap();
        }
        assert_eq!(Schema::built_in(0..=u16::MAX), Schema::default());
        assert_eq!(Schema::default().columns.len(), 67 + 250 + 1 + 75 + 1000 + 7 + 1 + 5 + 1 + 3 + 3);
    }

    #[test]
    fn every_documented_field_has_its_column_in_adobes_order() {
        let schema = Schema::built_in(1..=3);
        let expected = "reportsuite timegmt receivedtimegmt hitidhigh hitidlow visidhigh mcvisidlow exclude_id \
                        exclude_value exclude_description truncated lat lon pageurl campaign evar1 evar250 \
                        site_section prop1 prop75 event1 event3 revenue cartviews products hier1 hier5 hierarchies \
                        mvvar1 mvvar3 mcaudiences tnt tntaction";
        let positions: Vec<_> = expected
            .split_whitespace()
            .map(|name| schema.position(name).unwrap_or_else(|| panic!("{name}")))
            .collect();
        assert!(positions.is_sorted());
        assert_eq!(schema.position("event4"), None);
    }

    #[test]
    fn both_spellings_of_a_field_lead_to_its_column() {
        let schema = Schema::default();
        let paths = |name: &str| {
            let column = &schema.columns[schema.position(name).unwrap()];
            column.paths.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(paths("evar7"), ["evars.evars.eVar7", "evars.evars.evar7"]);
        assert_eq!(paths("lat"), ["lat", "geoLatitude"]);
        assert_eq!(paths("exclude_id"), ["exclude.id"]);
        assert_eq!(paths("mvvar2"), ["mvvars.2.m"]);
    }
}
