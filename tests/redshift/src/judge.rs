//! COPY's own reading of rows, without a server: for tests of what writes them.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::Parser;

use crate::copy::csv::{Found, Scanner};
use crate::copy::rows::{Loader, Rules, Target};
use crate::types::{Reading, Type};

/// Reads rows as `COPY … FORMAT CSV DELIMITER '~' EMPTYASNULL TIMEFORMAT 'auto'` does.
pub struct Judge {
    rules: Rules,
    scanner: Scanner,
}

impl Judge {
    /// For a table of these columns: names, and types as DDL writes them.
    ///
    /// # Errors
    /// When Redshift has no such type, or a name comes twice.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, String)>) -> anyhow::Result<Self> {
        let mut names = HashSet::new();
        let mut targets = Vec::new();
        for (name, sql_type) in columns {
            ensure!(names.insert(name.to_owned()), "column {name} comes twice");
            let parsed = Parser::new(&RedshiftSqlDialect {}).try_with_sql(&sql_type)?.parse_data_type()?;
            let kind = Type::from_ast(&parsed).map_err(anyhow::Error::msg)?;
            targets.push(Target { name: name.to_owned(), kind, required: false });
        }
        let rules = Rules {
            targets,
            delimiter: b'~',
            empty_as_null: true,
            accept_inv_chars: None,
            reading: Reading { auto_time: true, ..Reading::default() },
            fails_at: 1,
            no_load: false,
            rows_as_lines: false,
        };
        Ok(Self { rules, scanner: Scanner::new(b'~') })
    }

    /// The values of the rows, as they would be stored: none is NULL.
    ///
    /// # Errors
    /// When COPY would refuse a row, or would store another value than stands there.
    pub fn read(&mut self, rows: &[u8]) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let mut loader = Loader::new(self.rules.clone());
        let mut passed = Vec::new();
        let mut sink = |bytes: Vec<u8>| {
            passed.extend(bytes);
            true
        };
        let judged = loader.file("rows", &mut &*rows, &mut sink);
        if let Some(error) = loader.errors.first() {
            bail!("COPY refuses column {:?}: {:?}", error.column, error.reason);
        }
        judged.map_err(|stop| anyhow::anyhow!("COPY stops: {stop:?}"))?;
        loader.finish(&mut sink).map_err(|stop| anyhow::anyhow!("COPY stops: {stop:?}"))?;
        ensure!(passed == rows, "COPY would alter a value of {}", rows.escape_ascii());
        self.values(rows)
    }

    fn values(&mut self, rows: &[u8]) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let (mut read, mut at) = (Vec::new(), 0);
        while at < rows.len() {
            let rest = rows.get(at..).unwrap_or_default();
            let Found::Row { next, .. } = self.scanner.scan(rest, true) else { bail!("a row has no end") };
            let mut values = vec![None; self.rules.targets.len()];
            for field in &self.scanner.fields {
                let raw = rest.get(field.value_start as usize..field.value_end as usize).unwrap_or_default();
                let text = std::str::from_utf8(raw)?;
                let text = if field.doubled { text.replace("\"\"", "\"") } else { text.to_owned() };
                let place = values.get_mut(field.column as usize).context("more fields than columns")?;
                *place = Some(text).filter(|text| !text.is_empty());
            }
            read.push(values);
            at += next;
        }
        Ok(read)
    }
}
