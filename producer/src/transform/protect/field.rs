//! Fields of `[protect]` as paths, checked against the schema.

use shared::config::Protect;
use shared::schema::{Column, JsonPath, Kind, Schema, SqlType};

use crate::transform::filter::TransformError;
use crate::transform::plan::IDENTITY;
use crate::transform::protect::how::How;

/// A field as it is named, and where it stands in a record.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) how: How,
    pub(super) name: String,
    pub(super) paths: Vec<JsonPath>,
}

/// Every field of `[protect]`. A column stands for all of its paths.
pub(super) fn fields(protect: &Protect, schema: &Schema) -> Result<Vec<Field>, TransformError> {
    let mut fields: Vec<Field> = Vec::new();
    for (list, names) in protect.lists() {
        let Some(how) = How::of_list(list) else { continue };
        for name in names {
            let fault = |rule| TransformError::Protect { list, field: name.clone(), rule };
            let paths = paths(name, schema).map_err(fault)?;
            let field = Field { how, name: name.clone(), paths };
            field.check(&fields, protect, schema).map_err(fault)?;
            fields.push(field);
        }
    }
    Ok(fields)
}

fn paths(name: &str, schema: &Schema) -> Result<Vec<JsonPath>, String> {
    let column = Protect::column(name).and_then(|name| schema.position(name));
    let Some(column) = column.and_then(|at| schema.columns.get(at)) else {
        return Protect::path(name).map(|path| vec![path]).map_err(|error| error.to_string());
    };
    match column.kind {
        Kind::Record => {
            Err("the column holds the whole record: leave it out of the schema, or name the fields in it"
                .to_owned())
        }
        kind if !kind.is_from_record() => Err(format!(
            "no record has the value of a column of kind `{kind}`: leave it out of the schema instead"
        )),
        _ => Ok(column.paths.clone()),
    }
}

impl Field {
    fn check(&self, others: &[Self], protect: &Protect, schema: &Schema) -> Result<(), String> {
        for path in &self.paths {
            if let [key] = path.keys()
                && IDENTITY.contains(&key.as_str())
            {
                return Err(format!(
                    "{key} tells one hit from another, or when it was received: without it hits are lost or doubled"
                ));
            }
            for other in others {
                let clash = other.paths.iter().find(|of_other| overlaps(path, of_other));
                if let Some(of_other) = clash.filter(|of_other| other.how != self.how || *of_other != path) {
                    let (list, name) = (other.how.name(), &other.name);
                    return Err(format!(
                        "`{path}` and `{of_other}`, which \"{name}\" in protect.{list} stands for, lie one in the other or \
                         are the same: remove one of them"
                    ));
                }
            }
            for column in schema.columns.iter().filter(|column| column.paths.contains(path)) {
                self.fits(column, protect)?;
            }
        }
        Ok(())
    }

    /// Whether the column can hold what takes the place of its value.
    fn fits(&self, column: &Column, protect: &Protect) -> Result<(), String> {
        let Column { name, kind, sql_type, .. } = column;
        if self.how == How::Drop {
            return Ok(());
        }
        if !matches!(kind, Kind::Text | Kind::List | Kind::Json) {
            return Err(format!(
                "column {name} has kind `{kind}`, and what takes the place of its value is a text: give it kind `text` in \
                 schema.file, or drop it"
            ));
        }
        let length = protect.pseudonym_length;
        match sql_type {
            SqlType::Varchar(bytes) if self.how == How::Pseudonym && (*bytes as usize) < length => {
                Err(format!(
                    "column {name} is {sql_type}, and a pseudonym has {length} characters (protect.pseudonym_length): make it \
                 wider in schema.file, or the pseudonym shorter"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Whether one path leads to the place of the other or into it.
fn overlaps(one: &JsonPath, other: &JsonPath) -> bool {
    one.keys().starts_with(other.keys()) || other.keys().starts_with(one.keys())
}
