//! `CREATE TEMP TABLE`: a table that only its session sees, and that ends with it at the latest; like another one, or
//! of columns of another one. <https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html>.
//!
//! Of a table like another, distribution, sort order, encodings and NOT NULL come along, keys and constraints do not,
//! defaults only when asked for, and the numbers of an identity column never. Of one AS a query only names and types
//! do (<https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_AS.html>). What the stand-in remembers of it lies
//! in a temporary table as well: both go with a transaction that is undone, and no other session meets them.

use sqlparser::ast::{
    CreateTable, CreateTableLikeDefaults, CreateTableLikeKind, Expr, Query, SelectItem, SetExpr, TableFactor,
};

use crate::ddl::{TableName, folded, literal};
use crate::errors::SqlError;
use crate::layout::Layout;
use crate::postgres::quote;

/// Makes room for what is remembered.
const REMEMBER: &str = "CREATE TEMP TABLE IF NOT EXISTS standin_columns (LIKE standin.columns)";

/// The statements of a CREATE TEMP TABLE.
pub(crate) fn create(
    create: &CreateTable,
    table: &TableName,
    layout: &Layout,
) -> Result<Vec<String>, SqlError> {
    if !create.temporary {
        return Err(SqlError::refused("CREATE TABLE LIKE or AS of a table that is not temporary"));
    }
    if !table.bare {
        return Err(SqlError::with_state("42P16", "temporary tables may not specify a schema name"));
    }
    if create.if_not_exists || *layout != Layout::default() || !create.columns.is_empty() {
        return Err(SqlError::refused(
            "CREATE TEMP TABLE with IF NOT EXISTS, columns or a layout of its own",
        ));
    }
    match (&create.like, &create.query) {
        (Some(CreateTableLikeKind::Parenthesized(like)), None) => {
            let parent = TableName::from_ast(&like.name)?;
            Ok(of_parent(table, &parent, like.defaults == Some(CreateTableLikeDefaults::Including)))
        }
        (None, Some(query)) => of_query(table, query),
        _ => Err(SqlError::with_state(
            "42601",
            "syntax error in CREATE TEMP TABLE: LIKE stands in parentheses",
        )),
    }
}

fn of_parent(table: &TableName, parent: &TableName, defaults: bool) -> Vec<String> {
    // PostgreSQL's constraints are the lengths of Redshift's types.
    let including =
        if defaults { "INCLUDING DEFAULTS INCLUDING CONSTRAINTS" } else { "INCLUDING CONSTRAINTS" };
    let kept = if defaults {
        "CASE WHEN column_default ~ 'identity\"?\\\\(' THEN NULL ELSE column_default END"
    } else {
        "NULL"
    };
    vec![
        REMEMBER.to_owned(),
        format!(
            "CREATE TEMP TABLE {} (LIKE {} {including}) WITH (toast_tuple_target = 8160)",
            quote(&table.table),
            parent.sql()
        ),
        format!(
            "INSERT INTO pg_temp.standin_columns SELECT 'pg_temp', {}, ordinal, column_name, redshift_type, not_null, \
             {kept}, false, encoding, distkey, sortkey, auto_encoded FROM standin.columns WHERE {}",
            literal(&table.table),
            parent.condition()
        ),
    ]
}

/// Of a query that names columns of one table.
fn of_query(table: &TableName, query: &Query) -> Result<Vec<String>, SqlError> {
    let refused =
        || SqlError::refused("CREATE TEMP TABLE AS of a query that is more than columns of one table");
    let SetExpr::Select(select) = query.body.as_ref() else { return Err(refused()) };
    let [from] = select.from.as_slice() else { return Err(refused()) };
    let TableFactor::Table { name, .. } = &from.relation else { return Err(refused()) };
    let parent = TableName::from_ast(name)?;
    let names = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => folded(name),
        _ => Err(refused()),
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let listed = listed.join(", ");
    Ok(vec![
        REMEMBER.to_owned(),
        format!("CREATE TEMP TABLE {} WITH (toast_tuple_target = 8160) AS {query}", quote(&table.table)),
        format!(
            "INSERT INTO pg_temp.standin_columns SELECT 'pg_temp', {}, array_position(ARRAY[{listed}], column_name), \
             column_name, redshift_type, false, NULL, false, 'none', false, 0, true FROM standin.columns \
             WHERE {} AND column_name IN ({listed})",
            literal(&table.table),
            parent.condition()
        ),
    ])
}
