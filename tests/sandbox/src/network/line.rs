//! One connection over a way: two directions, each with a reader that notes when a piece arrives, and a writer that lets it
//! through, late, slowly, in part or not at all.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Fault, Struck, Told, deafen};

/// What is read at once, and pieces that may be under way in one direction.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 256;
/// A server that hears nothing of the end of its client keeps the connection for so long.
const ORPHAN: Duration = Duration::from_secs(3);
/// A client that hears nothing of its server has given up by then.
const FOR_EVER: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Question,
    Answer,
}

/// How a connection ends by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reset,
    InOrder,
    Unsaid,
}

pub(super) struct Line {
    seed: u64,
    number: u64,
    told: watch::Receiver<Told>,
    /// How often the way had been broken off when it began.
    breaks: u64,
    struck: Arc<Mutex<Struck>>,
    /// What the way was told last that struck this connection.
    struck_by: AtomicU64,
    /// Questions, and answers, that were swallowed: this direction never goes on.
    questions_lost: AtomicBool,
    answers_lost: AtomicBool,
}

impl Line {
    pub(super) fn new(
        seed: u64,
        number: u64,
        told: watch::Receiver<Told>,
        struck: Arc<Mutex<Struck>>,
    ) -> Self {
        let [questions_lost, answers_lost] = [AtomicBool::new(false), AtomicBool::new(false)];
        let breaks = told.borrow().breaks;
        Self {
            seed,
            number,
            told,
            breaks,
            struck,
            struck_by: AtomicU64::new(0),
            questions_lost,
            answers_lost,
        }
    }

    /// Carries until both directions have ended, or a fault ends them.
    pub(super) async fn lead(self, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let carrying = async {
            let question = self.carry(Direction::Question, &client, &server);
            let answer = self.carry(Direction::Answer, &server, &client);
            tokio::try_join!(question, answer)
        };
        let end = tokio::select! {
            ended = carrying => ended.err(),
            end = self.watch(&client) => Some(end),
        };
        match end {
            Some(End::Reset) => {
                for socket in [&client, &server] {
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
            }
            Some(End::Unsaid) => {
                sleep(ORPHAN).await;
                drop(server);
                sleep(FOR_EVER).await;
            }
            Some(End::InOrder) | None => {}
        }
    }

    /// Follows what the way is told, until that ends the connection.
    async fn watch(&self, client: &TcpStream) -> End {
        let (mut told, mut deaf) = (self.told.clone(), false);
        loop {
            let now = told.borrow_and_update().clone();
            if now.breaks != self.breaks {
                return End::Reset;
            }
            let fault = self.drawn(&now);
            if let Some(fault @ (Fault::Reset | Fault::Closed | Fault::Vanished | Fault::Cable)) = fault {
                self.strikes(fault, &now);
            }
            if deaf && fault != Some(&Fault::Cable) {
                let _ = SockRef::from(client).detach_filter();
                deaf = false;
            }
            match fault {
                Some(Fault::Reset) => return End::Reset,
                Some(Fault::Closed) => return End::InOrder,
                Some(Fault::Vanished) => {
                    let _ = deafen(client);
                    return End::Unsaid;
                }
                Some(Fault::Cable) => deaf = deafen(client).is_ok(),
                _ => {}
            }
            if told.changed().await.is_err() {
                return End::InOrder;
            }
        }
    }

    async fn carry(&self, direction: Direction, from: &TcpStream, to: &TcpStream) -> Result<(), End> {
        let (arrived, pieces) = mpsc::channel(PIECES);
        let reading = async move {
            let mut buffer = vec![0; PIECE];
            // One who resets the connection has ended it too.
            while let Ok(length @ 1..) = read(from, &mut buffer).await {
                let piece = Bytes::copy_from_slice(&buffer[..length]);
                if arrived.send((Instant::now(), piece)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::try_join!(reading, self.write(direction, pieces, to)).map(drop)
    }

    async fn write(
        &self,
        direction: Direction,
        mut pieces: mpsc::Receiver<(Instant, Bytes)>,
        to: &TcpStream,
    ) -> Result<(), End> {
        let mut allowed = Allowed::default();
        while let Some((arrived, piece)) = pieces.recv().await {
            if self.let_through(direction, arrived, &piece, to, &mut allowed).await?.is_err() {
                // It has gone. Whoever sends to it is told when it sends again.
                return Ok(());
            }
        }
        match direction {
            Direction::Question if self.questions_lost.load(Ordering::Relaxed) => {
                sleep(ORPHAN).await;
                return Err(End::InOrder);
            }
            Direction::Answer if self.answers_lost.load(Ordering::Relaxed) => {}
            _ => drop(SockRef::from(to).shutdown(Shutdown::Write)),
        }
        Ok(())
    }

    /// The inner error is that of the one who should get it.
    async fn let_through(
        &self,
        direction: Direction,
        arrived: Instant,
        mut piece: &[u8],
        to: &TcpStream,
        allowed: &mut Allowed,
    ) -> Result<io::Result<()>, End> {
        while !piece.is_empty() {
            let mut told = self.told.clone();
            let now = told.borrow_and_update().clone();
            let fault = self.drawn(&now);
            self.note_loss(direction, fault);
            let lost = match direction {
                Direction::Question => &self.questions_lost,
                Direction::Answer => &self.answers_lost,
            };
            if lost.load(Ordering::Relaxed) {
                // It may have been lost by an earlier one.
                if let Some(fault @ (Fault::Swallowed | Fault::AnswersSwallowed)) = fault {
                    self.strikes(fault, &now);
                }
                return Ok(Ok(()));
            }
            let mut some = piece.len();
            match fault {
                Some(Fault::Cable) => {
                    // The sender lives as long as the way.
                    let _ = told.changed().await;
                    continue;
                }
                Some(fault @ Fault::ByteWise(pause)) => {
                    self.strikes(fault, &now);
                    some = 1;
                    sleep(*pause).await;
                }
                Some(fault @ Fault::Late(longest)) => {
                    self.strikes(fault, &now);
                    let share = self.draw(now.change * 2 + u64::from(direction == Direction::Answer)) % 1_000;
                    sleep_until(arrived + *longest * u32::try_from(share).unwrap_or(0) / 1_000).await;
                }
                Some(fault @ (Fault::CutAfter(range) | Fault::CutAsked(range)))
                    if matches!(fault, Fault::CutAfter(_)) == (direction == Direction::Answer) =>
                {
                    let draw = self.draw(now.change);
                    let left = allowed.of(now.change, range.start + draw % (range.end - range.start).max(1));
                    some = some.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= some as u64;
                    if some == 0 {
                        self.strikes(fault, &now);
                        return Err(if draw & (1 << 32) == 0 { End::Reset } else { End::InOrder });
                    }
                }
                _ => {}
            }
            let (first, rest) = piece.split_at(some);
            if let Err(gone) = write_all(to, first).await {
                return Ok(Err(gone));
            }
            piece = rest;
        }
        Ok(Ok(()))
    }

    /// Counts what a fault did to this connection.
    fn strikes(&self, fault: &Fault, told: &Told) {
        if self.struck_by.swap(told.change, Ordering::Relaxed) != told.change {
            let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
            *struck.entry(fault.name()).or_default() += 1;
        }
    }

    fn note_loss(&self, direction: Direction, fault: Option<&Fault>) {
        match (fault, direction) {
            (Some(Fault::Swallowed), _) => {
                self.questions_lost.store(true, Ordering::Relaxed);
                self.answers_lost.store(true, Ordering::Relaxed);
            }
            (Some(Fault::AnswersSwallowed), Direction::Answer) => {
                self.answers_lost.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The fault of this connection.
    fn drawn<'a>(&self, told: &'a Told) -> Option<&'a Fault> {
        let which = self.draw(told.change).checked_rem(told.faults.len() as u64)?;
        told.faults.get(usize::try_from(which).ok()?)
    }

    /// A number that depends on the seed, the connection and `salt` alone (splitmix64).
    fn draw(&self, salt: u64) -> u64 {
        let start =
            self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mixed = self.seed ^ start;
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Bytes that may still pass under a [`Fault::CutAfter`] or [`Fault::CutAsked`], and the change that told so.
#[derive(Debug, Default)]
struct Allowed {
    change: u64,
    left: u64,
}

impl Allowed {
    fn of(&mut self, change: u64, at_first: u64) -> &mut u64 {
        if self.change != change {
            *self = Self { change, left: at_first };
        }
        &mut self.left
    }
}

async fn read(from: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => bytes = &bytes[written?..],
        }
    }
    Ok(())
}
