//! COPY from S3, executed here: PostgreSQL only takes in the rows that passed.
//!
//! Three things run at once: fetching from S3, judging on a blocking thread, and PostgreSQL's own COPY. Bounded
//! channels between them keep the memory small and stop the others when one fails.

pub(crate) mod csv;
pub(crate) mod files;
pub(crate) mod load_errors;
mod load_views;
pub(crate) mod options;
mod pipeline;
pub(crate) mod rows;

use std::collections::HashMap;

use sqlparser::ast::IamRoleKind;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::ddl::literal;
use crate::errors::{SqlError, Where};
use crate::postgres::quote;
use crate::s3::S3Error;
use crate::session::Shared;
use crate::types::Type;
use options::{CopyStatement, role_is_well_formed};
use rows::{Rules, Stop, Target};

/// The table as the catalog knows it.
struct Table {
    id: i64,
    targets: Vec<Target>,
    /// Its name for PostgreSQL.
    sql: String,
}

/// Executes a COPY in the session's transaction; answers the INFO notices.
pub(crate) async fn run(
    shared: &Shared,
    client: &Client,
    pid: i32,
    copy: &CopyStatement,
) -> Result<Vec<String>, SqlError> {
    let table = find_table(client, pid, copy).await?;
    let query = next_query_id(shared, pid).await?;
    check_access(shared, copy, query, pid)?;
    let files = files::find(&shared.s3, copy, query, pid).await?;

    let rules = Rules {
        targets: table.targets,
        delimiter: copy.delimiter,
        empty_as_null: copy.empty_as_null,
        accept_inv_chars: copy.accept_inv_chars,
        reading: copy.reading,
        // 0 and 1 both mean the first: .../dg/copy-parameters-data-load.html
        fails_at: u64::from(copy.max_error.max(1)),
        no_load: copy.no_load,
        rows_as_lines: shared.ways.rows_as_lines(),
    };
    let sql = copy_in(copy, &table.sql, &rules.targets);
    let done =
        pipeline::run(&shared.s3, client, (!copy.no_load).then_some(sql), copy.compression, files, rules)
            .await;

    let serverless = shared.ways.serverless();
    let database = &shared.options.database;
    let met = load_errors::Met { query, pid, table_id: table.id, database, serverless };
    load_errors::record(&shared.admin, &met, &done.errors).await?;
    let name = &copy.table.table;
    let view = if serverless { "sys_load_error_detail" } else { "stl_load_errors" };
    match done.result {
        Ok(()) => {}
        Err(pipeline::Failure::Rows(Stop::TooManyErrors)) => {
            return Err(SqlError::internal(format!(
                "Load into table '{name}' failed.  Check '{view}' system table for details."
            )));
        }
        Err(pipeline::Failure::Postgres(error)) => return Err(SqlError::from_postgres(&error, pid)),
        Err(failure) => {
            let at = Where { code: 8001, context: "S3 fetch", query, location: "s3_utility.cpp:672", pid };
            return Err(SqlError::block(failure.to_string(), &at));
        }
    }
    load_views::record(&shared.admin, query, pid, &done.files, serverless).await?;
    if done.files.is_empty() {
        let at = Where { code: 8001, context: "S3 fetch", query, location: "s3_utility.cpp:672", pid };
        return Err(SqlError::block("None of the files named in the manifest exists", &at));
    }
    let loaded = if copy.no_load { 0 } else { done.loaded };
    remember(client, pid, loaded, query).await?;
    let mut notices =
        vec![format!("Load into table '{name}' completed, {loaded} record(s) loaded successfully.")];
    if !done.errors.is_empty() {
        notices.push(format!(
            "Load into table '{name}' completed, {} record(s) could not be loaded.  Check '{view}' system table for details.",
            done.errors.len()
        ));
    }
    Ok(notices)
}

async fn find_table(client: &Client, pid: i32, copy: &CopyStatement) -> Result<Table, SqlError> {
    let sql = format!(
        "SELECT column_name, redshift_type, not_null, oid, home FROM standin.columns_of({}, {}, {})",
        literal(&copy.table.schema),
        literal(&copy.table.table),
        copy.table.bare
    );
    let answer = client.simple_query(&sql).await.map_err(|error| SqlError::from_postgres(&error, pid))?;
    let (mut id, mut home) = (None, String::new());
    let mut columns = Vec::new();
    for message in &answer {
        let SimpleQueryMessage::Row(row) = message else { continue };
        id = row.get(3).and_then(|oid| oid.parse().ok());
        row.get(4).unwrap_or_default().clone_into(&mut home);
        let (Some(name), Some(kind)) = (row.get(0), row.get(1).and_then(Type::parse)) else {
            return Err(SqlError::internal("the stand-in's catalog is damaged"));
        };
        columns.push(Target { name: name.to_owned(), kind, required: row.get(2) == Some("t") });
    }
    let Some(id) = id else {
        return Err(SqlError::internal(format!("Cannot COPY into nonexistent table {}", copy.table.table)));
    };
    let sql = format!("{}.{}", quote(&home), quote(&copy.table.table));
    if copy.columns.is_empty() {
        return Ok(Table { id, targets: columns, sql });
    }
    let mut by_name: HashMap<String, Target> =
        columns.into_iter().map(|target| (target.name.clone(), target)).collect();
    let mut targets = Vec::with_capacity(copy.columns.len());
    for name in &copy.columns {
        // Taken out, so that one named twice is not found the second time.
        targets.push(by_name.remove(name).ok_or_else(|| {
            let message = format!(
                "column \"{name}\" of relation \"{}\" does not exist or is named twice",
                copy.table.table
            );
            SqlError::with_state("42703", message)
        })?);
    }
    Ok(Table { id, targets, sql })
}

async fn next_query_id(shared: &Shared, pid: i32) -> Result<i64, SqlError> {
    let row = shared.admin.query_one("SELECT nextval('standin.query_id')", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| SqlError::from_postgres(&error, pid))
}

fn check_access(shared: &Shared, copy: &CopyStatement, query: i64, pid: i32) -> Result<(), SqlError> {
    if let IamRoleKind::Arn(arn) = &copy.role
        && !(role_is_well_formed(&copy.role) && shared.ways.may_assume(arn))
    {
        let at = Where { code: 30000, context: "", query, location: "xen_aws_credentials_mgr.cpp:402", pid };
        return Err(SqlError::block(format!("Not authorized to get credentials of role {arn}"), &at));
    }
    let here = &shared.options.s3_region;
    if copy.region.as_ref().is_some_and(|region| region != here) {
        let bucket = copy.from.trim_start_matches("s3://").split('/').next().unwrap_or_default();
        let at = Where { code: 8001, context: "S3 region", query, location: "s3_utility.cpp:672", pid };
        return Err(SqlError::block(S3Error::wrong_region(bucket, here).to_string(), &at));
    }
    Ok(())
}

/// PostgreSQL's COPY for rows that need no more judging: it only has to see the same NULLs.
fn copy_in(copy: &CopyStatement, table: &str, targets: &[Target]) -> String {
    let list = |wanted: &dyn Fn(&Target) -> bool| {
        let names: Vec<String> =
            targets.iter().filter(|target| wanted(target)).map(|target| quote(&target.name)).collect();
        names.join(", ")
    };
    let empty_is_null = |target: &Target| copy.empty_as_null || !target.kind.is_text();
    let nulls = list(&empty_is_null);
    let strings = list(&|target| !empty_is_null(target));
    let mut sql = format!(
        "COPY {table} ({}) FROM STDIN (FORMAT csv, DELIMITER '{}', QUOTE '\"', NULL ''",
        list(&|_| true),
        if copy.delimiter == b'\'' { "''".to_owned() } else { char::from(copy.delimiter).to_string() }
    );
    if !nulls.is_empty() {
        sql.push_str(&format!(", FORCE_NULL ({nulls})"));
    }
    if !strings.is_empty() {
        sql.push_str(&format!(", FORCE_NOT_NULL ({strings})"));
    }
    sql.push(')');
    sql
}

/// For `pg_last_copy_count()` and `pg_last_copy_id()`.
async fn remember(client: &Client, pid: i32, loaded: u64, query: i64) -> Result<(), SqlError> {
    let sql = format!(
        "SELECT set_config('standin.copy_count', '{loaded}', false), set_config('standin.copy_id', '{query}', false)"
    );
    client.simple_query(&sql).await.map(drop).map_err(|error| SqlError::from_postgres(&error, pid))
}
