//! What `[protect]` names: another schema must not change what is protected.

use shared::config::Protect;
use shared::schema::{Column, JsonPath, Schema};

pub(super) struct Protected {
    names: Vec<String>,
    paths: Vec<JsonPath>,
}

impl Protected {
    /// `schema` is the one in force, whose columns the names are.
    pub(super) fn of(protect: &Protect, schema: &Schema) -> Self {
        let fields = protect.lists().into_iter().flat_map(|(_, fields)| fields);
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for field in fields {
            let name = Protect::column(field);
            names.extend(name.map(str::to_owned));
            match name.and_then(|name| schema.columns.get(schema.position(name)?)) {
                Some(column) => paths.extend_from_slice(&column.paths),
                None => paths.extend(Protect::path(field)),
            }
        }
        Self { names, paths }
    }

    /// What may be the name of a column.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a value of the column, or something in it or around it, is protected.
    pub(super) fn touches(&self, column: &Column) -> bool {
        let lie_within = |one: &JsonPath, other: &JsonPath| one.keys().starts_with(other.keys());
        let mut pairs = column.paths.iter().flat_map(|of| self.paths.iter().map(move |path| (of, path)));
        pairs.any(|(of, path)| lie_within(of, path) || lie_within(path, of))
    }
}
