//! Whether a reject is of a person: by the value that its record has at the paths of the column. A record that is no JSON
//! (it was cut off, or is no UTF-8) is searched for the key as text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use shared::object_store::from_base64;
use state::log::RejectLine;

use crate::sought::Sought;

/// Lists within lists that are looked into.
const DEPTH: usize = 9;

/// Whether the reject on this line has one of the values. A line that is no reject has none.
pub(super) fn is_of(line: &[u8], sought: &Sought) -> bool {
    let Ok(reject) = serde_json::from_slice::<RejectLine>(line) else { return false };
    let record = match (reject.record, reject.record_base64) {
        (Some(record), _) => record.into_bytes(),
        (None, Some(base64)) => from_base64(&base64).unwrap_or_default(),
        // Nothing of it is kept.
        (None, None) => return false,
    };
    let json = std::str::from_utf8(&record).ok().filter(|text| is_json(text));
    sought.paths().iter().any(|path| match json {
        Some(json) => at(json, path.keys(), DEPTH, sought),
        None => path.keys().last().is_some_and(|key| has_beside(&record, key, sought)),
    })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether one of the values stands in `json` at the path of these keys, lists on the way included.
fn at(json: &str, keys: &[String], depth: usize, sought: &Sought) -> bool {
    let json = json.trim_ascii();
    if json.starts_with('[') {
        let elements = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
        return depth > 0 && elements.iter().any(|element| at(element.get(), keys, depth - 1, sought));
    }
    let Some((key, deeper)) = keys.split_first() else { return is_value(json, depth, sought) };
    under(json, key).iter().any(|value| at(value.get(), deeper, depth, sought))
}

fn is_value(json: &str, depth: usize, sought: &Sought) -> bool {
    if json.starts_with('"') {
        return serde_json::from_str::<String>(json).is_ok_and(|text| sought.is_stored_of(&text));
    }
    if json.starts_with('{') {
        // A list, with what stands between its values.
        return under(json, "values")
            .iter()
            .any(|values| depth > 0 && at(values.get(), &[], depth - 1, sought));
    }
    sought.is(json.as_bytes())
}

/// Everything that stands under this key of an object: a key may stand twice.
fn under<'j>(json: &'j str, key: &str) -> Vec<&'j RawValue> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Under(key).deserialize(&mut deserializer).unwrap_or_default()
}

struct Under<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Under<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Under<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            if key == self.0 {
                found.push(value);
            }
        }
        Ok(found)
    }
}

/// Whether one of the values stands behind this key, in what is no JSON.
fn has_beside(record: &[u8], key: &str, sought: &Sought) -> bool {
    let quoted = format!("\"{key}\"");
    memchr::memmem::find_iter(record, quoted.as_bytes()).any(|found| {
        let behind = record.get(found + quoted.len()..).unwrap_or_default().trim_ascii_start();
        let Some(value) = behind.strip_prefix(b":") else { return false };
        let value = value.trim_ascii_start();
        let Some(text) = value.strip_prefix(b"\"") else {
            let end = value.iter().position(|byte| b",}] \t\r\n".contains(byte));
            return sought.is(value.get(..end.unwrap_or(value.len())).unwrap_or_default());
        };
        let mut escaped = false;
        let end = text.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let meant = serde_json::from_slice::<String>(&[b"\"", text, b"\""].concat());
        meant.map_or_else(|_| sought.is(text), |meant| sought.is_stored_of(&meant))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::object_store::base64;
    use shared::schema::{Column, JsonPath, Kind, SqlType};

    use super::*;

    fn is_jane(record: &serde_json::Value) -> bool {
        let paths = vec![JsonPath::of(["mcVisId"]), JsonPath::of(["evars", "evars", "eVar9"])];
        let column = Column::new("evar9", paths, Kind::Text, SqlType::Varchar(64));
        let sought = Sought::new(&column, ["ja\"ne".to_owned(), "12".to_owned()]).unwrap();
        let mut line = json!({"at": "2026-03-02T14:00:00Z", "instance": "web-1", "reason": "r"});
        line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        is_of(line.to_string().as_bytes(), &sought)
    }

    #[test]
    fn a_record_is_of_whoever_its_paths_name() {
        for record in [
            r#"{"mcVisId":"ja\"ne"}"#,
            r#"{"mcVisId":12,"x":1}"#,
            r#"{"evars":{"evars":{"eVar9":"ja\u0022ne"}}}"#,
            r#"{"mcVisId":"x","mcVisId":"ja\"ne "}"#,
            r#"{"mcVisId":["x","12"]}"#,
            r#"{"mcVisId":"ja\u0000\"ne"}"#,
            r#"{"mcVisId":{"values":["12"],"delim":","}}"#,
            r#"{"evars":[{"evars":{"eVar9":"12"}}]}"#,
        ] {
            assert!(is_jane(&json!({"record": record})), "{record}");
            assert!(is_jane(&json!({"record_base64": base64(record.as_bytes())})), "{record}");
        }
        for record in [
            r#"{"mcVisId":"jane"}"#,
            r#"{"x":"12","y":{"mcVisId":"12"}}"#,
            r#"{"mcVisId":123}"#,
            r#"{"mcVisId":{"12":"12"}}"#,
            r#"{"evars":{"eVar9":"12"}}"#,
            r#""mcVisId""#,
        ] {
            assert!(!is_jane(&json!({"record": record})), "{record}");
        }
    }

    #[test]
    fn what_is_no_json_is_searched_for_the_key() {
        for record in [
            "{\"mcVisId\": \"ja\\\"ne\", \"x\":",
            "{\"mcVisId\":12,\"x",
            "{\"mcVisId\":\"1\\u00002\",\"x",
            "{\"eVar9\":\"12\",\"cut off",
            "{\"eVar9\" : 12",
        ] {
            assert!(is_jane(&json!({"record": record})), "{record}");
        }
        for record in ["{\"mcVisId\":\"123\",", "{\"mcVisId\":120", "{\"x\":\"12\"", "12", "\"mcVisId\"", ""]
        {
            assert!(!is_jane(&json!({"record": record})), "{record}");
        }
        let no_utf8 = [&b"{\"x\":\"\xff\",\"mcVisId\":\"12\"}"[..], b"\xff12"].map(base64);
        assert!(is_jane(&json!({"record_base64": no_utf8[0]})));
        assert!(!is_jane(&json!({"record_base64": no_utf8[1]})));
    }

    #[test]
    fn a_reject_without_its_record_is_of_nobody() {
        assert!(!is_jane(&json!({"bytes": 12, "hash": "12"})));
        assert!(is_jane(&json!({"record": "{\"mcVisId\":12}", "protected": {"key": "0"}})));
        let sought = crate::sought::tests::sought(&["12"]);
        assert!(!is_of(b"{\"mcVisId\":12}", &sought), "a line of others");
    }
}
