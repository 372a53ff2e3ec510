//! The fields that records bring, those of columns and those that are in none, and which are new.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use shared::schema::JsonPath;
use state::status::drift::{DriftKind, SeenField};

use crate::drift::judge::{Rate, is_new};
use crate::drift::values::{Values, form, form_of};
use crate::transform::{Columns, JsonType, Scalar, Sighting, hash};

/// Fields beside those of the columns.
pub(super) const BESIDE: usize = 512;
/// The longest path, in bytes.
const PATH: usize = 256;
/// A field of more different values is no list of few.
const FEW: usize = 32;
/// Longer values are none of a few.
const SHORT: usize = 64;
/// So are those of more digits: a date is another one every day.
const FEW_DIGITS: usize = 4;
/// After fewer looks, or fewer values of a field, nothing is new.
const LEARNED: u64 = 192;
/// A field that nobody met in so many looks comes anew.
const GONE: u64 = 5_000;
/// The values of a field are learned for so long: others come on other days.
const WEEK: TimeDelta = TimeDelta::days(7);
/// When there is no room, so many fields of a record take the place of others.
const PLACES: u32 = 8;
/// Such a field may have been there before. It is new if it is in one look of so many, since such a one keeps its place.
const OFTEN: u64 = 4;
/// A key with more digits may be a number of somebody.
const KEY_DIGITS: usize = 6;
const KEY_BYTES: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Field {
    /// As it may be shown. None of one that took the place of another and was not met again: most of those go as they came.
    path: Option<String>,
    is_plain: bool,
    records: u64,
    /// Looks before the first that met it, since it was gone.
    before: u64,
    /// How often it was met since, and the look that met it last.
    times: u64,
    last: u64,
    /// It took the place of another field.
    took_place: bool,
    first_seen: DateTime<Utc>,
    is_protected: bool,
    was_told: bool,
    values: Values,
    few: Option<Vec<One>>,
    /// Under the schema of now.
    #[serde(skip)]
    target: Option<usize>,
}

/// One of few different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct One {
    /// Of the value, which is not kept.
    hash: u32,
    times: u64,
    /// Values of the field before the first of this.
    before: u64,
    /// Or it came while the values were learned.
    was_told: bool,
}

/// Something that came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Came {
    pub(super) kind: DriftKind,
    pub(super) field: String,
    pub(super) now: Rate,
    pub(super) example: Option<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fields {
    by_place: FxHashMap<u64, Field>,
    pub(super) looks: u64,
    pub(super) not_remembered: u64,
    /// How many are in no column.
    #[serde(skip)]
    beside: usize,
    /// How many fields of this record may still take the place of others.
    #[serde(skip)]
    places: u32,
    /// Those that give way in this record, the one that was met least at the end; none until the first must.
    #[serde(skip)]
    least: Vec<Rank>,
    #[serde(skip)]
    scratch: Vec<u8>,
}

/// Records, looks before the first, and the number of the place: less is met less, or longer there.
type Rank = (u64, u64, u64);

impl Fields {
    /// The schema is another one, or the process.
    pub(super) fn begin(&mut self, columns: &Columns) {
        let protected: Vec<_> = columns
            .protected
            .iter()
            .map(|of| path(&of.keys().iter().map(String::as_str).collect::<Vec<_>>()).0)
            .collect();
        let targets = columns.targets.iter().enumerate().rev();
        let targets: HashMap<&str, usize> =
            targets.map(|(target, (_, path))| (path.as_str(), target)).collect();
        for field in self.by_place.values_mut() {
            let Some(own) = &field.path else { continue };
            field.target = targets.get(own.as_str()).copied();
            if protected.iter().any(|path| is_within(own, path)) {
                field.protect();
            }
        }
        // A field that lost its column must find room among those without one.
        let beside = self.by_place.iter().filter(|(_, field)| field.target.is_none());
        let mut oldest: Vec<_> = beside.map(|(place, field)| (field.before, *place)).collect();
        oldest.sort_unstable();
        for (_, place) in oldest.iter().skip(BESIDE) {
            self.by_place.remove(place);
        }
        self.beside = oldest.len().min(BESIDE);
    }

    /// Takes one field of the record that is looked at.
    pub(super) fn see(
        &mut self,
        sighting: &Sighting<'_>,
        columns: &Columns,
        now: DateTime<Utc>,
        came: &mut Vec<Came>,
    ) {
        let Some(field) = self.by_place.get_mut(&sighting.id) else {
            if self.admit(sighting, columns, now) {
                self.see(sighting, columns, now, came);
            }
            return;
        };
        let looks = self.looks;
        if field.target.is_none() && sighting.target.is_some() {
            // It was met before, under another schema or by another process.
            self.beside = self.beside.saturating_sub(1);
            field.target = sighting.target;
            if let Some((_, path)) = sighting.target.and_then(|target| columns.targets.get(target)) {
                (field.path, field.is_plain) = (Some(path.clone()), true);
            }
        }
        field.records += 1;
        if field.path.is_none() && field.records > 1 {
            let (path, is_plain) = path(sighting.keys);
            (field.path, field.is_plain) = (Some(path), is_plain);
        }
        if field.target.is_none() && !field.was_told {
            if looks.saturating_sub(field.last) > GONE {
                (field.before, field.times) = (looks, 0);
            }
            (field.times, field.last) = (field.times + 1, looks);
            let since = (looks + 1).saturating_sub(field.before);
            let is_often = !field.took_place || field.times.saturating_mul(OFTEN) >= since;
            if field.before >= LEARNED && is_often && is_new(field.before, field.times, since) {
                field.was_told = true;
                let now = Rate { met: field.times as f64, of: since as f64 };
                let example = if field.is_protected {
                    None
                } else {
                    Some(form(&Scalar::of(sighting.raw, &mut self.scratch)))
                };
                let field = field.path.clone().unwrap_or_default();
                came.push(Came { kind: DriftKind::NewField, field, now, example });
            }
        }
        if field.is_protected || sighting.is_protected {
            field.protect();
            return;
        }
        if field.path.is_none() {
            return;
        }
        let value = Scalar::of(sighting.raw, &mut self.scratch);
        field.values.add(&value);
        if let Some(one) = field.new_value(&value, now) {
            let name = field.target.and_then(|target| columns.column(target)).or(field.path.as_deref());
            came.push(Came {
                kind: DriftKind::NewValue,
                field: name.unwrap_or_default().to_owned(),
                now: one,
                example: Some(form(&value)),
            });
        }
    }

    /// One more record was looked at.
    pub(super) fn looked(&mut self) {
        self.looks += 1;
        self.places = PLACES;
        self.least.clear();
    }

    /// Finds room for a field that was not met before, or was forgotten. False if there is none.
    fn admit(&mut self, sighting: &Sighting<'_>, columns: &Columns, now: DateTime<Utc>) -> bool {
        let is_full = sighting.target.is_none() && self.beside >= BESIDE;
        if is_full {
            self.not_remembered += 1;
            if !self.make_room() {
                return false;
            }
        }
        self.beside += usize::from(sighting.target.is_none());
        self.by_place.insert(sighting.id, Field::new(sighting, columns, self.looks, is_full, now));
        true
    }

    /// Forgets the field that was met least, of those that are in no column and were not told, and of these the oldest.
    fn make_room(&mut self) -> bool {
        if self.places == PLACES {
            self.find_least();
        }
        let Some(places) = self.places.checked_sub(1) else { return false };
        self.places = places;
        while let Some((records, _, place)) = self.least.pop() {
            // Unless this record has it too.
            if self.by_place.get(&place).is_some_and(|field| field.records == records) {
                self.by_place.remove(&place);
                self.beside = self.beside.saturating_sub(1);
                return true;
            }
        }
        false
    }

    /// The fields that may give way in one record, in one go: a search for each costs more than all else.
    fn find_least(&mut self) {
        let untold = self.by_place.iter().filter(|(_, field)| field.target.is_none() && !field.was_told);
        self.least.clear();
        self.least.extend(untold.map(|(place, field)| (field.records, field.before, *place)));
        let count = 2 * PLACES as usize;
        if self.least.len() > count {
            self.least.select_nth_unstable(count);
            self.least.truncate(count);
        }
        self.least.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// How many fields are in no column.
    pub(super) fn beside(&self) -> u64 {
        self.beside as u64
    }

    /// All fields: those of columns in the order of these, then the others by their path.
    pub(super) fn seen(&self, columns: Option<&Columns>) -> Vec<SeenField> {
        let mut fields = BTreeMap::new();
        for (place, field) in &self.by_place {
            let Some(path) = &field.path else { continue };
            let column = field.target.and_then(|target| columns?.column(target));
            let key = (field.target.unwrap_or(usize::MAX), path, place);
            fields.insert(key, field.seen(path, column));
        }
        fields.into_values().collect()
    }
}

impl Field {
    fn new(
        sighting: &Sighting<'_>,
        columns: &Columns,
        looks: u64,
        took_place: bool,
        now: DateTime<Utc>,
    ) -> Self {
        let of_column = sighting.target.and_then(|target| columns.targets.get(target));
        let (path, is_plain) = match of_column {
            Some((_, path)) => (Some(path.clone()), true),
            None if took_place => (None, false),
            None => {
                let (path, is_plain) = path(sighting.keys);
                (Some(path), is_plain)
            }
        };
        Self {
            path,
            is_plain,
            records: 0,
            before: looks,
            times: 0,
            last: looks,
            took_place,
            first_seen: now,
            is_protected: sighting.is_protected,
            was_told: false,
            values: Values::default(),
            few: Some(Vec::new()),
            target: sighting.target,
        }
    }

    /// From now on nothing of it is known but that it is there.
    fn protect(&mut self) {
        (self.is_protected, self.values, self.few) = (true, Values::default(), None);
    }

    /// Whether a field of few values has another one now, and how often.
    fn new_value(&mut self, value: &Scalar<'_>, now: DateTime<Utc>) -> Option<Rate> {
        let few = self.few.as_mut()?;
        if value.is_empty {
            return None;
        }
        let is_one = !matches!(value.json_type, JsonType::Array | JsonType::Object);
        let digits = || value.text.iter().filter(|byte| byte.is_ascii_digit()).count();
        if !is_one || value.text.len() > SHORT || digits() > FEW_DIGITS {
            self.few = None;
            return None;
        }
        let (hash, seen) = (hash(value.text), self.records);
        let Some(one) = few.iter_mut().find(|one| one.hash == hash) else {
            if few.len() < FEW {
                let was_told = now < self.first_seen + WEEK;
                few.push(One { hash, times: 1, before: seen - 1, was_told });
            } else {
                self.few = None;
            }
            return None;
        };
        one.times += 1;
        let since = seen.saturating_sub(one.before);
        if one.was_told || one.before < LEARNED || !is_new(one.before, one.times, since) {
            return None;
        }
        one.was_told = true;
        Some(Rate { met: one.times as f64, of: since as f64 })
    }

    fn seen(&self, path: &str, column: Option<&str>) -> SeenField {
        SeenField {
            path: path.to_owned(),
            is_plain: self.is_plain,
            column: column.map(str::to_owned),
            records: self.records,
            first_seen: self.first_seen,
            is_protected: self.is_protected,
            values: self.values.seen(),
            different: self.few.as_ref().map(|few| few.len() as u64),
        }
    }
}

/// Whether a path is the other one, or leads into it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A path as it may be shown, and whether it is the path itself. A key that may be a value, such as an address or a long
/// number, is shown by its form.
fn path(keys: &[&str]) -> (String, bool) {
    let is_name = |key: &&str| {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$');
        !key.is_empty()
            && key.len() <= KEY_BYTES
            && key.bytes().all(is_of_name)
            && key.bytes().filter(u8::is_ascii_digit).count() <= KEY_DIGITS
    };
    let is_plain = keys.iter().all(is_name);
    let keys = keys.iter().map(|key| if is_name(key) { (*key).to_owned() } else { form_of(key.as_bytes()) });
    let path = JsonPath::of(keys).to_string();
    match path.char_indices().find(|(at, c)| at + c.len_utf8() > PATH) {
        Some((end, _)) => (format!("{}…", path.get(..end).unwrap_or_default()), false),
        None => (path, is_plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_be_a_value_is_shown_by_its_form() {
        for (keys, expected) in [
            (&["evars", "evars", "eVar300"][..], ("evars.evars.eVar300", true)),
            (&["_site", "page-type"], ("_site.page-type", true)),
            (&["users", "jane@example.com"], ("users.aaaa@aaaaaaa\\.aaa", false)),
            (&["4111111111111111"], ("9999999999999999", false)),
            (&["cl\\u00e9"], ("aa\\\\a99a9", false)),
            (&[""], ("", false)),
        ] {
            let (path, is_plain) = path(keys);
            assert_eq!((path.as_str(), is_plain), expected);
        }
        let long: Vec<_> = std::iter::repeat_n("abcdefgh", 99).collect();
        let (path, is_plain) = path(&long);
        assert!(path.len() <= PATH + 3 && path.ends_with('…') && !is_plain, "{path}");
    }

    fn sighting<'t>(id: u64, keys: &'t [&'t str], raw: &'t str) -> Sighting<'t> {
        Sighting { id, keys, target: None, raw, is_protected: false }
    }

    fn columns() -> Columns {
        Columns::of(&shared::schema::Schema::built_in(1..=1))
    }

    #[test]
    fn a_million_fields_take_no_more_room_than_a_few_hundred() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        let mut text = Vec::new();
        for number in 0..1_000_000_u64 {
            fields.looked();
            let key = format!("field{number}");
            fields.see(
                &sighting(number, &[&key], &number.to_string()),
                &columns,
                DateTime::UNIX_EPOCH,
                &mut came,
            );
            if number == 10_000 {
                text = serde_json::to_vec(&fields).unwrap();
            }
        }
        assert_eq!((fields.by_place.len(), fields.beside()), (BESIDE, BESIDE as u64));
        assert_eq!(fields.not_remembered, 1_000_000 - BESIDE as u64);
        let after = serde_json::to_vec(&fields).unwrap();
        assert!(after.len() < 2 * text.len() && after.len() < 600 * BESIDE, "{} bytes", after.len());
        assert_eq!(came, []);
        // A field with a million values neither.
        for number in 0..1_000_000_u64 {
            fields.see(
                &sighting(7, &["field7"], &number.to_string()),
                &columns,
                DateTime::UNIX_EPOCH,
                &mut came,
            );
        }
        assert!(serde_json::to_vec(&fields).unwrap().len() < after.len() + 999);
    }

    #[test]
    fn a_field_that_comes_is_told_once_and_a_rare_one_that_was_always_there_is_not() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        let mut rng = fastrand::Rng::with_seed(7);
        for look in 0..20_000_u64 {
            fields.looked();
            for rare in 0..40 {
                if rng.u32(..320) == 0 {
                    let key = format!("rare{rare}");
                    fields.see(&sighting(rare, &[&key], "1"), &columns, DateTime::UNIX_EPOCH, &mut came);
                }
            }
            if look >= 5_000 {
                fields.see(&sighting(99, &["new"], "\"Jane 12\""), &columns, DateTime::UNIX_EPOCH, &mut came);
            }
        }
        let told: Vec<_> =
            came.iter().map(|came| (came.kind, came.field.as_str(), came.example.as_deref())).collect();
        assert_eq!(told, [(DriftKind::NewField, "new", Some("Aaaa 99"))]);
    }

    #[test]
    fn a_value_that_comes_to_a_field_of_few_is_told_once_and_by_its_form() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        for look in 0..3_000_u64 {
            fields.looked();
            let value = match look {
                1_000.. if look % 4 == 0 => "\"tablet\"",
                _ if look % 2 == 0 => "\"phone\"",
                _ => "\"desktop\"",
            };
            // Two weeks until it comes, of an hour in the other field; what comes in the first week is learned.
            let at =
                |minutes: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(minutes * 60 * look.cast_signed());
            fields.see(&sighting(1, &["device"], value), &columns, at(20), &mut came);
            fields.see(&sighting(2, &["of_an_hour"], value), &columns, at(1), &mut came);
        }
        let told: Vec<_> =
            came.iter().map(|came| (came.kind, came.field.as_str(), came.example.as_deref())).collect();
        assert_eq!(told, [(DriftKind::NewValue, "device", Some("aaaaaa"))]);
        assert_eq!(fields.seen(None)[0].different, Some(3));
    }

    #[test]
    fn where_there_is_no_room_a_field_that_comes_is_told_all_the_same() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        let mut rng = fastrand::Rng::with_seed(7);
        for look in 0..20_000_u64 {
            fields.looked();
            // Three keys that are in no other record, rare ones that always were, and the new one.
            for other in 0..3 {
                let key = format!("key{look}x{other}");
                let id = 1_000 + 3 * look + other;
                fields.see(&sighting(id, &[&key], "1"), &columns, DateTime::UNIX_EPOCH, &mut came);
            }
            for rare in 0..40 {
                if rng.u32(..320) == 0 {
                    let key = format!("rare{rare}");
                    fields.see(&sighting(rare, &[&key], "1"), &columns, DateTime::UNIX_EPOCH, &mut came);
                }
            }
            if look >= 5_000 {
                fields.see(&sighting(99, &["new"], "1"), &columns, DateTime::UNIX_EPOCH, &mut came);
            }
        }
        let told: Vec<_> = came.iter().map(|came| came.field.as_str()).collect();
        assert_eq!((told, fields.by_place.len()), (vec!["new"], BESIDE));
    }

    #[test]
    fn a_field_that_was_met_once_long_ago_is_told_when_it_comes() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        for look in 0..10_000_u64 {
            fields.looked();
            if look == 1 || look >= 9_000 {
                fields.see(&sighting(1, &["new"], "1"), &columns, DateTime::UNIX_EPOCH, &mut came);
            }
        }
        assert_eq!(came.len(), 1);
    }

    #[test]
    fn a_field_that_is_protected_now_has_no_form_any_more() {
        let (mut fields, mut columns, mut came) = (Fields::default(), columns(), Vec::new());
        for (id, key) in [(1, "who"), (2, "whole")] {
            fields.looked();
            fields.see(&sighting(id, &[key, "in"], "\"Jane\""), &columns, DateTime::UNIX_EPOCH, &mut came);
        }
        columns.protected = vec![JsonPath::of(["who"])];
        fields.begin(&columns);
        let forms: Vec<_> =
            fields.seen(None).into_iter().map(|seen| (seen.path, seen.values.example)).collect();
        assert_eq!(forms, [("who.in".to_owned(), None), ("whole.in".to_owned(), Some("Aaaa".to_owned()))]);
    }

    #[test]
    fn of_a_protected_field_nothing_is_known_but_that_it_is_there() {
        let (mut fields, columns, mut came) = (Fields::default(), columns(), Vec::new());
        for _ in 0..3_000 {
            fields.looked();
        }
        for number in 0..20 {
            fields.looked();
            let raw = format!("\"mArKeRvAlUe{number}\"");
            let sighting = Sighting { is_protected: true, ..sighting(1, &["who"], &raw) };
            fields.see(&sighting, &columns, DateTime::UNIX_EPOCH, &mut came);
        }
        let seen = &fields.seen(None)[0];
        assert!(seen.is_protected && seen.records == 20 && seen.values == Default::default(), "{seen:?}");
        assert_eq!(came[0].example, None);
        assert!(!serde_json::to_string(&fields).unwrap().contains("mArKeR"));
    }
}
