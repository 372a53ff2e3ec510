//! The Livestream: parts that were compressed before, a backlog that is compressed while it is sent, and live hits at a modest
//! rate. No hit comes twice.
//!
//! It is one gzip member that does not end. Each block of it is compressed by itself and refers to no earlier one, so several
//! threads can make them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use adobe::{Generator, Plan};
use bench::stream;
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Hits of a block, and of what is flushed together: the end of a block is flushed too.
pub(crate) const BLOCK: u64 = 1_000;
const FLUSH: u64 = 100;
/// Threads that compress.
const THREADS: u64 = 2;
/// Live hits a second, and those of them that come together.
pub(crate) const LIVE: u64 = 1_600;
pub(crate) const TOGETHER: u64 = 8;
/// A gzip header without a name and a time.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Each record becomes one row: none is a duplicate, filtered or malformed.
fn generator() -> Generator {
    // As many hits of one second as come in one.
    Generator::new(Plan { hits: u64::MAX, excluded_per_mille: 0, hits_per_second: 20_000, ..Plan::default() })
}

/// Blocks of these hits, in order, as fast as they are taken.
fn blocks(hits: Range<u64>) -> impl Iterator<Item = Vec<u8>> {
    let made: Vec<Receiver<Vec<u8>>> = (0..THREADS).map(|thread| start(hits.clone(), thread)).collect();
    let count = (hits.end - hits.start) / BLOCK;
    (0..count).map(move |number| made[usize::try_from(number % THREADS).unwrap()].recv().unwrap())
}

/// A thread that makes its share of the blocks.
fn start(hits: Range<u64>, thread: u64) -> Receiver<Vec<u8>> {
    let (made, blocks) = mpsc::sync_channel(4);
    thread::spawn(move || {
        let generator = generator();
        let firsts =
            (hits.start + thread * BLOCK..hits.end).step_by(usize::try_from(BLOCK * THREADS).unwrap());
        for first in firsts {
            if made.send(block(&generator, first..first + BLOCK)).is_err() {
                return;
            }
        }
    });
    blocks
}

fn block(generator: &Generator, hits: Range<u64>) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let mut record = Vec::new();
    for (number, hit) in (1..).zip(hits) {
        record.clear();
        generator.write_hit(hit, &mut record);
        encoder.write_all(&record).unwrap();
        if u64::is_multiple_of(number, FLUSH) {
            encoder.flush().unwrap();
        }
    }
    std::mem::take(encoder.get_mut())
}

/// Compresses the hits from 0 on into a file.
pub(crate) fn prepare(file: &Path, hits: u64) {
    let mut out = BufWriter::new(File::create(file).unwrap());
    for block in blocks(0..hits) {
        out.write_all(&u32::try_from(block.len()).unwrap().to_le_bytes()).unwrap();
        out.write_all(&block).unwrap();
    }
    out.flush().unwrap();
}

/// A piece of the live stream: how many hits were sent before it, and when it was written.
pub(crate) type Piece = (u64, SystemTime);

/// The one connection.
pub(crate) struct Sender {
    socket: TcpStream,
    prepared: BufReader<File>,
    /// Hits that were sent.
    sent: u64,
    /// The next hit to make: those before it were compressed before.
    next: u64,
    pub(crate) live: Vec<Piece>,
}

impl Sender {
    /// Answers the producer's request. So many hits are in the file.
    pub(crate) fn new(mut socket: TcpStream, prepared: &Path, hits: u64) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        stream::answer(&mut socket)?;
        socket.write_all(&stream::chunked(&HEADER)?)?;
        let prepared = BufReader::with_capacity(1 << 20, File::open(prepared)?);
        Ok(Self { socket, prepared, sent: 0, next: hits, live: Vec::new() })
    }

    fn write(&mut self, bytes: &[u8], hits: u64) -> io::Result<()> {
        self.socket.write_all(&stream::chunked(bytes)?)?;
        self.sent += hits;
        Ok(())
    }

    /// Sends so many hits that were compressed before.
    pub(crate) fn send_prepared(&mut self, hits: u64) -> io::Result<()> {
        for _ in 0..hits / BLOCK {
            let mut length = [0; 4];
            self.prepared.read_exact(&mut length)?;
            let mut block = vec![0; u32::from_le_bytes(length) as usize];
            self.prepared.read_exact(&mut block)?;
            self.write(&block, BLOCK)?;
        }
        Ok(())
    }

    /// Sends so many hits, as fast as they are made and read.
    pub(crate) fn send_made(&mut self, hits: u64) -> io::Result<()> {
        for block in blocks(self.next..self.next + hits) {
            self.write(&block, BLOCK)?;
        }
        self.next += hits;
        Ok(())
    }

    pub(crate) fn send_empty_line(&mut self) -> io::Result<()> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"\r\n")?;
        encoder.flush()?;
        self.write(encoder.get_ref(), 0)
    }

    /// Sends live hits on time until it is told to stop. The moment noted is the one just before the write.
    pub(crate) fn send_live(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let (generator, mut record) = (generator(), Vec::new());
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            for hit in self.next..self.next + TOGETHER {
                record.clear();
                generator.write_hit(hit, &mut record);
                encoder.write_all(&record)?;
            }
            encoder.flush()?;
            let piece = std::mem::take(encoder.get_mut());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.live.push((self.sent, SystemTime::now()));
            self.write(&piece, TOGETHER)?;
            self.next += TOGETHER;
            due += Duration::from_secs(1) * u32::try_from(TOGETHER).unwrap() / u32::try_from(LIVE).unwrap();
        }
        Ok(())
    }
}
