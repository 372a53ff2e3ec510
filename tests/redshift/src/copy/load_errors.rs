//! Records of the rows a COPY refused, which outlive the transaction that met them.

use std::collections::HashMap;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::errors::SqlError;
use crate::types::{Reason, Type};

/// A bad row.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// The slice that read its file.
    pub(crate) slice: u32,
    pub(crate) file: String,
    /// The line of the file on which the row starts, from 1.
    pub(crate) line: u64,
    /// Number of the field in the row, from 0, and its column.
    pub(crate) field: usize,
    pub(crate) column: String,
    pub(crate) kind: Option<Type>,
    /// Where in the row the field starts.
    pub(crate) position: u32,
    pub(crate) raw_line: Vec<u8>,
    pub(crate) raw_value: Vec<u8>,
    pub(crate) reason: Reason,
}

/// Which COPY met them.
pub(crate) struct Met<'a> {
    pub(crate) query: i64,
    pub(crate) pid: i32,
    pub(crate) table_id: i64,
    pub(crate) database: &'a str,
    /// Serverless workgroups have the SYS view only.
    pub(crate) serverless: bool,
}

/// Rows of the detail table for each slice and load: .../dg/r_STL_LOADERROR_DETAIL.html
const DETAILS_A_SLICE: usize = 20;

const STL: &str = "INSERT INTO standin.stl_load_errors VALUES
    (100, $14::text::int, $1::text::int, now() AT TIME ZONE 'utc', $2::text::int, $3::text::int, $4::text, $5::text::bigint, $6::text,
     $7::text, $8::text, $9::text::int, $10::text, $11::text, $12::text::int, $13::text, 0, 0, -1)";
const DETAIL: &str = "INSERT INTO standin.stl_loaderror_detail VALUES
    (100, $1::text::int, $2::text::int, $3::text::int, $4::text, $5::text::bigint, $6::text::int, $7::text, $8::text, 0,
     $9::text, $10::text)";
const SYS: &str = "INSERT INTO standin.sys_load_error_detail VALUES
    (100, $1::text::bigint, $1::text::bigint, $2::text::int, $3::text, $4::text::int, now() AT TIME ZONE 'utc', $5::text,
     $6::text::bigint, $7::text, $8::text, $9::text, $10::text::int, $11::text::int, $12::text)";

/// Writes them through a connection of its own, so that the client's ROLLBACK does not undo it.
pub(crate) async fn record(admin: &Client, met: &Met<'_>, errors: &[LoadError]) -> Result<(), SqlError> {
    let mut details = HashMap::<u32, usize>::new();
    for error in errors {
        let of_slice = details.entry(error.slice).or_default();
        *of_slice += 1;
        let detail = *of_slice <= DETAILS_A_SLICE;
        write(admin, met, error, detail).await.map_err(|error| SqlError::from_postgres(&error, met.pid))?;
    }
    Ok(())
}

async fn write(
    admin: &Client,
    met: &Met<'_>,
    error: &LoadError,
    detail: bool,
) -> Result<(), tokio_postgres::Error> {
    let (kind, length) = error.kind.map_or(("", String::new()), Type::for_load_errors);
    let (table, pid, query) = (met.table_id.to_string(), met.pid.to_string(), met.query.to_string());
    let (line, position, code) =
        (error.line.to_string(), error.position.to_string(), error.reason.code.to_string());
    let file = cut(error.file.as_bytes(), 256);
    let column = cut(error.column.as_bytes(), 127);
    let length = cut(length.as_bytes(), 10);
    let raw_line = cut(&error.raw_line, 1024);
    let raw_value = cut(&error.raw_value, 1024);
    let short_reason = cut(error.reason.text.as_bytes(), 100);
    let long_reason = cut(error.reason.text.as_bytes(), 512);
    let (slice, field) = (error.slice.to_string(), error.field.to_string());
    if !met.serverless {
        let all: [&(dyn ToSql + Sync); 14] = [
            &table,
            &pid,
            &query,
            &file,
            &line,
            &column,
            &kind,
            &length,
            &position,
            &raw_line,
            &raw_value,
            &code,
            &short_reason,
            &slice,
        ];
        admin.execute(STL, &all).await?;
    }
    if detail && !met.serverless {
        let all: [&(dyn ToSql + Sync); 10] =
            [&slice, &pid, &query, &file, &line, &field, &column, &raw_value, &kind, &length];
        admin.execute(DETAIL, &all).await?;
    }
    admin
        .execute(
            SYS,
            &[
                &query,
                &pid,
                &met.database,
                &table,
                &file,
                &line,
                &column,
                &kind,
                &length,
                &position,
                &code,
                &long_reason,
            ],
        )
        .await?;
    Ok(())
}

/// Text of at most so many bytes, of bytes that may be no text.
fn cut(bytes: &[u8], max: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
