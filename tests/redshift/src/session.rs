//! One client: start-up, then statement after statement until it goes, or a fault makes it go.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgwire::api::auth::md5pass::hash_md5_password;
use pgwire::messages::response::{EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use pgwire::messages::{
    PgWireBackendMessage as Message, PgWireFrontendMessage as Request, SslNegotiationMetaMessage,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_postgres::{Client, NoTls};

use crate::Options;
use crate::backend::Backend;
use crate::door::{Ask, Door, Entered};
use crate::errors::SqlError;
use crate::faults::{Fault, Faults, Kind, OrphanEnd};
use crate::statement::{self, Statement};
use crate::ways::Ways;
use crate::wire::{self, Inbox, Reader, Writer};

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) postgres: tokio_postgres::Config,
    pub(crate) admin: Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) faults: Faults,
    pub(crate) door: Door,
    pub(crate) ways: Ways,
    /// How to interrupt a session that holds this process id and key.
    cancels: Mutex<HashMap<(i32, i32), Cancel>>,
    keys: AtomicU32,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        postgres: tokio_postgres::Config,
        admin: Client,
        s3: aws_sdk_s3::Client,
        (faults, ways, door): (Faults, Ways, Door),
    ) -> Self {
        // Not a secret worth more: the stand-in lives in a test.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
        let keys = AtomicU32::new(seed);
        Self { options, postgres, admin, s3, faults, ways, door, cancels: Mutex::default(), keys }
    }

    fn key(&self) -> u32 {
        self.keys.fetch_add(0x9E37_79B9, Ordering::Relaxed)
    }
}

/// How a statement under way is interrupted.
#[derive(Clone)]
struct Cancel {
    postgres: tokio_postgres::CancelToken,
    /// For one that does nothing yet, because a fault makes it slow.
    slow: Arc<Notify>,
}

/// What becomes of the connection after a statement.
enum Next {
    Continue,
    /// The query string failed: what is left of it is not executed.
    Skip,
    Cut,
    Orphan(Box<Orphaned>),
}

/// A session whose client is lost, and what to do.
struct Orphaned {
    /// What it still has to execute.
    statement: Option<Statement>,
    hold: Duration,
    end: OrphanEnd,
}

/// Serves a client to its end.
pub(crate) async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let (socket, tls) = match wire::secure(socket, &shared.door).await {
        Ok(secured) => secured,
        Err(error) => {
            tracing::debug!(%error, "a client went at the door");
            return;
        }
    };
    let (mut reader, mut writer) = wire::split(socket);
    let backend = match start_up(&mut reader, &mut writer, &shared, tls).await {
        Ok(Some(backend)) => backend,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, "a client did not get through start-up");
            return;
        }
    };
    let key = i32::from_ne_bytes(shared.key().to_ne_bytes());
    let registered = (backend.pid, key);
    let slow = Arc::new(Notify::new());
    let cancel = Cancel { postgres: backend.cancel_token(), slow: Arc::clone(&slow) };
    lock(&shared.cancels).insert(registered, cancel);
    let mut session = Session {
        shared: Arc::clone(&shared),
        writer,
        backend,
        if_gone: None,
        slow,
        limit: None,
        limit_before: None,
    };
    if let Ok(Some(orphaned)) = session.run(key, Inbox::new(reader)).await {
        let Session { backend, writer, .. } = session;
        // The client sees its connection end now.
        drop(writer);
        tokio::spawn(live_on(backend, orphaned));
    }
    // It stays registered: a request to cancel may come when its client has just gone, and was sent all the same.
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn live_on(mut backend: Backend, orphaned: Box<Orphaned>) {
    let Orphaned { statement, hold, end } = *orphaned;
    if let Some(statement) = statement
        && !matches!(statement.kind, Kind::Commit | Kind::Rollback)
        && let Err(error) = backend.execute(&statement).await
    {
        tracing::debug!(%error, "an orphaned statement failed");
    }
    tokio::time::sleep(hold).await;
    let last = match end {
        OrphanEnd::Commit => statement::read("COMMIT"),
        OrphanEnd::Rollback => statement::read("ROLLBACK"),
    };
    for statement in last.unwrap_or_default() {
        if let Err(error) = backend.execute(&statement).await {
            tracing::debug!(%error, "an orphaned transaction ended badly");
        }
    }
}

/// Checks the password, opens the session. `None`: the client needs no session.
async fn start_up(
    reader: &mut Reader,
    writer: &mut Writer,
    shared: &Arc<Shared>,
    tls: bool,
) -> io::Result<Option<Backend>> {
    let door = &shared.door;
    // With TLS on nobody comes in without it.
    let secure = tls || door.tls().is_none();
    let start = loop {
        match reader.next().await? {
            // SSLRequest was answered before.
            Some(Request::SslNegotiation(SslNegotiationMetaMessage::None)) => {
                reader.context.awaiting_frontend_ssl = false;
            }
            Some(Request::CancelRequest(cancel)) => {
                door.saw(Entered::Cancelled { tls });
                let key = cancel.secret_key.as_i32();
                let asked = key.and_then(|key| lock(&shared.cancels).get(&(cancel.pid, key)).cloned());
                if let Some(Cancel { postgres, slow }) = asked
                    && secure
                {
                    shared.faults.met_cancel();
                    slow.notify_waiters();
                    let _ = postgres.cancel_query(NoTls).await;
                }
                return Ok(None);
            }
            Some(Request::Startup(start)) => break start,
            _ => return Ok(None),
        }
    };
    reader.context.awaiting_frontend_startup = false;
    door.saw(Entered::Started { tls });
    let parameter = |name: &str| start.parameters.get(name).map_or("", String::as_str);
    let user = parameter("user");
    let database = if parameter("database").is_empty() { user } else { parameter("database") };
    let refusal = if secure {
        let Some(taken) = password(reader, writer, shared, user).await? else { return Ok(None) };
        door.saw(Entered::SentPassword { taken });
        if !taken {
            Some(SqlError::fatal("28000", format!("password authentication failed for user \"{user}\"")))
        } else if database != shared.options.database {
            Some(SqlError::fatal("3D000", format!("database \"{database}\" does not exist")))
        } else {
            None
        }
    } else {
        let text = format!(
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"{user}\", database \"{database}\", SSL off"
        );
        Some(SqlError::fatal("28000", text))
    };
    let opened = match refusal {
        Some(refusal) => Err(refusal),
        None => Backend::open(Arc::clone(shared), user, parameter("application_name")).await,
    };
    match opened {
        Ok(backend) => Ok(Some(backend)),
        Err(error) => {
            writer.put(&Message::ErrorResponse(error.response()))?;
            writer.flush().await?;
            Ok(None)
        }
    }
}

/// Asks for the password and says whether it is the right one; None when the client goes instead.
async fn password(
    reader: &mut Reader,
    writer: &mut Writer,
    shared: &Shared,
    user: &str,
) -> io::Result<Option<bool>> {
    let salt = shared.key().to_be_bytes();
    let ask = shared.door.ask();
    match ask {
        Ask::Md5 => writer.put(&Message::Authentication(Authentication::MD5Password(salt.to_vec())))?,
        Ask::Cleartext => writer.put(&Message::Authentication(Authentication::CleartextPassword))?,
        // Its answer is not known here: who knows the question has not been met.
        Ask::Sha256 => writer.put_bytes(&[b'R', 0, 0, 0, 8, 0, 0, 0, 13]),
    }
    writer.flush().await?;
    let Some(Request::PasswordMessageFamily(answer)) = reader.next().await? else { return Ok(None) };
    let answer = answer.into_password().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Some(shared.door.key(user).is_some_and(|key| {
        let expected = match ask {
            Ask::Md5 => hash_md5_password(&key.user, &key.password, &salt),
            Ask::Cleartext => key.password.clone(),
            Ask::Sha256 => return false,
        };
        user == key.user && answer.password == expected
    })))
}

struct Session {
    shared: Arc<Shared>,
    writer: Writer,
    backend: Backend,
    /// What becomes of it if the client goes while it is held.
    if_gone: Option<Box<Orphaned>>,
    /// Told when a slow statement is cancelled.
    slow: Arc<Notify>,
    /// `statement_timeout`
    limit: Option<Duration>,
    /// The same before the transaction.
    limit_before: Option<Duration>,
}

impl Session {
    async fn run(&mut self, key: i32, mut inbox: Inbox) -> io::Result<Option<Box<Orphaned>>> {
        self.greet(key).await?;
        while let Some(request) = inbox.next().await {
            match request {
                Request::Query(query) => match self.query(&query.query, &mut inbox).await? {
                    Next::Orphan(orphaned) => return Ok(Some(orphaned)),
                    Next::Cut => return Ok(None),
                    Next::Continue | Next::Skip => self.ready().await?,
                },
                Request::Terminate(_) => return Ok(None),
                Request::Sync(_) => self.ready().await?,
                extended if extended.is_extended_query() => {
                    self.refuse_extended()?;
                    // What was sent along with it is ignored until the client synchronises.
                    loop {
                        match inbox.next().await {
                            Some(Request::Sync(_)) => break self.ready().await?,
                            Some(_) => {}
                            None => return Ok(None),
                        }
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn greet(&mut self, key: i32) -> io::Result<()> {
        self.writer.put(&Message::Authentication(Authentication::Ok))?;
        // https://github.com/duckdb/duckdb-postgres/issues/373
        for (name, value) in [
            ("server_version", "8.0.2"),
            ("server_encoding", "UNICODE"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("is_superuser", "off"),
            ("session_authorization", self.shared.options.user.as_str()),
        ] {
            self.writer
                .put(&Message::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned())))?;
        }
        let key = BackendKeyData::new(self.backend.pid, SecretKey::I32(key));
        self.writer.put(&Message::BackendKeyData(key))?;
        self.ready().await
    }

    async fn ready(&mut self) -> io::Result<()> {
        self.writer.put(&Message::ReadyForQuery(ReadyForQuery::new(self.backend.status)))?;
        self.writer.flush().await
    }

    fn refuse_extended(&mut self) -> io::Result<()> {
        self.backend.fail();
        let error = SqlError::refused(
            "the extended query protocol, because clients ask it for binary results, which are unsafe on Redshift: use simple queries",
        );
        self.writer.put(&Message::ErrorResponse(error.response()))
    }

    /// Executes a query string, unless the client goes first.
    async fn query(&mut self, sql: &str, inbox: &mut Inbox) -> io::Result<Next> {
        let statements = match statement::read(sql) {
            Ok(statements) => statements,
            Err(error) => {
                self.shared.faults.saw(self.backend.pid, Kind::Other, sql);
                self.backend.fail();
                self.writer.put(&Message::ErrorResponse(error.response()))?;
                return Ok(Next::Skip);
            }
        };
        if statements.is_empty() {
            self.writer.put(&Message::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        for statement in statements {
            let next = tokio::select! {
                next = self.statement(statement) => next?,
                () = inbox.gone() => self.if_gone.take().map_or(Next::Cut, Next::Orphan),
            };
            if !matches!(next, Next::Continue) {
                return Ok(next);
            }
        }
        Ok(Next::Continue)
    }

    async fn statement(&mut self, statement: Statement) -> io::Result<Next> {
        let kind = statement.kind;
        self.shared.faults.saw(self.backend.pid, kind, &statement.sql);
        if self.backend.is_aborted_for(kind) {
            self.writer.put(&Message::ErrorResponse(SqlError::aborted().response()))?;
            return Ok(Next::Skip);
        }
        let (mut lost, mut hold) = (false, false);
        while let Some(fault) = self.shared.faults.take(kind) {
            match fault {
                Fault::Slow(_, time) => {
                    if !self.wait(time).await {
                        self.backend.fail();
                        let error = SqlError::cancelled(self.backend.pid);
                        self.writer.put(&Message::ErrorResponse(error.response()))?;
                        return Ok(Next::Skip);
                    }
                }
                Fault::Refused(_) => return Ok(Next::Cut),
                Fault::AppliedThenLost(_) => {
                    lost = true;
                    break;
                }
                Fault::Fails(_, failure) => {
                    if kind == Kind::Commit {
                        // A COMMIT that fails ends the transaction all the same.
                        let _ = self.backend.roll_back().await;
                    }
                    self.backend.fail();
                    let error = failure.error(self.backend.pid);
                    self.writer.put(&Message::ErrorResponse(error.response()))?;
                    return Ok(Next::Skip);
                }
                Fault::Orphan { hold, end, .. } => {
                    let statement = Some(statement);
                    return Ok(Next::Orphan(Box::new(Orphaned { statement, hold, end })));
                }
                Fault::Hold { applied, orphan, .. } => {
                    let orphaned = |statement, (hold, end)| Box::new(Orphaned { statement, hold, end });
                    if applied {
                        hold = true;
                        self.if_gone = orphan.map(|orphan| orphaned(None, orphan));
                        break;
                    }
                    // It is needed here again if it is let go.
                    let again = statement::read(&statement.sql).ok().and_then(|mut read| read.pop());
                    self.if_gone = orphan.map(|orphan| orphaned(again, orphan));
                    self.shared.faults.hold(self.backend.pid).await;
                    self.if_gone = None;
                }
            }
        }
        let result = self.backend.execute(&statement).await;
        if hold {
            self.shared.faults.hold(self.backend.pid).await;
            self.if_gone = None;
        }
        if lost {
            return Ok(Next::Cut);
        }
        self.limits(&statement, result.is_ok());
        match result {
            Ok(messages) => {
                for message in &messages {
                    self.writer.put(message)?;
                }
                Ok(Next::Continue)
            }
            Err(error) => {
                let fatal = error.is_fatal();
                self.writer.put(&Message::ErrorResponse(error.response()))?;
                if !fatal {
                    return Ok(Next::Skip);
                }
                self.writer.flush().await?;
                self.backend.status = TransactionStatus::Idle;
                Ok(Next::Cut)
            }
        }
    }

    /// Keeps `statement_timeout`, which is set back with a transaction that is undone.
    fn limits(&mut self, statement: &Statement, done: bool) {
        match statement.kind {
            Kind::Begin => self.limit_before = self.limit,
            Kind::Rollback => self.limit = self.limit_before,
            _ => {}
        }
        if done && let Some(limit) = statement_timeout(&statement.sql) {
            self.limit = limit;
            if self.backend.status == TransactionStatus::Idle {
                self.limit_before = limit;
            }
        }
    }

    /// Does nothing for a while; false if the statement is cancelled or its time is over before.
    async fn wait(&self, time: Duration) -> bool {
        let over = async {
            match self.limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.slow.notified() => false,
            () = over => false,
        }
    }
}

/// What a statement sets `statement_timeout` to, if it does; 0 is none.
fn statement_timeout(sql: &str) -> Option<Option<Duration>> {
    let sql = sql.to_ascii_lowercase();
    let value = sql.strip_prefix("set statement_timeout")?.trim_start_matches([' ', '=']);
    let millis = value.strip_prefix("to").unwrap_or(value).trim().parse().ok()?;
    Some((millis > 0).then(|| Duration::from_millis(millis)))
}
