//! A COPY of one row that loads nothing. It shows what no request of the ingester itself can show: whether Redshift may
//! assume the role, whether the role may read what the ingester lets it read, and whether it may use the key of the objects.

use std::io::Write;

use bytes::Bytes;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::layout::{self, Compression};
use shared::object_store::{ObjectStore, ObjectStoreError};
use shared::report::{Outcome, Report};
use shared::schema::{Schema, SqlType};
use shared::seal::Manifest;
use state::loads::ErrorClass;

use crate::commands::check::objects::s3_failed;
use crate::redshift::errors::judge;
use crate::redshift::{Session, SqlFailure, Target};

const STEP: &str = "Redshift COPY";
const NOT_FOUND: &str = "Redshift does not find what was put there a moment ago: s3.endpoint, s3.region and s3.bucket must \
                         lead to the bucket that Redshift reads";

/// Where such a COPY finds what it reads: the row below `s3.to_ingest` and the manifest below `s3.loads`, as a load of
/// several batches does.
pub(super) struct CopyTrial<'a> {
    store: &'a ObjectStore,
    role: &'a str,
    manifest: String,
    row: String,
    writable: bool,
}

impl<'a> CopyTrial<'a> {
    /// Nothing is put yet; `writable`: objects can be put below `s3.to_ingest`.
    pub(super) fn new(config: &'a Config, store: &'a ObjectStore, writable: bool) -> Self {
        let name = layout::probe_name(format_args!("copy-{}", std::process::id()));
        let role = config.redshift.iam_role.as_str();
        let (row, manifest) =
            (format!("{}{name}", config.s3.to_ingest), format!("{}{name}", config.s3.loads));
        Self { store, role, manifest, row, writable }
    }

    /// Tries it for these columns, and deletes both objects however it ends.
    pub(super) async fn run<W: Write>(
        &self,
        session: &Session,
        target: &Target,
        schema: &Schema,
        report: &mut Report<'_, W>,
    ) -> Result<(), Failure> {
        if !self.writable {
            return report.skipped(STEP, "there is nothing to read: see S3 put");
        }
        let outcome = match self.put(schema).await {
            Ok(()) => {
                let copy = target.has_refused(&self.manifest, Compression::None);
                self.outcome(&session.run(&copy).await.map(drop))
            }
            Err(error) => Err(s3_failed(error)),
        };
        report.line(STEP, outcome)?;
        let deleted = [self.store.delete(&self.manifest).await, self.store.delete(&self.row).await];
        if let Some(error) = deleted.into_iter().find_map(Result::err) {
            report.line("S3 delete what COPY read", Err(s3_failed(error)))?;
        }
        Ok(())
    }

    async fn put(&self, schema: &Schema) -> Result<(), ObjectStoreError> {
        self.store.put(&self.row, Bytes::from(sample_row(schema))).await?;
        let manifest = Manifest::of(self.store.bucket(), [self.row.as_str()]);
        // Our own plain struct: its serialisation cannot fail.
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        self.store.put(&self.manifest, Bytes::from(manifest)).await.map(drop)
    }

    fn outcome(&self, copied: &Result<(), SqlFailure>) -> Outcome {
        let place = format!("s3://{}/{}", self.store.bucket(), self.manifest);
        let read = format!("{place} and its file read as {}, nothing loaded", self.role);
        let Err(failure) = copied else { return Ok(read) };
        let verdict = judge(failure);
        let (exit, advice) = match verdict.class {
            // The role has read it, which is what is tried here; "Redshift columns" compares the columns.
            ErrorClass::Data => return Ok(format!("{read}; the table refuses the sample row: {failure}")),
            ErrorClass::Configuration => (Exit::Config, verdict.advice),
            ErrorClass::Incomplete => (Exit::Config, NOT_FOUND),
            ErrorClass::Passing | ErrorClass::Unknown if verdict.advice.is_empty() => {
                (Exit::Unavailable, "try again")
            }
            ErrorClass::Passing | ErrorClass::Unknown => (Exit::Unavailable, verdict.advice),
        };
        Err((exit, format!("{place} as {}: {failure}: {advice}", self.role)))
    }
}

/// A line in the form of a file of rows, with a value in every column that its type takes, also where it must have one.
fn sample_row(schema: &Schema) -> String {
    let value = |sql_type| match sql_type {
        SqlType::Timestamp => "2000-01-01 00:00:00",
        _ => "0",
    };
    let values: Vec<_> = schema.in_row().map(|column| value(column.sql_type)).collect();
    values.join("~") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_row_has_a_value_for_every_column_of_the_built_in_schema() {
        let schema = Schema::built_in(1..=3);
        let row = sample_row(&schema);
        assert_eq!(row.trim_end().split('~').count(), schema.in_row().count());
        assert!(row.ends_with('\n') && row.contains("~2000-01-01 00:00:00~"), "{row}");
    }
}
