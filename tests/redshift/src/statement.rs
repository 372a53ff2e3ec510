//! What a statement is and what shall be done for it. Decides only; the session acts.

use sqlparser::ast::{self, FromTable, ObjectType, Query, Set, SetExpr, TableFactor};
use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::copy::options::CopyStatement;
use crate::ddl;
use crate::errors::SqlError;
use crate::faults::Kind;
use crate::layout::Layout;
use crate::{relayout, rewrite, subquery};

/// <https://docs.aws.amazon.com/redshift/latest/dg/c_redshift-sql.html>
const MAX_STATEMENT_BYTES: usize = 16 << 20;

/// One statement of a query string.
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    /// As sent.
    pub(crate) sql: String,
    pub(crate) plan: Result<Plan, SqlError>,
}

/// The command tag of a statement PostgreSQL executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Fixed(&'static str),
    /// With the number of rows behind it.
    Counted(&'static str),
}

/// What the session shall do.
pub(crate) enum Plan {
    Begin,
    Commit,
    Rollback,
    /// PostgreSQL executes it and its answer is passed on.
    Sql {
        sql: String,
        tag: Tag,
    },
    /// PostgreSQL executes all or none.
    Ddl {
        statements: Vec<String>,
        tag: &'static str,
        in_transaction: bool,
    },
    /// As `Sql`, and commits: <https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html>.
    Truncate(String),
    Copy(Box<CopyStatement>),
    /// Stops what another session is doing.
    Cancel(i32),
    /// Has no effect here.
    Accept(&'static str),
}

/// Reads a query string.
pub(crate) fn read(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if sql.len() > MAX_STATEMENT_BYTES {
        return Err(SqlError::with_state("54000", "statement is too large: the limit is 16777216 bytes"));
    }
    let statements = rewrite::split(sql)?.into_iter().map(|tokens| {
        let words = rewrite::leading_words(&tokens);
        let sql = rewrite::text(&tokens);
        Statement { kind: kind(&words), sql, plan: plan(tokens, &words) }
    });
    Ok(statements.collect())
}

fn kind(words: &[String]) -> Kind {
    match words.first().map_or("", String::as_str) {
        "BEGIN" | "START" => Kind::Begin,
        "COMMIT" | "END" => Kind::Commit,
        "ROLLBACK" | "ABORT" => Kind::Rollback,
        "LOCK" => Kind::Lock,
        "SELECT" | "WITH" | "VALUES" => Kind::Select,
        "INSERT" => Kind::Insert,
        "UPDATE" => Kind::Update,
        "DELETE" => Kind::Delete,
        "COPY" => Kind::Copy,
        "CREATE" | "DROP" | "ALTER" | "TRUNCATE" => Kind::Ddl,
        _ => Kind::Other,
    }
}

fn plan(tokens: Vec<Token>, words: &[String]) -> Result<Plan, SqlError> {
    let tokens = rewrite::common(tokens)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["END", ..] => return Ok(Plan::Commit),
        ["ABORT", ..] => return Ok(Plan::Rollback),
        ["ANALYZE", "COMPRESSION", ..] => return Err(SqlError::refused("ANALYZE COMPRESSION")),
        ["ANALYZE", ..] => return Ok(Plan::Accept("ANALYZE")),
        ["VACUUM", ..] => return Ok(Plan::Accept("VACUUM")),
        ["RESET", ..] => return Ok(Plan::Accept("RESET")),
        ["CANCEL", ..] => return cancel(&tokens),
        ["SAVEPOINT" | "RELEASE", ..] | ["ROLLBACK", "TO", ..] => {
            return Err(SqlError::refused("Redshift has no savepoints"));
        }
        ["DISCARD", ..] => return Err(SqlError::with_state("42601", "syntax error at or near \"DISCARD\"")),
        ["LISTEN" | "UNLISTEN" | "NOTIFY", ..] => {
            return Err(SqlError::refused("Redshift has no LISTEN and NOTIFY"));
        }
        ["CREATE", "INDEX" | "UNIQUE", ..] => {
            return Err(SqlError::internal("SQL command \"CREATE INDEX\" not supported on Redshift tables."));
        }
        ["CREATE", "SEQUENCE", ..] => return Err(SqlError::refused("Redshift has no sequences")),
        ["COPY", ..] => {
            let (kept, extras) = rewrite::without_copy_extras(&tokens)?;
            let copy = CopyStatement::from_ast(parse(&rewrite::text(&kept))?, &extras)?;
            return Ok(Plan::Copy(Box::new(copy)));
        }
        _ => {}
    }
    if words.first() == Some(&"ALTER")
        && let Some(statements) = relayout::alter(&tokens)?
    {
        return Ok(Plan::Ddl { statements, tag: "ALTER TABLE", in_transaction: false });
    }
    let ddl = matches!(words.first(), Some(&("CREATE" | "ALTER")));
    let (tokens, layout) = if ddl { Layout::take(&tokens)? } else { (tokens, Layout::default()) };
    let sql = rewrite::text(&tokens);
    of_ast(parse(&sql)?, sql, layout)
}

fn parse(sql: &str) -> Result<ast::Statement, SqlError> {
    let mut statements = Parser::parse_sql(&RedshiftSqlDialect {}, sql).map_err(|error| {
        SqlError::with_state("42601", format!("syntax error (as the stand-in reads it): {error}"))
    })?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(SqlError::refused("this is not one statement")),
    }
}

fn of_ast(statement: ast::Statement, sql: String, layout: Layout) -> Result<Plan, SqlError> {
    use ast::Statement as S;
    subquery::check(&statement)?;
    match statement {
        // Levels are per database; a transaction's own is a no-op: .../dg/r_BEGIN.html
        S::StartTransaction { statements, .. } if statements.is_empty() => Ok(Plan::Begin),
        S::Commit { .. } => Ok(Plan::Commit),
        S::Rollback { savepoint: None, .. } => Ok(Plan::Rollback),
        S::Lock(lock) => {
            if lock.lock_mode.is_some() || lock.nowait {
                return Err(SqlError::refused(
                    "LOCK with a mode or NOWAIT: Redshift knows ACCESS EXCLUSIVE only",
                ));
            }
            let tables = lock
                .tables
                .iter()
                .map(|target| ddl::TableName::from_ast(&target.name).map(|name| name.sql()));
            let tables = tables.collect::<Result<Vec<_>, _>>()?.join(", ");
            Ok(Plan::Sql {
                sql: format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"),
                tag: Tag::Fixed("LOCK TABLE"),
            })
        }
        S::Query(query) => {
            check_query(&query)?;
            Ok(Plan::Sql { sql, tag: Tag::Counted("SELECT") })
        }
        S::Insert(insert) => {
            if insert.on.is_some() || insert.or.is_some() {
                return Err(SqlError::refused("Redshift has no INSERT … ON CONFLICT"));
            }
            returning(insert.returning.is_some())?;
            Ok(Plan::Sql { sql, tag: Tag::Counted("INSERT 0") })
        }
        S::Update(update) => {
            returning(update.returning.is_some())?;
            Ok(Plan::Sql { sql, tag: Tag::Counted("UPDATE") })
        }
        S::Delete(delete) => {
            returning(delete.returning.is_some())?;
            without_alias(&delete.from)?;
            Ok(Plan::Sql { sql, tag: Tag::Counted("DELETE") })
        }
        S::CreateTable(create) => {
            let statements = ddl::create_table(&create, &layout)?;
            Ok(Plan::Ddl { statements, tag: "CREATE TABLE", in_transaction: true })
        }
        S::AlterTable(alter) => {
            let (statements, in_transaction) = ddl::alter_table(&alter, layout)?;
            Ok(Plan::Ddl { statements, tag: "ALTER TABLE", in_transaction })
        }
        S::Drop { object_type: ObjectType::Table, if_exists, names, cascade, .. } => {
            let statements = ddl::drop_tables(&names, if_exists, cascade)?;
            Ok(Plan::Ddl { statements, tag: "DROP TABLE", in_transaction: true })
        }
        S::CreateSchema { .. } => Ok(Plan::Sql { sql, tag: Tag::Fixed("CREATE SCHEMA") }),
        S::Truncate(_) => Ok(Plan::Truncate(sql)),
        S::Set(set) => of_set(&set, sql),
        S::ShowVariable { .. } => Ok(Plan::Sql { sql, tag: Tag::Fixed("SHOW") }),
        _ => {
            let words: Vec<&str> = sql.split_whitespace().take(3).collect();
            Err(SqlError::refused(format!("{} … is not among the statements it knows", words.join(" "))))
        }
    }
}

fn returning(present: bool) -> Result<(), SqlError> {
    if present { Err(SqlError::refused("Redshift has no RETURNING")) } else { Ok(()) }
}

/// PostgreSQL 8.0 has no alias here; it is the tables of USING that can have one.
fn without_alias(from: &FromTable) -> Result<(), SqlError> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
    let alias = tables.iter().find_map(|table| match &table.relation {
        TableFactor::Table { alias, .. } => alias.as_ref(),
        _ => None,
    });
    match alias {
        Some(alias) => {
            Err(SqlError::with_state("42601", format!("syntax error at or near \"{}\"", alias.name)))
        }
        None => Ok(()),
    }
}

fn check_query(query: &Query) -> Result<(), SqlError> {
    if !query.locks.is_empty() {
        return Err(SqlError::refused("Redshift has no SELECT … FOR UPDATE"));
    }
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        check_query(&table.query)?;
    }
    match query.body.as_ref() {
        SetExpr::Select(select) if select.into.is_some() => Err(SqlError::refused("SELECT … INTO")),
        SetExpr::Select(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => Ok(()),
        SetExpr::Query(inner) => check_query(inner),
        _ => Err(SqlError::refused("a data-changing statement inside WITH")),
    }
}

fn of_set(set: &Set, sql: String) -> Result<Plan, SqlError> {
    let tag = "SET";
    let Set::SingleAssignment { variable, .. } = set else { return Err(SqlError::refused(&sql)) };
    match variable.to_string().to_ascii_lowercase().as_str() {
        "statement_timeout" | "application_name" | "timezone" => Ok(Plan::Sql { sql, tag: Tag::Fixed(tag) }),
        "search_path" => Err(SqlError::refused("SET search_path: name the schema with the table")),
        "client_encoding" | "datestyle" | "query_group" | "enable_result_cache_for_session" => {
            Ok(Plan::Accept(tag))
        }
        other => Err(SqlError::refused(format!("SET {other}"))),
    }
}

/// <https://docs.aws.amazon.com/redshift/latest/dg/r_CANCEL.html>
fn cancel(tokens: &[Token]) -> Result<Plan, SqlError> {
    let pid = tokens.iter().find_map(|token| match token {
        Token::Number(digits, _) => digits.parse::<i32>().ok(),
        _ => None,
    });
    let pid = pid.ok_or_else(|| SqlError::with_state("42601", "CANCEL needs a process id"))?;
    Ok(Plan::Cancel(pid))
}
