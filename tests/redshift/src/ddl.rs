//! CREATE, ALTER and DROP TABLE: what PostgreSQL is told, and what the stand-in's own catalog remembers.
//!
//! PRIMARY KEY, UNIQUE and FOREIGN KEY are dropped, because on Redshift they are informational:
//! <https://docs.aws.amazon.com/redshift/latest/dg/t_Defining_constraints.html>.

use std::fmt::Write;

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, CreateTable, DataType,
    Expr, Ident, IndexColumn, ObjectName, ObjectNamePart, TableConstraint,
};

use crate::errors::SqlError;
use crate::layout::{FIXED, Layout};
use crate::postgres::quote;
use crate::types::Type;

/// <https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html>
const MAX_COLUMNS: usize = 1600;
const MAX_NAME_BYTES: usize = 127;
/// NAMEDATALEN of the PostgreSQL behind us.
const POSTGRES_NAME_BYTES: usize = 63;
/// Wider tables get no length checks on INSERT: they would cost COPY more than they are worth.
const MAX_COLUMNS_WITH_CHECKS: usize = 100;

/// A table by its folded names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl TableName {
    pub(crate) fn from_ast(name: &ObjectName) -> Result<Self, SqlError> {
        let mut parts = Vec::new();
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => parts.push(folded(ident)?),
                ObjectNamePart::Function(_) => return Err(SqlError::refused(format!("the name {name}"))),
            }
        }
        match parts.as_slice() {
            [table] => Ok(Self { schema: "public".to_owned(), table: table.clone() }),
            [schema, table] => Ok(Self { schema: schema.clone(), table: table.clone() }),
            _ => Err(SqlError::refused(format!("the name {name}: tables of other databases"))),
        }
    }

    /// Quoted, for SQL.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }

    /// Fails with the message if a column of the table is so.
    pub(crate) fn refuse_if(&self, condition: &str, message: &str) -> String {
        let (table, message) = (self.condition(), literal(message));
        format!(
            "SELECT standin.refuse({message}) WHERE EXISTS (SELECT 1 FROM standin.columns WHERE {table} AND {condition})"
        )
    }

    /// Fails with the message if no column of the table is so.
    pub(crate) fn refuse_unless(&self, condition: &str, message: &str) -> String {
        self.refuse_if(condition, message).replacen("WHERE EXISTS", "WHERE NOT EXISTS", 1)
    }

    /// Changes what the stand-in knows of columns of the table.
    pub(crate) fn update(&self, change: &str, condition: &str) -> String {
        format!("UPDATE standin.columns SET {change} WHERE {} AND {condition}", self.condition())
    }

    fn condition(&self) -> String {
        format!("table_schema = {} AND table_name = {}", literal(&self.schema), literal(&self.table))
    }
}

/// A literal for our sessions, in which a backslash escapes as it does in PostgreSQL 8.0.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The folded name, or why it is too long.
pub(crate) fn folded(ident: &Ident) -> Result<String, SqlError> {
    let name = ident.value.to_ascii_lowercase();
    if name.len() > MAX_NAME_BYTES {
        return Err(SqlError::with_state("42622", format!("name \"{name}\" exceeds {MAX_NAME_BYTES} bytes")));
    }
    if name.len() > POSTGRES_NAME_BYTES {
        return Err(SqlError::refused(format!(
            "the name \"{name}\" is longer than {POSTGRES_NAME_BYTES} bytes, which Redshift allows but the PostgreSQL behind the stand-in does not"
        )));
    }
    Ok(name)
}

struct Column {
    name: String,
    kind: Type,
    not_null: bool,
    default: Option<String>,
    /// Part of a PRIMARY KEY, UNIQUE or FOREIGN KEY.
    constrained: bool,
}

impl Column {
    fn from_ast(definition: &ColumnDef) -> Result<Self, SqlError> {
        let name = folded(&definition.name)?;
        let kind = Type::from_ast(&definition.data_type)
            .map_err(|why| SqlError::refused(format!("column \"{name}\": {why}")))?;
        let mut column = Self { name, kind, not_null: false, default: None, constrained: false };
        for option in &definition.options {
            match &option.option {
                ColumnOption::Null => {}
                ColumnOption::Unique(_) | ColumnOption::ForeignKey(_) => column.constrained = true,
                ColumnOption::NotNull => column.not_null = true,
                // A primary key column becomes NOT NULL, which *is* enforced.
                ColumnOption::PrimaryKey(_) => (column.not_null, column.constrained) = (true, true),
                ColumnOption::Default(value) => column.default = Some(value.to_string()),
                other => return Err(SqlError::refused(format!("column \"{}\": {other}", column.name))),
            }
        }
        Ok(column)
    }

    fn definition(&self) -> String {
        let mut sql = format!("{} {}", quote(&self.name), self.kind.postgres());
        if self.not_null {
            sql.push_str(" NOT NULL");
        }
        if let Some(default) = &self.default {
            let _ = write!(sql, " DEFAULT {default}");
        }
        sql
    }

    fn length_check(&self) -> Option<String> {
        length_check(&self.name, self.kind)
    }

    /// A row of `standin.columns`.
    fn row(&self, table: &TableName, ordinal: &str, layout: &Layout, auto_encoded: &str) -> String {
        format!(
            "{}::text, {}::text, {ordinal}::int, {}::text, {}::text, {}, {}::text, {}, {}, {auto_encoded}",
            literal(&table.schema),
            literal(&table.table),
            literal(&self.name),
            literal(&self.kind.to_string()),
            self.not_null,
            self.default.as_deref().map_or("NULL".to_owned(), literal),
            self.constrained,
            layout.row(&self.name, &self.kind.to_string()),
        )
    }
}

fn check_name(column: &str) -> String {
    let mut name = format!("len {column}");
    let mut end = name.len().min(POSTGRES_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    quote(&name)
}

fn length_check(column: &str, kind: Type) -> Option<String> {
    let (Type::Varchar(bytes) | Type::Char(bytes)) = kind else { return None };
    Some(format!("CONSTRAINT {} CHECK (octet_length({}) <= {bytes})", check_name(column), quote(column)))
}

/// The statements that create a table, to be run as one.
pub(crate) fn create_table(create: &CreateTable, layout: &Layout) -> Result<Vec<String>, SqlError> {
    let plain = !create.or_replace
        && !create.temporary
        && !create.external
        && create.query.is_none()
        && create.like.is_none()
        && create.clone.is_none()
        && create.inherits.is_none()
        && create.partition_by.is_none();
    if !plain {
        return Err(SqlError::refused(
            "CREATE TABLE with OR REPLACE, TEMPORARY, AS, LIKE, INHERITS or PARTITION BY",
        ));
    }
    let table = TableName::from_ast(&create.name)?;
    if create.columns.len() > MAX_COLUMNS {
        let message = format!("tables can have at most {MAX_COLUMNS} columns");
        return Err(SqlError::with_state("54011", message));
    }
    let mut columns = create.columns.iter().map(Column::from_ast).collect::<Result<Vec<_>, _>>()?;
    for constraint in &create.constraints {
        let constrained = match constraint {
            TableConstraint::PrimaryKey(key) => of_index(&key.columns)?,
            TableConstraint::Unique(key) => of_index(&key.columns)?,
            TableConstraint::ForeignKey(key) => key.columns.iter().map(folded).collect::<Result<_, _>>()?,
            other => return Err(SqlError::refused(format!("table constraint {other}"))),
        };
        for column in columns.iter_mut().filter(|column| constrained.contains(&column.name)) {
            column.constrained = true;
        }
    }
    layout.check(|name| {
        columns.iter().find(|column| column.name == name).map(|column| column.kind.to_string())
    })?;

    let mut parts: Vec<String> = columns.iter().map(Column::definition).collect();
    if columns.len() < MAX_COLUMNS_WITH_CHECKS {
        parts.extend(columns.iter().filter_map(Column::length_check));
    }
    let exists = if create.if_not_exists { "IF NOT EXISTS " } else { "" };
    // A row of a few KiB would otherwise be compressed value by value, at the price of half the load's speed. What a
    // crash of the stand-in does to its tables is no concern of anybody's: they need no log (UNLOGGED).
    let make = format!(
        "CREATE UNLOGGED TABLE {exists}{} ({}) WITH (toast_tuple_target = 8160)",
        table.sql(),
        parts.join(", ")
    );
    if columns.is_empty() {
        return Ok(vec![make]);
    }
    let rows: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            format!(
                "({})",
                column.row(&table, &(index + 1).to_string(), layout, &layout.is_auto().to_string())
            )
        })
        .collect();
    let remember = format!(
        "INSERT INTO standin.columns SELECT * FROM (VALUES {}) AS v WHERE NOT EXISTS (SELECT 1 FROM standin.columns WHERE {})",
        rows.join(", "),
        table.condition()
    );
    Ok(vec![remember, make])
}

/// The statements of an ALTER TABLE, and whether Redshift runs it inside a transaction block.
pub(crate) fn alter_table(alter: &AlterTable, layout: Layout) -> Result<(Vec<String>, bool), SqlError> {
    let table = TableName::from_ast(&alter.name)?;
    let [operation] = alter.operations.as_slice() else {
        return Err(SqlError::refused("several changes in one ALTER TABLE: Redshift takes one at a time"));
    };
    match operation {
        AlterTableOperation::AddColumn {
            if_not_exists: false, column_def, column_position: None, ..
        } => {
            let column = Column::from_ast(column_def)?;
            let layout = layout.named(&column.name);
            if column.constrained || !layout.is_without_keys() {
                return Err(SqlError::internal("ALTER TABLE ADD COLUMN adds no part of a key or constraint"));
            }
            if column.not_null && column.default.is_none() {
                return Err(SqlError::internal(
                    "ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default expression",
                ));
            }
            layout.check(|_| Some(column.kind.to_string()))?;
            // Its encoding does not end ENCODE AUTO.
            let row = column.row(&table, "coalesce(max(ordinal), 0) + 1", &layout, "bool_and(auto_encoded)");
            let statements = vec![
                format!("ALTER TABLE {} ADD COLUMN {}", table.sql(), column.definition()),
                format!(
                    "INSERT INTO standin.columns SELECT {row} FROM standin.columns WHERE {}",
                    table.condition()
                ),
            ];
            Ok((statements, true))
        }
        AlterTableOperation::DropColumn { column_names, if_exists: false, .. } if column_names.len() == 1 => {
            let column = folded(&column_names[0])?;
            let is_key = format!("column_name = {} AND (distkey OR sortkey <> 0)", literal(&column));
            let statements = vec![
                table.refuse_if(&is_key, "cannot drop a column that is the DISTKEY or part of the SORTKEY"),
                format!("ALTER TABLE {} DROP COLUMN {} CASCADE", table.sql(), quote(&column)),
                format!(
                    "DELETE FROM standin.columns WHERE {} AND column_name = {}",
                    table.condition(),
                    literal(&column)
                ),
            ];
            Ok((statements, true))
        }
        AlterTableOperation::AlterColumn {
            column_name,
            op: AlterColumnOperation::SetDataType { data_type, using: None, .. },
        } => alter_type(&table, column_name, data_type).map(|statements| (statements, false)),
        other => Err(SqlError::refused(format!("ALTER TABLE … {other}"))),
    }
}

/// Redshift changes the length of a VARCHAR and nothing else:
/// <https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html>.
fn alter_type(table: &TableName, column: &Ident, data_type: &DataType) -> Result<Vec<String>, SqlError> {
    let column = folded(column)?;
    let kind = Type::from_ast(data_type).map_err(SqlError::refused)?;
    let Some(check) = length_check(&column, kind).filter(|_| matches!(kind, Type::Varchar(_))) else {
        return Err(SqlError::refused(format!(
            "ALTER COLUMN \"{column}\" TYPE {kind}: only the length of a VARCHAR"
        )));
    };
    let is_column = format!("column_name = {}", literal(&column));
    let refuse = |condition: &str, what: &str| {
        table.refuse_if(
            &format!("{is_column} AND {condition}"),
            &format!("cannot alter type of a column {what}"),
        )
    };
    let fixed: Vec<String> = FIXED.iter().map(|encoding| literal(encoding)).collect();
    Ok(vec![
        refuse("redshift_type NOT LIKE 'character varying%'", "that is no VARCHAR"),
        refuse(
            &format!("encoding IN ({})", fixed.join(", ")),
            "with encoding BYTEDICT, RUNLENGTH, TEXT255 or TEXT32K",
        ),
        refuse("column_default IS NOT NULL", "with a default value"),
        refuse("constrained", "that is UNIQUE, PRIMARY KEY or FOREIGN KEY"),
        format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", table.sql(), check_name(&column)),
        format!("ALTER TABLE {} ADD {check}", table.sql()),
        table.update(&format!("redshift_type = {}", literal(&kind.to_string())), &is_column),
    ])
}

fn of_index(columns: &[IndexColumn]) -> Result<Vec<String>, SqlError> {
    let named = columns.iter().map(|column| match &column.column.expr {
        Expr::Identifier(name) => folded(name),
        other => Err(SqlError::refused(format!("a key on {other}"))),
    });
    named.collect()
}

/// The statements of a DROP TABLE.
pub(crate) fn drop_tables(
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Vec<String>, SqlError> {
    let mut statements = Vec::new();
    for name in names {
        let table = TableName::from_ast(name)?;
        let exists = if if_exists { "IF EXISTS " } else { "" };
        let cascade = if cascade { " CASCADE" } else { "" };
        statements.push(format!("DROP TABLE {exists}{}{cascade}", table.sql()));
        statements.push(format!("DELETE FROM standin.columns WHERE {}", table.condition()));
    }
    Ok(statements)
}
