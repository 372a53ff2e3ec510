//! Whom `ingester forget` looks for: the values that a person has in one column. They never print.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use shared::schema::{Column, JsonPath, Kind, Rule, SqlType};

/// A column, and the values that are looked for in it, as they are stored. Trailing blanks make no difference: for
/// Redshift they make none either.
pub(crate) struct Sought {
    column: String,
    /// Where the value of the column stands in a record.
    paths: Vec<JsonPath>,
    values: BTreeSet<String>,
    cells: HashSet<Vec<u8>>,
    is_text: bool,
    /// What is longer is cut to so many bytes before it is stored. Under another rule than `cut` it is not stored at all.
    max: usize,
}

impl Sought {
    /// These values in this column; why not, otherwise. No value is named.
    pub(crate) fn new(column: &Column, values: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let is_text = matches!(column.sql_type, SqlType::Varchar(_));
        let of_person = matches!(column.kind, Kind::Text | Kind::List | Kind::Integer | Kind::Unsigned);
        if !of_person || !(is_text || column.sql_type.is_whole_number()) {
            return Err(format!(
                "column {} is of kind {} and type {}: rows are found by a text or a whole number of a record",
                column.name, column.kind, column.sql_type
            ));
        }
        let values: BTreeSet<String> = values.into_iter().map(trimmed).collect();
        if values.is_empty() || values.contains("") {
            return Err("a value is empty, and rows without a value are of nobody: give values".to_owned());
        }
        if !is_text && !values.iter().all(|value| is_whole_number(value)) {
            return Err(format!(
                "column {} has whole numbers, and a value is none as it is stored there: digits without leading zeros",
                column.name
            ));
        }
        let unfit = values.iter().filter(|value| !fits(value, column.sql_type)).count();
        if unfit > 0 {
            return Err(format!(
                "column {} is of type {}, and {unfit} of the values cannot stand in it: give each as it is stored there",
                column.name, column.sql_type
            ));
        }
        let cells = values.iter().map(|value| value.clone().into_bytes()).collect();
        let (name, paths) = (column.name.clone(), column.paths.clone());
        let max = match (column.sql_type, column.rule) {
            (SqlType::Varchar(bytes), Rule::Cut) => usize::try_from(bytes).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        Ok(Self { column: name, paths, values, cells, is_text, max })
    }

    /// The same, so many values at a time.
    pub(crate) fn parts(&self, most: usize) -> Vec<Self> {
        let values: Vec<&String> = self.values.iter().collect();
        let part = |some: &[&String]| Self {
            column: self.column.clone(),
            paths: self.paths.clone(),
            values: some.iter().map(|value| (*value).clone()).collect(),
            cells: some.iter().map(|value| value.as_bytes().to_vec()).collect(),
            is_text: self.is_text,
            max: self.max,
        };
        values.chunks(most.max(1)).map(part).collect()
    }

    pub(crate) fn column(&self) -> &str {
        &self.column
    }

    pub(crate) fn paths(&self) -> &[JsonPath] {
        &self.paths
    }

    pub(crate) fn values(&self) -> &BTreeSet<String> {
        &self.values
    }

    /// Whether the column holds texts; if not, whole numbers.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Whether this is one of the values.
    pub(crate) fn is(&self, value: &[u8]) -> bool {
        let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        self.cells.contains(value.get(..end).unwrap_or_default())
    }

    /// Whether this text of a record is one of the values once it is stored: without NUL, and cut to the column.
    pub(crate) fn is_stored_of(&self, text: &str) -> bool {
        let stored = text.replace('\0', "");
        let end = stored.floor_char_boundary(self.max);
        self.is(stored.get(..end).unwrap_or(&stored).as_bytes())
    }
}

impl fmt::Debug for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sought").field("column", &self.column).field("values", &self.values.len()).finish()
    }
}

fn trimmed(mut value: String) -> String {
    value.truncate(value.trim_end_matches(' ').len());
    value
}

fn is_whole_number(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let canonical = digits == "0" && digits == value || !digits.starts_with('0');
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && canonical
}

/// Whether a column of this type can hold the value: Redshift refuses to compare with a number that it cannot.
fn fits(value: &str, sql_type: SqlType) -> bool {
    match sql_type {
        SqlType::Varchar(bytes) => value.len() as u64 <= u64::from(bytes),
        SqlType::Smallint => value.parse::<i16>().is_ok(),
        SqlType::Integer => value.parse::<i32>().is_ok(),
        SqlType::Bigint => value.parse::<i64>().is_ok(),
        SqlType::Decimal { precision, scale } => {
            let digits = value.trim_start_matches('-').len();
            digits <= usize::from(precision).saturating_sub(usize::from(scale))
        }
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn column(kind: Kind, sql_type: SqlType) -> Column {
        Column::new("mcvisid", vec![JsonPath::of(["mcVisId"])], kind, sql_type)
    }

    pub(crate) fn sought(values: &[&str]) -> Sought {
        let column = column(Kind::Text, SqlType::Varchar(64));
        Sought::new(&column, values.iter().map(|value| (*value).to_owned())).unwrap()
    }

    #[test]
    fn a_value_is_found_whatever_blanks_follow_and_nothing_like_it_is() {
        let sought = sought(&["jane ", "a~\"b"]);
        for cell in ["jane", "jane  ", "a~\"b"] {
            assert!(sought.is(cell.as_bytes()), "{cell:?}");
        }
        for cell in ["", " ", "Jane", "jan", " jane", "janes"] {
            assert!(!sought.is(cell.as_bytes()), "{cell:?}");
        }
    }

    #[test]
    fn a_text_of_a_record_is_found_as_it_is_stored() {
        let column = column(Kind::Text, SqlType::Varchar(5));
        let values = ["jane", "ab日"].map(str::to_owned);
        let sought = Sought::new(&column, values).unwrap();
        for text in ["jane", "\0ja\0ne\0", "jane   s", "ab日本"] {
            assert!(sought.is_stored_of(text), "{text:?}");
        }
        for text in ["janes", "jan", "\0", "ab", "abc日"] {
            assert!(!sought.is_stored_of(text), "{text:?}");
        }
        // Under these a longer text is stored nowhere: it is somebody else's.
        for rule in [Rule::Reject, Rule::Null] {
            let column = Column { rule, ..column.clone() };
            let sought = Sought::new(&column, ["janes".to_owned()]).unwrap();
            assert!(sought.is_stored_of("janes") && !sought.is_stored_of("janesmith"), "{rule}");
        }
    }

    #[test]
    fn values_never_print() {
        assert_eq!(format!("{:?}", sought(&["jane", "joe"])), "Sought { column: \"mcvisid\", values: 2 }");
        let number = column(Kind::Unsigned, SqlType::Decimal { precision: 20, scale: 0 });
        for wrong in ["jane", "07", "-0", "-", "1.0", "+1"] {
            let why = Sought::new(&number, [wrong.to_owned()]).unwrap_err();
            assert!(why.contains("whole numbers") && !why.contains(wrong), "{why}");
        }
        for right in ["0", "-7", "18446744073709551615"] {
            assert!(Sought::new(&number, [right.to_owned()]).is_ok(), "{right}");
        }
    }

    #[test]
    fn what_no_row_can_have_is_refused_and_not_named() {
        let refused = |sql_type, value: &str| {
            let why = Sought::new(&column(Kind::Text, sql_type), [value.to_owned()]).err();
            assert!(why.as_ref().is_none_or(|why| !why.contains(value)), "{why:?}");
            why.is_some()
        };
        let decimal = SqlType::Decimal { precision: 3, scale: 0 };
        assert!(refused(SqlType::Varchar(4), "janes") && !refused(SqlType::Varchar(4), "jane  "));
        assert!(refused(SqlType::Smallint, "32768") && !refused(SqlType::Smallint, "-32768"));
        assert!(refused(SqlType::Integer, "2147483648") && !refused(SqlType::Integer, "2147483647"));
        assert!(refused(SqlType::Bigint, "9223372036854775808") && !refused(SqlType::Bigint, "7"));
        assert!(refused(decimal, "1000") && !refused(decimal, "-999"));
    }

    #[test]
    fn parts_have_each_value_once() {
        let parts = sought(&["a", "b", "c"]).parts(2);
        let values: Vec<Vec<&String>> = parts.iter().map(|part| part.values().iter().collect()).collect();
        assert_eq!(values, [vec!["a", "b"], vec!["c"]]);
        assert!(parts[1].is(b"c ") && !parts[1].is(b"a"));
    }

    #[test]
    fn only_a_column_that_can_name_a_person_is_searched() {
        let text = || [String::from("x")];
        for (kind, sql_type) in [
            (Kind::Batch, SqlType::Varchar(36)),
            (Kind::Instance, SqlType::Varchar(64)),
            (Kind::Record, SqlType::Super),
            (Kind::Json, SqlType::Varchar(64)),
            (Kind::Timestamp, SqlType::Timestamp),
        ] {
            assert!(Sought::new(&column(kind, sql_type), text()).is_err(), "{kind}");
        }
        assert!(Sought::new(&column(Kind::List, SqlType::Varchar(64)), text()).is_ok());
        let none = Sought::new(&column(Kind::Text, SqlType::Varchar(64)), []).unwrap_err();
        let empty = Sought::new(&column(Kind::Text, SqlType::Varchar(64)), ["  ".to_owned()]).unwrap_err();
        assert!(none.contains("is empty") && empty.contains("is empty"));
    }
}
