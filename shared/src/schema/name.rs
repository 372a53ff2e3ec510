//! Names that a column can have.

/// Redshift's limit on the bytes of an identifier.
const MAX_NAME_BYTES: usize = 127;
/// Names that every table has already, for columns of Redshift's own.
const SYSTEM_COLUMNS: [&str; 9] =
    ["cmax", "cmin", "ctid", "deletexid", "insertxid", "oid", "tableoid", "xmax", "xmin"];

/// What a staged load calls the number of a row among those of its hit, beside the columns of the table.
pub const ROW_NUMBER: &str = "livestream_n";

pub(crate) fn valid_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a name consists of a-z, 0-9 and _ and does not start with a digit".to_owned());
    }
    if SYSTEM_COLUMNS.contains(&name) {
        return Err("Redshift has a system column of that name in every table".to_owned());
    }
    if name == ROW_NUMBER {
        return Err("that name is needed for the number of a row when hits are compared".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("a name has at most {MAX_NAME_BYTES} bytes, this one {}", name.len()));
    }
    Ok(())
}
