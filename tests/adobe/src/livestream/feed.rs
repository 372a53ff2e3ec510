//! The body of one connection: a thread writes and compresses, a bounded channel hands the bytes to the server, so
//! that a slow client holds the thread back and nothing gathers in between.
//!
//! The body is one gzip member that does not end. It is flushed when there is nothing more to write, so that a quiet
//! stream still delivers, and an empty line follows every second of silence. It is cut into chunks anywhere.

use std::{
    io::{self, Write},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use super::{
    doors::Shared,
    group::{Group, Next},
    walk::Claim,
};
use crate::{
    faults::Fault,
    records::{Counts, For, Rng, draw},
};

/// Text written per turn; also what is thrown away if the group changes meanwhile.
const TURN_BYTES: usize = 64 * 1024;
/// Ticks looked at per turn, which matters when most of their hits go to other connections.
const TURN_TICKS: u64 = 4_096;
/// Compressed bytes gathered before they are sent on.
const GATHER: usize = 16 * 1024;
/// The largest chunk; sizes vary between one byte and this.
const MAX_CHUNK: u64 = 24 * 1024;
const QUIET: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(10);

type Piece = io::Result<Bytes>;

/// The place of a connection in the group, given up when the server drops the body: that is when the client is gone.
struct Place {
    group: Arc<Mutex<Group>>,
    member: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).leave(self.member);
    }
}

/// The endless body.
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Piece>,
    _place: Place,
}

impl Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

impl Feed {
    /// Starts the thread for this member of the group.
    pub(crate) fn start(shared: &Shared, member: u64) -> io::Result<Self> {
        let (sender, pieces) = mpsc::channel(2);
        let place = Place { group: Arc::clone(&shared.group), member };
        let cuts = Rng::new(draw(shared.generator.plan().seed, member, For::Cuts));
        let writer = Writer {
            shared: shared.clone(),
            member,
            sender,
            cuts,
            gzip: GzEncoder::new(Vec::with_capacity(2 * GATHER), Compression::fast()),
            dirty: false,
            last: Instant::now(),
            trap: None,
            silenced: false,
            damaged: false,
            begun: Instant::now(),
            written: 0,
            last_of_all: None,
        };
        thread::Builder::new().name(format!("livestream-{member}")).spawn(move || {
            let outcome = writer.run();
            tracing::debug!(member, gone = outcome.is_err(), "feed ended");
        })?;
        Ok(Self { pieces, _place: place })
    }
}

/// The client is gone: the only way a writer stops unless a fault says so.
struct Gone;

/// A fault of the stream that has been taken, and how many hits are to go before it.
struct Trap {
    fault: Fault,
    remaining: u64,
}

enum Flow {
    On,
    Stop,
}

struct Writer {
    shared: Shared,
    member: u64,
    sender: mpsc::Sender<Piece>,
    cuts: Rng,
    gzip: GzEncoder<Vec<u8>>,
    /// Something was compressed since the last flush.
    dirty: bool,
    /// When the last byte was written.
    last: Instant,
    trap: Option<Trap>,
    /// After `not authorized`.
    silenced: bool,
    /// What is written from now on cannot be read.
    damaged: bool,
    begun: Instant,
    /// Hits written.
    written: u64,
    /// Since when it is the last of all, in a stream whose last connection is cut.
    last_of_all: Option<Instant>,
}

impl Writer {
    fn run(mut self) -> Result<(), Gone> {
        let mut text = Vec::with_capacity(TURN_BYTES * 2);
        loop {
            match self.step(&mut text) {
                Ok(Flow::On) => {}
                Ok(Flow::Stop) => return Ok(()),
                Err(Gone) => {
                    // A fault that was taken but never happened is for the next connection.
                    if let Some(trap) = self.trap {
                        self.shared.faults.give_back(trap.fault);
                    }
                    return Err(Gone);
                }
            }
        }
    }

    fn step(&mut self, text: &mut Vec<u8>) -> Result<Flow, Gone> {
        if self.trap.is_none() && !self.silenced && !self.damaged {
            self.trap =
                self.shared.faults.take_in_stream().map(|fault| Trap { remaining: after(&fault), fault });
        }
        if let Some(trap) = self.trap.take_if(|trap| trap.remaining == 0) {
            return self.spring(&trap.fault);
        }
        if self.silenced {
            self.idle()?;
            return Ok(Flow::On);
        }
        if self.is_to_flap() {
            return self.spring(&Fault::Cut { after: 0 });
        }
        if self.allowance() == 0 {
            self.idle()?;
            return Ok(Flow::On);
        }
        // Bound before the match: a guard in its head would be held through the arms.
        let next = self.group(|group, member| group.next(member, TURN_TICKS, Instant::now()));
        match next {
            Next::Gone => return Err(Gone),
            Next::Write(claim) => self.write(&claim, text)?,
            Next::Wait => self.idle()?,
            Next::Over => {
                if let Some(trap) = &mut self.trap {
                    trap.remaining = 0;
                }
                self.idle()?;
            }
        }
        Ok(Flow::On)
    }

    fn write(&mut self, claim: &Claim, text: &mut Vec<u8>) -> Result<(), Gone> {
        let generator = self.shared.generator;
        let most = self.trap.as_ref().map_or(u64::MAX, |trap| trap.remaining).min(self.allowance());
        let (mut sent, mut counts, mut hits) = (Vec::new(), Counts::default(), 0);
        let mut walk = claim.walk();
        text.clear();
        while text.len() < TURN_BYTES && hits < most {
            let Some(index) = walk.next(&generator) else { break };
            hits += 1;
            generator.write(index, text);
            counts += generator.counts_at(index);
            sent.push(index);
            sent.extend(generator.duplicate_of(index));
        }
        if !self.group(|group, _| group.commit(claim, &walk.reached(), &sent, counts)) {
            return Ok(());
        }
        self.written += hits;
        if let Some(trap) = &mut self.trap {
            trap.remaining -= hits;
        }
        self.compress(text);
        if self.gzip.get_ref().len() >= GATHER { self.send() } else { Ok(()) }
    }

    /// Hits it may be sent by now.
    fn allowance(&self) -> u64 {
        let Some(rate) = self.shared.connection_rate else { return u64::MAX };
        let due = self.begun.elapsed().as_micros() * u128::from(rate) / Duration::from_secs(1).as_micros();
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.written)
    }

    fn is_to_flap(&mut self) -> bool {
        let Some(after) = self.shared.flapping else { return false };
        if !self.group(|group, member| group.is_last_of_all(member)) {
            self.last_of_all = None;
            return false;
        }
        self.last_of_all.get_or_insert_with(Instant::now).elapsed() >= after
    }

    /// Nothing to write: deliver what there is, keep the connection open, wait a little.
    fn idle(&mut self) -> Result<(), Gone> {
        if self.last.elapsed() >= QUIET {
            self.compress(b"\r\n");
        }
        if self.dirty {
            self.flush()?;
        }
        self.nap(NAP)
    }

    fn spring(&mut self, fault: &Fault) -> Result<Flow, Gone> {
        tracing::debug!(member = self.member, ?fault, "scripted fault");
        match fault {
            Fault::Cut { .. } => {
                let generator = self.shared.generator;
                let at = self.comes_next();
                let mut record = Vec::new();
                generator.write_hit(at.min(generator.plan().hits.saturating_sub(1)), &mut record);
                record.truncate(record.len() / 2);
                self.compress(&record);
                self.flush()?;
                // An error ends the connection at once; what hyper holds by then would be lost with it.
                self.nap(NAP * 10)?;
                let cut = io::Error::new(io::ErrorKind::ConnectionAborted, "scripted cut");
                self.sender.blocking_send(Err(cut)).map_err(|_| Gone)?;
                Ok(Flow::Stop)
            }
            Fault::End { .. } => {
                self.gzip.try_finish().map_err(|_| Gone)?;
                self.send()?;
                Ok(Flow::Stop)
            }
            Fault::Stall { lasting, .. } => {
                self.flush()?;
                self.nap(*lasting)?;
                Ok(Flow::On)
            }
            Fault::Garbage { .. } => {
                self.flush()?;
                let mut noise: Vec<u8> = (0..512).map(|_| self.cuts.below(256) as u8).collect();
                // After a flush a block begins, and there is none of type 3. Noise that begins as a block would be
                // decoded for a while: lines that nobody sent, and that no reader could tell from malformed ones.
                noise[0] |= 0b110;
                self.sender.blocking_send(Ok(noise.into())).map_err(|_| Gone)?;
                Ok(Flow::On)
            }
            Fault::Damage { .. } => {
                self.damaged = true;
                Ok(Flow::On)
            }
            Fault::NotAuthorized { .. } => {
                self.compress(b"not authorized\r\n");
                self.shared.account.tokens.revoke_all();
                self.silenced = true;
                Ok(Flow::On)
            }
            // The queue hands out no others to a stream.
            Fault::Refuse { .. }
            | Fault::RedirectTo(_)
            | Fault::ExpireToken
            | Fault::Lapse { .. }
            | Fault::Replay { .. }
            | Fault::Deliver(_) => Ok(Flow::On),
        }
    }

    /// The hit this connection comes to next, whether or not it has happened.
    fn comes_next(&self) -> u64 {
        let next = self.group(|group, member| group.next(member, TURN_TICKS, Instant::now()));
        let written = match &next {
            Next::Write(claim) => claim.walk().next(&self.shared.generator),
            _ => None,
        };
        written.unwrap_or_else(|| self.group(|group, member| group.position(member)))
    }

    fn compress(&mut self, text: &[u8]) {
        // Writing into a vector cannot fail.
        let _ = if self.damaged {
            let text: Vec<u8> = text.iter().map(|byte| if *byte == b'{' { b'<' } else { *byte }).collect();
            self.gzip.write_all(&text)
        } else {
            self.gzip.write_all(text)
        };
        self.shared.lines.fetch_add(lines(text), Ordering::Relaxed);
        self.dirty |= !text.is_empty();
        self.last = Instant::now();
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let _ = self.gzip.flush();
        self.dirty = false;
        self.send()
    }

    fn send(&mut self) -> Result<(), Gone> {
        let mut gathered =
            Bytes::from(std::mem::replace(self.gzip.get_mut(), Vec::with_capacity(2 * GATHER)));
        self.shared.bytes.fetch_add(gathered.len() as u64, Ordering::Relaxed);
        while !gathered.is_empty() {
            let size = 1 + self.cuts.below(MAX_CHUNK) as usize;
            let piece = gathered.split_to(size.min(gathered.len()));
            self.sender.blocking_send(Ok(piece)).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Sleeps, but not past the client's going.
    fn nap(&self, lasting: Duration) -> Result<(), Gone> {
        let until = Instant::now() + lasting;
        loop {
            if self.sender.is_closed() {
                return Err(Gone);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(NAP));
        }
    }

    fn group<T>(&self, act: impl FnOnce(&mut Group, u64) -> T) -> T {
        act(&mut self.shared.group.lock().unwrap_or_else(PoisonError::into_inner), self.member)
    }
}

fn after(fault: &Fault) -> u64 {
    match fault {
        Fault::Cut { after }
        | Fault::End { after }
        | Fault::Stall { after, .. }
        | Fault::Garbage { after }
        | Fault::Damage { after }
        | Fault::NotAuthorized { after } => *after,
        Fault::Refuse { .. }
        | Fault::RedirectTo(_)
        | Fault::ExpireToken
        | Fault::Lapse { .. }
        | Fault::Replay { .. }
        | Fault::Deliver(_) => 0,
    }
}

/// Lines in whole records: no value holds a raw line feed.
fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}
