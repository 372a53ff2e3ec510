//! The private PostgreSQL behind the stand-in: found, initialised, started and ended here.
//!
//! It listens on a Unix socket only. It refuses to run as root, so as root it is given to another user; and it
//! must not outlive us, so it asks the kernel to be killed with the thread that started it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio_postgres::{Client, NoTls};

/// The superuser has the name it has on Redshift.
const SUPERUSER: &str = "rdsdb";

/// Nothing here outlives the machine, so durability against power loss only costs time.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
    "max_connections=50",
    "shared_buffers=128MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "jit=off",
    // As Redshift joins by equality. Nothing here is analyzed, and a plan by guesses may compare each row with each.
    "enable_nestloop=off",
    "timezone=UTC",
    "log_timezone=UTC",
    // A session whose client went away while it waits for a lock must end soon.
    "client_connection_check_interval=100ms",
];

/// A running server.
pub(crate) struct Postgres {
    pid: Pid,
    sockets: tempfile::TempDir,
    keeper: Option<JoinHandle<()>>,
    exited: Mutex<mpsc::Receiver<()>>,
}

/// Whom the server runs as, when not as us.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Initialises the cluster if there is none, and starts the server. Blocks for about a second.
    pub(crate) fn start(data_dir: &Path) -> anyhow::Result<Self> {
        let bin = find_binaries()?;
        let user = if geteuid().is_root() { Some(unprivileged_user()?) } else { None };
        let data_dir = prepare_data_dir(data_dir, user)?;
        if !data_dir.join("PG_VERSION").exists() {
            init(&bin, &data_dir, user)?;
        }
        let sockets = tempfile::Builder::new().prefix("rs").tempdir_in(short_temp_dir())?;
        fs::set_permissions(sockets.path(), fs::Permissions::from_mode(0o755))?;
        give(sockets.path(), user)?;
        // A server killed with our predecessor may still hold its shared memory for a moment.
        let mut last = None;
        for _ in 0..5 {
            match launch(&bin, &data_dir, sockets.path(), user) {
                Ok((pid, keeper, exited)) => {
                    return Ok(Self { pid, sockets, keeper: Some(keeper), exited: Mutex::new(exited) });
                }
                Err(error) => last = Some(error),
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("PostgreSQL did not start")))
    }

    /// The directory of its Unix socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.sockets.path()
    }

    /// How to reach it past the stand-in.
    pub(crate) fn config(&self, user: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_dir()).user(user).dbname(database);
        config
    }

    /// Creates role, database and the catalog, each unless it is there.
    pub(crate) async fn bootstrap(&self, user: &str, database: &str) -> anyhow::Result<()> {
        let admin = connect(&self.config(SUPERUSER, "postgres")).await?;
        if admin.query("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&user]).await?.is_empty() {
            admin.batch_execute(&format!("CREATE ROLE {} SUPERUSER LOGIN", quote(user))).await?;
        }
        if admin.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&database]).await?.is_empty() {
            admin.batch_execute(&format!("CREATE DATABASE {} TEMPLATE template0", quote(database))).await?;
        }
        let inside = connect(&self.config(SUPERUSER, database)).await?;
        inside.batch_execute(include_str!("catalog.sql")).await.context("writing the stand-in's catalog")
    }

    /// Ends the server in order: sessions are cut, the data is written.
    pub(crate) fn stop(mut self) {
        self.end(Signal::INT, Duration::from_secs(20));
    }

    fn end(&mut self, signal: Signal, patience: Duration) {
        let Some(keeper) = self.keeper.take() else { return };
        let _ = kill_process(self.pid, signal);
        let exited = self.exited.get_mut().unwrap_or_else(PoisonError::into_inner);
        if exited.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        let _ = keeper.join();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(Signal::QUIT, Duration::from_secs(3));
    }
}

/// Opens a connection whose driver ends with the client.
pub(crate) async fn connect(config: &tokio_postgres::Config) -> anyhow::Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("connecting to the private PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// A quoted identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn find_binaries() -> anyhow::Result<PathBuf> {
    let mut candidates = VecDeque::new();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort_by_key(|path| {
            path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok()).unwrap_or(0)
        });
        candidates.extend(versions.into_iter().rev().map(|path| path.join("bin")));
    }
    // Through links: `initdb` looks for its data relative to where it really lies.
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path) {
        let real = directory.join("initdb").canonicalize().ok();
        candidates.extend(real.and_then(|real| real.parent().map(Path::to_owned)));
    }
    let complete = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    candidates.into_iter().find(complete).context(
        "PostgreSQL's initdb and postgres were found neither in PATH nor in /usr/lib/postgresql/*/bin: install Debian's postgresql package",
    )
}

fn unprivileged_user() -> anyhow::Result<User> {
    let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, ..] = fields[..]
                && name == wanted
            {
                return Ok(User { uid: uid.parse()?, gid: gid.parse()? });
            }
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

/// Makes the directory, owned by the user, or puts it elsewhere with a link to it if the user cannot get there.
fn prepare_data_dir(wanted: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let wanted = std::path::absolute(wanted)?;
    if !wanted.exists() {
        // Also a link whose target is gone.
        if wanted.is_symlink() {
            fs::remove_file(&wanted)?;
        }
        if let Some(parent) = wanted.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(&wanted).with_context(|| format!("creating {}", wanted.display()))?;
    }
    let real = wanted.canonicalize()?;
    let empty = fs::read_dir(&real)?.next().is_none();
    let cluster = real.join("PG_VERSION").exists();
    ensure!(empty || cluster, "{} is neither empty nor a PostgreSQL cluster", wanted.display());
    let Some(user) = user else { return Ok(real) };
    if real.ancestors().skip(1).all(|ancestor| can_enter(ancestor, user)) {
        if empty {
            chown(&real, Some(user.uid), Some(user.gid))?;
        }
        return Ok(real);
    }
    ensure!(empty, "{} holds a cluster where the user PostgreSQL runs as cannot reach it", wanted.display());
    let elsewhere = tempfile::Builder::new().prefix("redshift-").tempdir_in(short_temp_dir())?.keep();
    chown(&elsewhere, Some(user.uid), Some(user.gid))?;
    if wanted.is_symlink() {
        fs::remove_file(&wanted)?;
    } else {
        fs::remove_dir(&wanted)?;
    }
    symlink(&elsewhere, &wanted)?;
    Ok(elsewhere)
}

fn can_enter(directory: &Path, user: User) -> bool {
    fs::metadata(directory).is_ok_and(|meta| {
        let mode = meta.mode();
        mode & 0o001 != 0 || (meta.uid() == user.uid && mode & 0o100 != 0)
    })
}

/// The path of a Unix socket has at most 107 bytes, so a long TMPDIR will not do.
fn short_temp_dir() -> PathBuf {
    let configured = std::env::temp_dir();
    if configured.as_os_str().len() <= 60 { configured } else { PathBuf::from("/tmp") }
}

fn give(path: &Path, user: Option<User>) -> anyhow::Result<()> {
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

fn init(bin: &Path, data_dir: &Path, user: Option<User>) -> anyhow::Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
    command.arg(data_dir).current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let output = command.output().context("running initdb")?;
    ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

type Launched = (Pid, JoinHandle<()>, mpsc::Receiver<()>);

fn launch(bin: &Path, data_dir: &Path, sockets: &Path, user: Option<User>) -> anyhow::Result<Launched> {
    let log = data_dir.join("server.log");
    let mut command = command(bin, user);
    command.arg("-D").arg(data_dir).arg("-k").arg(sockets);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    // Ctrl-C at the terminal is for us; the server is told when its turn comes.
    command.process_group(0);

    // The kernel's signal comes at the death of the *thread* that started the server, so that thread stays.
    let (started, pid) = mpsc::channel();
    let (ended, exited) = mpsc::channel();
    let keeper = std::thread::Builder::new().name("postgres".to_owned()).spawn(move || {
        match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                let _ = child.wait();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
        let _ = ended.send(());
    })?;
    let pid = pid.recv()?.context("starting postgres")?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("an impossible process id")?;

    // The socket's name appears when the server listens; it says "ready" in its pid file a moment later.
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        if exited.try_recv().is_ok() {
            bail!("PostgreSQL ended at once: {}", fs::read_to_string(&log).unwrap_or_default().trim());
        }
        let state = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
        let ours = state.lines().next().and_then(|line| line.trim().parse().ok())
            == Some(pid.as_raw_nonzero().get());
        if ours && state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok((pid, keeper, exited));
        }
        if Instant::now() > give_up {
            let _ = kill_process(pid, Signal::KILL);
            bail!("PostgreSQL was not ready after 30 seconds, see {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `setpriv` (util-linux) changes the user first and asks for the death signal afterwards, which a change of
/// user would cancel. Without it only an orderly end of ours ends the server.
fn command(bin: &Path, user: Option<User>) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|path| path.is_file());
    let Some(setpriv) = found else {
        tracing::warn!("setpriv was not found: a PostgreSQL may be left behind if this process is killed");
        let mut command = Command::new(bin.join("postgres"));
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        return command;
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg("--clear-groups");
    }
    command.arg("--").arg(bin.join("postgres"));
    command
}
