//! Records as they pass through the producer, over its socket: the server's half and the client's.
//!
//! The client asks once. The server answers with a line that says which version of this it speaks, and then sends a
//! line for each record, until one side hangs up. It sends at most [`RECORDS`] in each [`TICK`]: nobody reads faster, and
//! so a tap takes the producer a bounded time however fast the stream is. What it leaves out it counts, and says so.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Take};
use tokio::net::UnixStream;

use super::protocol::{AskError, Question, Reply, line, put};
use crate::status::tap::{TapRecord, Tapping, Wanted};

/// Grows when an older client could not read what is sent.
const VERSION: u32 = 1;
/// Records sent in each tick at most.
const RECORDS: usize = 100;
const TICK: Duration = Duration::from_millis(100);
/// Bytes in each tick: no record is begun behind them.
const TICK_BYTES: usize = 1 << 20;
/// Who taps and takes nothing for so long is disconnected, and leaves its place to another.
const STALLED: Duration = Duration::from_mins(10);
/// Bytes of a line a client accepts: a record of the largest size, each byte of it escaped, and what is said of it.
const MAX_LINE: u64 = 256 << 10;

/// The first line of the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    version: u32,
}

/// A line of the answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "nearly all are records")]
pub enum Tapped {
    /// A record that passed.
    Record(TapRecord),
    /// So many passed since the line before and are not shown.
    NotShown(u64),
}

/// Sends what passes, until `gone` or an error.
pub(super) async fn serve(
    mut tapping: Tapping,
    clock: &Clock,
    write: &mut (impl AsyncWrite + Unpin),
    gone: impl Future<Output = ()>,
) -> io::Result<()> {
    let reply = Reply {
        pid: std::process::id(),
        snapshot: Some(Opened { version: VERSION }),
        error: None,
        exit: None,
    };
    write.write_all(&line(&reply)?).await?;
    tokio::pin!(gone);
    loop {
        tokio::select! {
            () = clock.sleep(TICK) => {}
            () = &mut gone => return Ok(()),
        }
        let lines = lines(&mut tapping)?;
        if !lines.is_empty() {
            tokio::select! {
                written = write.write_all(&lines) => written?,
                () = clock.sleep(STALLED) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

fn lines(tapping: &mut Tapping) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for _ in 0..RECORDS {
        if lines.len() >= TICK_BYTES {
            break;
        }
        let Some(record) = tapping.take() else { break };
        lines.extend(line(&Tapped::Record(record))?);
    }
    let missed = tapping.missed();
    if missed > 0 {
        lines.extend(line(&Tapped::NotShown(missed))?);
    }
    Ok(lines)
}

/// A tap of a running producer.
#[derive(Debug)]
pub struct TapStream {
    /// The process that is tapped.
    pub pid: u32,
    lines: Lines,
}

impl TapStream {
    /// The next line; None when the producer has hung up.
    pub async fn next(&mut self) -> io::Result<Option<Tapped>> {
        match self.lines.next().await? {
            None => Ok(None),
            Some(line) => Ok(Some(serde_json::from_slice(line)?)),
        }
    }
}

/// Taps the producer behind `socket`.
pub async fn tap(socket: &Path, wanted: Wanted) -> Result<TapStream, AskError> {
    let stream = put(socket, &Question::Tap(wanted)).await?;
    let mut lines = Lines { read: BufReader::new(stream).take(MAX_LINE), line: Vec::new() };
    let first = lines.next().await.map_err(AskError::Broken)?;
    let first = first.ok_or(io::ErrorKind::UnexpectedEof).map_err(|error| AskError::Broken(error.into()))?;
    let Reply { pid, snapshot, error, exit } =
        serde_json::from_slice::<Reply<Opened>>(first).map_err(|error| AskError::Broken(error.into()))?;
    let Some(Opened { version }) = snapshot else { return Err(refused(pid, error, exit)) };
    if version > VERSION {
        let text =
            format!("process {pid} is a producer of a newer version: use the `state` that came with it");
        return Err(AskError::Refused(Failure::new(Exit::Unavailable, anyhow::anyhow!(text))));
    }
    Ok(TapStream { pid, lines })
}

fn refused(pid: u32, error: Option<String>, exit: Option<Exit>) -> AskError {
    let error = error.unwrap_or_default();
    let text = if error.starts_with("unknown question") {
        format!(
            "process {pid} runs a version that cannot be tapped: install the producer of this version and restart it"
        )
    } else {
        format!("process {pid}: {error}")
    };
    AskError::Refused(Failure::new(exit.unwrap_or(Exit::Unavailable), anyhow::anyhow!(text)))
}

/// Lines of bounded length.
#[derive(Debug)]
struct Lines {
    read: Take<BufReader<UnixStream>>,
    line: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        self.read.set_limit(MAX_LINE);
        if self.read.read_until(b'\n', &mut self.line).await? == 0 {
            return Ok(None);
        }
        match self.line.strip_suffix(b"\n") {
            Some(line) => Ok(Some(line)),
            None if self.line.len() as u64 == MAX_LINE => Err(io::Error::other("a line is too long")),
            // The service ended within it.
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use chrono::DateTime;
    use shared::ids::BatchPrefix;
    use shared::shutdown::Shutdown;
    use tokio::net::UnixListener;

    use super::*;
    use crate::log::HitId;
    use crate::status::feed::{self, Owner};
    use crate::status::snapshot::Matching;
    use crate::status::tap::{Became, Fate, RECORD_BYTES_MAX, Seen, Tap};
    use crate::verdict::Checked;

    struct TappedOwner(Tap);

    impl Owner for TappedOwner {
        type Snapshot = ();
        type Batch = ();

        fn snapshot(&self) -> Result<(), Failure> {
            Ok(())
        }

        fn batch(&self, _: &BatchPrefix) -> Result<Matching<()>, Failure> {
            Ok(Matching { ids: Vec::new(), batch: None })
        }

        fn verify(&self) -> Result<Vec<Checked>, Failure> {
            Ok(Vec::new())
        }

        fn tap(&self, wanted: Wanted) -> Result<Tapping, Failure> {
            self.0
                .open(wanted)
                .ok_or_else(|| Failure::new(Exit::Unavailable, anyhow::anyhow!("as many as may")))
        }
    }

    fn show(tap: &Tap, hit: u64) {
        let (fate, seen) = (
            Fate::Row { hit: Some(HitId { high: 1, low: hit }), received: None },
            Seen::new(b"{}", 99, Vec::new()),
        );
        tap.show(0, DateTime::UNIX_EPOCH, [(fate, Some(&seen))]);
    }

    fn serve_in(dir: &Path, tap: &Tap) -> (PathBuf, Shutdown) {
        let (socket, shutdown) = (dir.join("feed.sock"), Shutdown::new());
        let owner = Arc::new(TappedOwner(tap.clone()));
        let serving = {
            let (socket, shutdown) = (socket.clone(), shutdown.clone());
            async move { feed::serve(&socket, owner, Clock::system(), shutdown).await }
        };
        tokio::spawn(serving);
        (socket, shutdown)
    }

    async fn opened(socket: &Path) -> TapStream {
        loop {
            match super::tap(socket, Wanted { only: Vec::new(), record_bytes: 99 }).await {
                Ok(tap) => return tap,
                Err(AskError::Nobody(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_come_over_the_socket_with_what_was_missed_until_either_side_ends() {
        let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
        let (socket, shutdown) = serve_in(dir.path(), &tap);
        let mut tapped = opened(&socket).await;
        assert_eq!(tapped.pid, std::process::id());
        for hit in 0..300 {
            show(&tap, hit);
        }
        let (mut shown, mut missed) = (0, 0);
        while shown + missed < 300 {
            match tapped.next().await.unwrap().unwrap() {
                Tapped::Record(record) => {
                    assert_eq!(record.hit, Some(format!("1-{shown}")), "in their order");
                    shown += 1;
                }
                Tapped::NotShown(records) => missed += records,
            }
        }
        assert!(shown >= 100 && missed > 0, "{shown} {missed}");
        // Who hangs up is forgotten, and the stream pays nothing more.
        drop(tapped);
        while tap.room().is_some() {
            tokio::task::yield_now().await;
        }
        let mut tapped = opened(&socket).await;
        shutdown.stop();
        assert!(tapped.next().await.unwrap().is_none(), "the producer has stopped");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_producer_that_knows_no_tap_is_told_from_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("feed.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _question = stream.read(&mut [0; 1024]).await.unwrap();
            let older = b"{\"pid\":7,\"error\":\"unknown question: unknown variant `tap`\",\"exit\":\"unavailable\"}\n";
            stream.write_all(older).await.unwrap();
        });
        let error = super::tap(&socket, Wanted { only: Vec::new(), record_bytes: 1 }).await.unwrap_err();
        assert!(error.to_string().contains("process 7 runs a version that cannot be tapped"), "{error}");
    }

    #[test]
    fn a_record_of_the_largest_size_fits_a_line_however_it_is_escaped() {
        let record = TapRecord {
            at: chrono::DateTime::UNIX_EPOCH,
            connection: 255,
            became: Became::Rejected,
            hit: None,
            received: None,
            filter: None,
            code: Some("not_json".to_owned()),
            reason: Some("x".repeat(1_000)),
            altered: Vec::new(),
            bytes: u64::MAX,
            record: Some("\u{1}".repeat(RECORD_BYTES_MAX as usize)),
            record_base64: None,
        };
        assert!((line(&Tapped::Record(record)).unwrap().len() as u64) < MAX_LINE);
    }

    #[test]
    fn an_older_producer_is_named_as_such() {
        let error = "unknown question: unknown variant `tap`, expected one of `snapshot`, `follow`";
        let said = refused(7, Some(error.to_owned()), Some(Exit::Unavailable)).to_string();
        assert!(said.contains("process 7 runs a version that cannot be tapped: install"), "{said}");
        let said = refused(7, Some("four tap it already".to_owned()), None).to_string();
        assert!(said.contains("process 7: four tap it already"), "{said}");
    }
}
