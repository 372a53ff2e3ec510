//! Columns as text of a schema file.

use std::fmt::Write;

use shared::schema::{Column, JsonPath, Rule};
use toml::Value;

/// One `[[column]]` table for each.
pub(super) fn as_toml(columns: &[Column]) -> String {
    columns.iter().map(table).collect::<Vec<_>>().join("\n")
}

fn table(column: &Column) -> String {
    let Column { name, paths, kind, sql_type, rule, delimiter, encoding } = column;
    let mut text = format!("[[column]]\nname = {}\n", toml_text(name));
    match &paths[..] {
        [] => {}
        [path] if path.is_record() => {}
        [path] => _ = writeln!(text, "path = {}", path_of(path)),
        paths => {
            let paths: Vec<_> = paths.iter().map(path_of).collect();
            let _ = writeln!(text, "paths = [{}]", paths.join(", "));
        }
    }
    let _ = writeln!(text, "kind = \"{kind}\"\ntype = \"{sql_type}\"");
    if *rule != Rule::default_of(*kind) {
        let _ = writeln!(text, "rule = \"{rule}\"");
    }
    if let Some(delimiter) = delimiter {
        let _ = writeln!(text, "delimiter = {}", toml_text(delimiter));
    }
    if let Some(encoding) = encoding {
        let _ = writeln!(text, "encoding = \"{encoding}\"");
    }
    text
}

fn path_of(path: &JsonPath) -> String {
    toml_text(&path.to_string())
}

fn toml_text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use shared::schema::Schema;

    use super::*;

    #[test]
    fn what_is_written_reads_back_as_the_same_schema() {
        let text = "[[column]]\nname = 'x'\npaths = ['a\\.b', 'c\"d']\nkind = 'list'\ntype = 'varchar(9)'\ndelimiter = '|'\n\
                    rule = 'reject'\nencoding = 'zstd'\n[[column]]\nname = 'record'\nkind = 'record'\ntype = 'super'\n\
                    [[column]]\nname = 'who'\nkind = 'instance'\ntype = 'varchar(9)'";
        let odd = Schema::from_toml_on(&Schema::default(), text, "t").unwrap();
        for schema in [odd, Schema::default()] {
            let again = Schema::from_toml_on(&Schema::default(), &as_toml(&schema.columns), "t").unwrap();
            assert_eq!(again, schema);
        }
    }
}
