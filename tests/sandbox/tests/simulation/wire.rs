//! The end of a connection to the warehouse: PostgreSQL's protocol, as far as simple queries use it.

use std::io;
use std::sync::Arc;

use ::ingester::Dial;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::outside::{Fate, Later, Outside, World};
use crate::warehouse::{Answer, Rows};

const BUFFER: usize = 1 << 20;
/// What Redshift may say to any statement: its text, and its kind.
const REFUSALS: [(&str, &str); 4] = [
    ("Redshift refuses: 1023", "1023 DETAIL: Serializable isolation violation on table"),
    ("Redshift refuses: disk full", "Disk Full"),
    ("Redshift refuses: unknown", "Assert"),
    ("Redshift refuses: permission", "permission denied for relation hits"),
];

/// How an ingester reaches the warehouse.
pub(crate) fn dial(world: &World) -> Dial {
    let world = world.clone();
    Arc::new(move || {
        let mut outside = world.get();
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        outside.warehouse.reached += 1;
        if outside.redshift_away {
            outside.warehouse.refused += 1;
            outside.note("ingester connects: away");
            return Err(refused());
        }
        let pid = outside.warehouse.begin();
        outside.note(format_args!("ingester connects: session {pid}"));
        let (client, server) = tokio::io::duplex(BUFFER);
        tokio::spawn(serve(world.clone(), server, pid));
        Ok(client)
    })
}

async fn serve(world: World, mut stream: DuplexStream, pid: u32) {
    // The client may go at any time.
    let _ = talk(&world, &mut stream, pid).await;
    let mut outside = world.get();
    // Unless the session lives on by itself.
    if !outside.warehouse.is_orphan(pid) {
        let ended = outside.warehouse.end(pid, false);
        outside.wrong.extend(ended.err());
    }
}

async fn talk(world: &World, stream: &mut DuplexStream, pid: u32) -> io::Result<()> {
    let length = stream.read_u32().await?;
    stream.read_exact(&mut vec![0; length as usize - 4]).await?;
    let mut hello = message(b'R', &0_u32.to_be_bytes());
    hello.extend(message(b'Z', b"I"));
    stream.write_all(&hello).await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await?;
        if kind != b'Q' {
            return Ok(());
        }
        let sql = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned();
        let answered = answer(&mut world.get(), pid, &sql);
        match answered {
            Some(bytes) => stream.write_all(&bytes).await?,
            None => return Ok(()),
        }
    }
}

/// The bytes of the answer; None: the connection ends.
fn answer(outside: &mut Outside, pid: u32, sql: &str) -> Option<Vec<u8>> {
    outside.warehouse.reached += 1;
    // A temporary table is named after an id.
    let words = if sql.contains("livestream_stage_") { 1 } else { 2 };
    let what: String = sql.split_whitespace().take(words).collect::<Vec<_>>().join(" ");
    if outside.redshift_away {
        outside.note(format_args!("session {pid} {what}: away"));
        return None;
    }
    let at_commit = sql == "COMMIT";
    let (fate, digest) = (outside.fate(at_commit), outside.digest(sql));
    outside.note(format_args!("session {pid} {what} {digest}: {fate:?}"));
    match fate {
        Fate::Fine => Some(bytes(&run(outside, pid, sql))),
        // Nothing refuses these.
        Fate::Refused(_) if sql == "ROLLBACK" || sql == "BEGIN" => Some(bytes(&run(outside, pid, sql))),
        Fate::Refused(kind) => {
            let (name, text) = REFUSALS[usize::from(kind)];
            outside.met(name);
            outside.warehouse.fail(pid);
            Some(bytes(&Answer::Refused(text.to_owned())))
        }
        Fate::LostBefore => {
            outside.met("Redshift statement lost");
            None
        }
        Fate::LostAfter => {
            outside.met(if at_commit { "COMMIT carried out, answer lost" } else { "Redshift answer lost" });
            run(outside, pid, sql);
            None
        }
        Fate::Held => {
            orphan(outside, pid, at_commit);
            None
        }
        Fate::KilledBefore => {
            outside.met("killed before a statement");
            if outside.random.bool() {
                orphan(outside, pid, at_commit);
            }
            outside.kill();
            None
        }
        Fate::KilledAfter => {
            outside.met(if at_commit { "killed after COMMIT" } else { "killed after a statement" });
            run(outside, pid, sql);
            outside.kill();
            None
        }
    }
}

/// Redshift does not notice that the client has gone. The session keeps its locks until it ends.
fn orphan(outside: &mut Outside, pid: u32, at_commit: bool) {
    let commits = at_commit && outside.random.bool();
    outside.met(match (at_commit, commits) {
        (true, true) => "COMMIT lost and carried out later",
        (true, false) => "COMMIT lost and rolled back later",
        (false, _) => "orphan session",
    });
    outside.warehouse.orphan(pid);
    outside.happens_later(Later::SessionEnds { pid, commits });
}

fn run(outside: &mut Outside, pid: u32, sql: &str) -> Answer {
    let Outside { warehouse, bucket, .. } = outside;
    let (answer, met) = warehouse.run(pid, sql, bucket);
    met.into_iter().for_each(|what| outside.met(what));
    match answer {
        Ok(answer) => answer,
        Err(broken) => {
            outside.breaks(broken);
            Answer::Refused("internal error".to_owned())
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).expect("a short message").to_be_bytes());
    message.extend(body);
    message
}

fn bytes(answer: &Answer) -> Vec<u8> {
    let mut bytes = match answer {
        Answer::Rows(rows) => rows_of(rows),
        Answer::Refused(text) => message(b'E', format!("SERROR\0CXX000\0M{text}\0\0").as_bytes()),
    };
    bytes.extend(message(b'Z', b"I"));
    bytes
}

fn rows_of(Rows(rows): &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(first) = rows.first() {
        let mut columns = u16::try_from(first.len()).expect("few columns").to_be_bytes().to_vec();
        for _ in first {
            columns.extend(b"c\0");
            columns.extend([0; 6]);
            // A varchar of any length, as text.
            columns.extend(1_043_u32.to_be_bytes());
            columns.extend((-1_i16).to_be_bytes());
            columns.extend((-1_i32).to_be_bytes());
            columns.extend([0; 2]);
        }
        bytes.extend(message(b'T', &columns));
    }
    for row in rows {
        let mut cells = u16::try_from(row.len()).expect("few columns").to_be_bytes().to_vec();
        for cell in row {
            match cell {
                Some(text) => {
                    cells.extend(u32::try_from(text.len()).expect("a short value").to_be_bytes());
                    cells.extend(text.as_bytes());
                }
                None => cells.extend((-1_i32).to_be_bytes()),
            }
        }
        bytes.extend(message(b'D', &cells));
    }
    bytes.extend(message(b'C', b"OK\0"));
    bytes
}
