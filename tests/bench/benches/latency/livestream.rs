//! A Livestream of so many hits a second. It is compressed before any clock starts, in pieces that each end with a flush, so
//! that a piece that was written can be read to its last hit.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use adobe::{Generator, Plan};
use bench::stream;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Pieces a second at most: hits of a busier stream come together, as they do on a real one.
const PIECES_PER_SECOND: u64 = 200;

/// The stream, in a file.
pub(crate) struct Stream {
    pub(crate) file: PathBuf,
    pub(crate) rate: u64,
    pub(crate) generator: Generator,
}

/// What the sender needs to know of the file: it is another process.
pub(crate) struct Pace {
    /// Between two pieces.
    every: Duration,
    hits: u64,
}

impl Pace {
    pub(crate) fn of(rate: u64) -> Self {
        let pieces = rate.min(PIECES_PER_SECOND);
        Self { every: Duration::from_secs(1) / u32::try_from(pieces).unwrap(), hits: rate / pieces }
    }

    /// The piece that a hit is in.
    pub(crate) fn piece_of(&self, index: u64) -> usize {
        usize::try_from(index / self.hits).unwrap()
    }

    /// Pieces of so many seconds.
    pub(crate) fn pieces(&self, seconds: u64) -> u64 {
        (Duration::from_secs(seconds).as_nanos() / self.every.as_nanos()) as u64
    }
}

impl Stream {
    /// Each record becomes one row: none is a duplicate, filtered or malformed.
    pub(crate) fn make(file: PathBuf, rate: u64, seconds: u64) -> Self {
        let generator = Generator::new(Plan { hits: u64::MAX, excluded_per_mille: 0, ..Plan::default() });
        let pace = Pace::of(rate);
        let mut out = BufWriter::new(File::create(&file).unwrap());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let mut record = Vec::new();
        for piece in 0..pace.pieces(seconds) {
            for index in piece * pace.hits..(piece + 1) * pace.hits {
                record.clear();
                generator.write_hit(index, &mut record);
                encoder.write_all(&record).unwrap();
            }
            encoder.flush().unwrap();
            let bytes = std::mem::take(encoder.get_mut());
            out.write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes()).unwrap();
            out.write_all(&bytes).unwrap();
        }
        out.flush().unwrap();
        Self { file, rate, generator }
    }
}

/// When each piece was written, and by how much the latest was late: beyond that the stream was slower than it says.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) pieces: Vec<SystemTime>,
    pub(crate) latest: Duration,
}

/// Waits for the one connection.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let mut socket = listener.accept().unwrap().0;
    socket.set_nodelay(true).unwrap();
    stream::answer(&mut socket).unwrap();
    socket
}

/// Sends so many pieces of the file on time. The moment noted is the one just before the write: no hit of the piece can be read
/// earlier.
pub(crate) fn send(file: &Path, pace: &Pace, pieces: u64, socket: &mut TcpStream) -> io::Result<Sent> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let (mut bytes, mut sent) = (Vec::new(), Sent::default());
    let mut due = Instant::now();
    for _ in 0..pieces {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        bytes.resize(u32::from_le_bytes(length) as usize, 0);
        input.read_exact(&mut bytes)?;
        let chunk = stream::chunked(&bytes)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.latest = sent.latest.max(due.elapsed());
        sent.pieces.push(SystemTime::now());
        socket.write_all(&chunk)?;
        due += pace.every;
    }
    Ok(sent)
}
