//! A session's other side: one connection to the private PostgreSQL and the state of its transaction.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, TransactionStatus};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::copy;
use crate::errors::{SqlError, info};
use crate::faults::Kind;
use crate::session::Shared;
use crate::statement::{Plan, Statement, Tag};

/// Backslashes escape as in PostgreSQL 8.0, on which Redshift is built.
const SESSION: &str = "-c standard_conforming_strings=off -c backslash_quote=on -c escape_string_warning=off \
                       -c search_path=public,standin";
/// Only one session at a time changes tables, so that IF NOT EXISTS is true of the moment it runs in.
const DDL_LOCK: &str = "SELECT pg_advisory_xact_lock(1129)";

/// VARCHAR, the type every result is declared as; the values are text.
const VARCHAR_OID: u32 = 1043;

pub(crate) struct Backend {
    shared: Arc<Shared>,
    client: Client,
    connection: JoinHandle<()>,
    pub(crate) pid: i32,
    pub(crate) status: TransactionStatus,
}

impl Drop for Backend {
    /// Cutting the connection makes PostgreSQL roll back, even if a statement is still running.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Backend {
    /// As the user of the options, under whatever name they came in; another person has a role of their own.
    pub(crate) async fn open(shared: Arc<Shared>, user: &str, application: &str) -> Result<Self, SqlError> {
        let mut config = shared.postgres.clone();
        if shared.door.is_another(user) {
            let made = shared.admin.execute("SELECT standin.make_user($1)", &[&user]).await;
            made.map_err(|error| SqlError::from_postgres(&error, 0))?;
            config.user(user);
        }
        let level = shared.ways.level().to_ascii_lowercase().replace(' ', "\\ ");
        config.options(format!("{SESSION} -c default_transaction_isolation={level}"));
        config.application_name(application);
        let failed =
            |error: tokio_postgres::Error| SqlError::fatal("XX000", format!("the stand-in: {error}"));
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(failed)?;
        let pid = row.try_get(0).map_err(failed)?;
        Ok(Self { shared, client, connection, pid, status: TransactionStatus::Idle })
    }

    pub(crate) fn cancel_token(&self) -> tokio_postgres::CancelToken {
        self.client.cancel_token()
    }

    /// Whether the statement has to wait for ROLLBACK.
    pub(crate) fn is_aborted_for(&self, kind: Kind) -> bool {
        self.status == TransactionStatus::Error && !matches!(kind, Kind::Rollback | Kind::Commit)
    }

    /// Marks the transaction, if there is one, as failed.
    pub(crate) fn fail(&mut self) {
        if self.status == TransactionStatus::Transaction {
            self.status = TransactionStatus::Error;
        }
    }

    /// Undoes the transaction, if there is one.
    pub(crate) async fn roll_back(&mut self) -> Result<(), SqlError> {
        if self.status != TransactionStatus::Idle {
            self.run("ROLLBACK").await?;
            self.status = TransactionStatus::Idle;
        }
        Ok(())
    }

    /// Executes a statement and answers the messages for the client.
    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<Vec<Message>, SqlError> {
        let plan = match &statement.plan {
            Ok(plan) => plan,
            Err(error) => {
                self.fail();
                return Err(error.clone());
            }
        };
        let result = match self.shared.ways.missing(&statement.sql, &self.shared.options.database) {
            Some(missing) => Err(missing),
            None => self.act(plan).await,
        };
        result.map_err(|error| {
            self.fail();
            if !error.is_conflict() {
                return error;
            }
            self.shared.faults.met_conflict();
            // Of one that is SERIALIZABLE nothing is told but 1023.
            if self.shared.ways.is_serializable() { SqlError::serializable(self.pid) } else { error }
        })
    }

    async fn act(&mut self, plan: &Plan) -> Result<Vec<Message>, SqlError> {
        match plan {
            Plan::Begin => {
                if self.status == TransactionStatus::Idle {
                    self.begin().await?;
                    self.status = TransactionStatus::Transaction;
                }
                Ok(vec![complete("BEGIN")])
            }
            Plan::Commit if self.status == TransactionStatus::Error => {
                self.roll_back().await?;
                Ok(vec![complete("ROLLBACK")])
            }
            Plan::Commit => {
                if self.status == TransactionStatus::Transaction {
                    // Whatever the answer, the transaction is over.
                    self.status = TransactionStatus::Idle;
                    self.run("COMMIT").await?;
                }
                Ok(vec![complete("COMMIT")])
            }
            Plan::Rollback => {
                self.roll_back().await?;
                Ok(vec![complete("ROLLBACK")])
            }
            Plan::Sql { sql, tag } => self.sql(sql, *tag).await,
            Plan::Ddl { statements, tag, in_transaction } => {
                self.ddl(statements, tag, *in_transaction).await?;
                Ok(vec![complete(tag)])
            }
            Plan::Truncate(sql) => {
                self.run(sql).await?;
                if self.status == TransactionStatus::Transaction {
                    self.status = TransactionStatus::Idle;
                    self.run("COMMIT").await?;
                }
                Ok(vec![complete("TRUNCATE TABLE")])
            }
            Plan::Copy(copy) => {
                let notices = self.copy(copy).await?;
                let notices = notices.into_iter().map(|text| Message::NoticeResponse(info(text)));
                // No count behind the tag: https://github.com/npgsql/npgsql/issues/869
                Ok(notices.chain([complete("COPY")]).collect())
            }
            Plan::Cancel(pid) => {
                let sent = self.shared.admin.execute("SELECT pg_cancel_backend($1)", &[pid]).await;
                sent.map_err(|error| SqlError::from_postgres(&error, self.pid))?;
                Ok(vec![complete("CANCEL")])
            }
            Plan::Accept(tag) => Ok(vec![complete(tag)]),
        }
    }

    async fn begin(&self) -> Result<(), SqlError> {
        self.run(&format!("BEGIN ISOLATION LEVEL {}", self.shared.ways.level())).await
    }

    async fn run(&self, sql: &str) -> Result<(), SqlError> {
        self.client.batch_execute(sql).await.map_err(|error| SqlError::from_postgres(&error, self.pid))
    }

    async fn sql(&self, sql: &str, tag: Tag) -> Result<Vec<Message>, SqlError> {
        let answer =
            self.client.simple_query(sql).await.map_err(|error| SqlError::from_postgres(&error, self.pid))?;
        let mut messages = Vec::with_capacity(answer.len());
        for part in answer {
            match part {
                SimpleQueryMessage::RowDescription(columns) => {
                    let fields = columns.iter().map(|column| {
                        FieldDescription::new(column.name().to_owned(), 0, 0, VARCHAR_OID, -1, -1, 0)
                    });
                    messages.push(Message::RowDescription(RowDescription::new(fields.collect())));
                }
                SimpleQueryMessage::Row(row) => messages.push(data_row(&row)),
                SimpleQueryMessage::CommandComplete(rows) => messages.push(match tag {
                    Tag::Fixed(tag) => complete(tag),
                    Tag::Counted(tag) => complete(&format!("{tag} {rows}")),
                }),
                _ => {}
            }
        }
        Ok(messages)
    }

    async fn ddl(&mut self, statements: &[String], tag: &str, in_transaction: bool) -> Result<(), SqlError> {
        if self.status == TransactionStatus::Transaction {
            if !in_transaction {
                let message = format!("{tag} ALTER … cannot run inside a transaction block");
                return Err(SqlError::with_state("25001", message));
            }
            for statement in statements {
                self.run(statement).await?;
            }
            return Ok(());
        }
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let mut result = self.run(DDL_LOCK).await;
        for statement in statements {
            if result.is_ok() {
                result = self.run(statement).await;
            }
        }
        let end = self.run(if result.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        result.and(end)
    }

    /// Outside a transaction a COPY is one of its own: it also notes its count, which must not survive alone.
    async fn copy(&mut self, copy: &copy::options::CopyStatement) -> Result<Vec<String>, SqlError> {
        if self.status == TransactionStatus::Transaction {
            return copy::run(&self.shared, &self.client, self.pid, copy).await;
        }
        self.begin().await?;
        let result = copy::run(&self.shared, &self.client, self.pid, copy).await;
        self.run(if result.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        result
    }
}

pub(crate) fn complete(tag: &str) -> Message {
    Message::CommandComplete(CommandComplete::new(tag.to_owned()))
}

fn data_row(row: &tokio_postgres::SimpleQueryRow) -> Message {
    let mut data = BytesMut::new();
    for index in 0..row.len() {
        match row.get(index) {
            Some(value) => {
                data.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                data.put_slice(value.as_bytes());
            }
            None => data.put_i32(-1),
        }
    }
    Message::DataRow(DataRow::new(data, i16::try_from(row.len()).unwrap_or(i16::MAX)))
}
