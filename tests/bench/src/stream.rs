//! A Livestream that is compressed before it is sent.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use adobe::Generator;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Records between two flushes: what comes together at some thousand hits a second.
const FLUSH_EVERY: usize = 100;
/// Bytes of a chunk of the body.
pub const CHUNK: usize = 16 << 10;

/// Compresses these hits into one gzip member that is flushed now and then and has not ended, as Adobe sends it. Returns the
/// bytes of the text too.
///
/// # Errors
/// Never: it is written into memory.
pub fn compress(
    generator: &Generator,
    hits: impl Iterator<Item = u64>,
) -> std::io::Result<(GzEncoder<Vec<u8>>, u64)> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let (mut record, mut text_bytes) = (Vec::new(), 0);
    for (number, hit) in hits.enumerate() {
        record.clear();
        generator.write_hit(hit, &mut record);
        text_bytes += record.len() as u64;
        encoder.write_all(&record)?;
        if number.is_multiple_of(FLUSH_EVERY) {
            encoder.flush()?;
        }
    }
    Ok((encoder, text_bytes))
}

/// The chunks of a body over HTTP, without the one that ends it.
///
/// # Errors
/// Never: it is written into memory.
pub fn chunked(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 1000);
    for chunk in body.chunks(CHUNK) {
        write!(out, "{:x}\r\n", chunk.len())?;
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// Reads the request and sends the head of the answer.
///
/// # Errors
/// When the client is gone.
pub fn answer(socket: &mut TcpStream) -> std::io::Result<()> {
    for line in BufReader::new(socket.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes())
}
