//! The text of a COPY, understood and checked before anything is fetched.
//!
//! Parameters: <https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html>. What is not in the list below is
//! refused, because ignoring a parameter would load something else than Redshift loads.

use sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopySource, CopyTarget, IamRoleKind, Statement};

use crate::ddl::{TableName, folded};
use crate::errors::SqlError;
use crate::rewrite::CopyExtras;
use crate::types::Reading;

/// How the files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A COPY.
#[derive(Debug, Clone)]
pub(crate) struct CopyStatement {
    pub(crate) table: TableName,
    /// Empty: all columns of the table, in order.
    pub(crate) columns: Vec<String>,
    pub(crate) from: String,
    pub(crate) role: IamRoleKind,
    pub(crate) region: Option<String>,
    pub(crate) manifest: bool,
    pub(crate) delimiter: u8,
    pub(crate) empty_as_null: bool,
    pub(crate) accept_inv_chars: Option<u8>,
    pub(crate) compression: Compression,
    pub(crate) reading: Reading,
    pub(crate) max_error: u32,
    pub(crate) no_load: bool,
}

impl CopyStatement {
    /// Reads the parsed statement and what was taken out of it before.
    pub(crate) fn from_ast(statement: Statement, extras: &CopyExtras) -> Result<Self, SqlError> {
        let Statement::Copy { source, to: false, target, options, legacy_options, .. } = statement else {
            return Err(SqlError::refused("this COPY"));
        };
        let CopySource::Table { table_name, columns } = source else {
            return Err(SqlError::refused("COPY of a query"));
        };
        let CopyTarget::File { filename } = target else {
            return Err(SqlError::refused("COPY from anything but S3"));
        };
        if !filename.starts_with("s3://") {
            return Err(SqlError::internal(format!(
                "COPY source {filename} not supported by the stand-in: only s3://"
            )));
        }
        if !options.is_empty() {
            return Err(SqlError::refused("COPY parameters in parentheses"));
        }
        let mut role = None;
        let mut copy = Self {
            table: TableName::from_ast(&table_name)?,
            columns: columns.iter().map(folded).collect::<Result<_, _>>()?,
            from: filename,
            role: IamRoleKind::Default,
            region: None,
            manifest: false,
            delimiter: b',',
            empty_as_null: false,
            accept_inv_chars: None,
            compression: Compression::None,
            reading: Reading { round: extras.round_decimals, trim: extras.trim_blanks, ..Reading::default() },
            max_error: extras.max_error,
            no_load: extras.no_load,
        };
        let mut csv = false;
        for option in legacy_options {
            match option {
                CopyLegacyOption::IamRole(kind) => role = Some(kind),
                CopyLegacyOption::Csv(details) => {
                    csv = true;
                    check_csv(&details)?;
                }
                other => copy.set(other)?,
            }
        }
        copy.role = role.ok_or_else(|| {
            SqlError::internal("CREDENTIALS argument is required but not specified: give IAM_ROLE (the stand-in takes no keys)")
        })?;
        if copy.reading.blanks_are_null && !copy.empty_as_null {
            return Err(SqlError::refused("BLANKSASNULL without EMPTYASNULL"));
        }
        if !csv {
            return Err(SqlError::refused("COPY without FORMAT CSV"));
        }
        Ok(copy)
    }

    fn set(&mut self, option: CopyLegacyOption) -> Result<(), SqlError> {
        use CopyLegacyOption as O;
        match option {
            O::Manifest { verbose: false } => self.manifest = true,
            O::Region(region) => self.region = Some(region),
            O::Delimiter(delimiter) => {
                let byte =
                    u8::try_from(delimiter).ok().filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte));
                self.delimiter =
                    byte.ok_or_else(|| SqlError::internal("COPY delimiter must be a single character"))?;
            }
            O::EmptyAsNull => self.empty_as_null = true,
            O::Gzip => self.compression = Compression::Gzip,
            O::Zstd => self.compression = Compression::Zstd,
            O::BlankAsNull => self.reading.blanks_are_null = true,
            O::TruncateColumns => self.reading.truncate = true,
            O::AcceptInvChars(replacement) => {
                let byte = match replacement.as_deref().map(str::as_bytes) {
                    None => b'?',
                    Some(&[byte]) if byte.is_ascii_graphic() => byte,
                    Some(_) => {
                        return Err(SqlError::internal(
                            "ACCEPTINVCHARS replacement must be one ASCII character",
                        ));
                    }
                };
                self.accept_inv_chars = Some(byte);
            }
            // Case-sensitive: .../dg/r_DATEFORMAT_and_TIMEFORMAT_strings.html
            O::TimeFormat(Some(format)) if format == "auto" => self.reading.auto_time = true,
            O::TimeFormat(Some(format)) if format == "YYYY-MM-DD HH:MI:SS" => {}
            O::DateFormat(Some(format)) if format == "auto" || format == "YYYY-MM-DD" => {}
            O::CompUpdate { .. } | O::StatUpdate(_) => {}
            other => return Err(SqlError::refused(format!("COPY parameter {other}"))),
        }
        Ok(())
    }
}

fn check_csv(details: &[CopyLegacyCsvOption]) -> Result<(), SqlError> {
    for detail in details {
        match detail {
            CopyLegacyCsvOption::Quote('"') => {}
            other => return Err(SqlError::refused(format!("COPY parameter CSV {other}"))),
        }
    }
    Ok(())
}

/// Whether the role could be assumed: <https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-authorization.html>.
pub(crate) fn role_is_well_formed(role: &IamRoleKind) -> bool {
    let IamRoleKind::Arn(arn) = role else { return true };
    // Several roles may be chained with commas.
    arn.split(',').all(|arn| {
        let Some((account, name)) =
            arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/"))
        else {
            return false;
        };
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
        digits && !name.is_empty() && name.bytes().all(allowed)
    })
}
