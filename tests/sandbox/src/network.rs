//! The way to a neighbour, which can be told while it is in use how to go wrong: a proxy of TCP that knows nothing of what it
//! carries, so that a fault strikes TLS, HTTP and the protocol of Redshift alike, in the middle of whatever is sent.
//!
//! ```text
//!  service ──► listener ──► line (one for each connection: its own draws, by the seed) ──► neighbour, or what speaks TLS for it
//! ```

mod line;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use tls::{Authority, Terminator};

/// What becomes of bytes. Where there is something to draw, each connection draws for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every connection is reset: what stands now, and whoever comes.
    Reset,
    /// Every connection is ended in order (FIN): what stands now, and whoever comes.
    Closed,
    /// After so many bytes of the answer the connection ends, drawn whether by FIN or by RST: within a TLS handshake, the head of
    /// an answer, or its body.
    CutAfter(Range<u64>),
    /// The same behind so many bytes of what is asked: within the client's hello, the head of a request, or its body.
    CutAsked(Range<u64>),
    /// Packets are lost, not even the kernel confirms anything, and nobody is let in. When it ends, connections go on.
    Cable,
    /// As [`Fault::Cable`], but what stands now never goes on: the peer has vanished, and has not said so.
    Vanished,
    /// Nothing arrives on either side, although the kernel between confirms it: so does a balancer whose target is gone. A
    /// connection that has lost bytes never goes on.
    Swallowed,
    /// What is asked arrives, and no answer does. A connection that has lost bytes never goes on.
    AnswersSwallowed,
    /// One byte at a time, with this pause behind each.
    ByteWise(Duration),
    /// Bytes arrive later, each direction of each connection by a time of its own up to this: so what is sent first on one
    /// connection arrives behind what is sent later on another, and arrives also when its sender has gone.
    Late(Duration),
}

impl Fault {
    /// What it is called where faults are counted.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::CutAfter(_) => "answer cut",
            Self::CutAsked(_) => "request cut",
            Self::Cable => "cable",
            Self::Vanished => "vanished",
            Self::Swallowed => "swallowed",
            Self::AnswersSwallowed => "answers swallowed",
            Self::ByteWise(_) => "byte-wise",
            Self::Late(_) => "late",
        }
    }
}

/// How often each kind of fault struck: once for a connection and each time that the way was told.
type Struck = BTreeMap<&'static str, u64>;

/// What all lines of a way are told.
#[derive(Debug, Clone, Default)]
struct Told {
    /// How often it changed: the draws of a line depend on it.
    change: u64,
    /// How often all lines that stood were broken off.
    breaks: u64,
    /// Each line takes one of them; none: all is well.
    faults: Vec<Fault>,
}

/// A way to one neighbour. Dropping it closes it, for good.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    told: watch::Sender<Told>,
    struck: Arc<Mutex<Struck>>,
    listener: Arc<TcpListener>,
    /// Whether the listener's packets are lost.
    deaf: Mutex<bool>,
    accepting: JoinHandle<()>,
}

impl Way {
    /// A way to whoever listens there.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(neighbour: SocketAddr, seed: u64) -> std::io::Result<Self> {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await?);
        let (address, told) = (listener.local_addr()?, watch::Sender::new(Told::default()));
        let struck = Arc::<Mutex<Struck>>::default();
        let (accepted, listening, counting) = (told.clone(), listener.clone(), struck.clone());
        let accepting = tokio::spawn(async move {
            let mut number = 0;
            loop {
                let Ok((client, _)) = listening.accept().await else { continue };
                number += 1;
                let line = line::Line::new(seed, number, accepted.subscribe(), counting.clone());
                tokio::spawn(async move {
                    // A neighbour may have ended before its client.
                    if let Ok(server) = TcpStream::connect(neighbour).await {
                        line.lead(client, server).await;
                    }
                });
            }
        });
        Ok(Self { address, told, struck, listener, deaf: Mutex::new(false), accepting })
    }

    /// Where services reach the neighbour.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each connection meets one of these faults, drawn by the seed, whether it stands or is yet to come. None: all is
    /// well for those that have lost nothing.
    pub fn set(&self, faults: &[Fault]) {
        let deaf = faults.iter().any(|fault| matches!(fault, Fault::Cable | Fault::Vanished));
        let mut was = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        // Before those that stand are told, so that nobody comes in between; and behind them when it ends.
        if deaf && !*was {
            let _ = deafen(&*self.listener);
        }
        self.told.send_modify(|told| {
            told.change += 1;
            told.faults = faults.to_vec();
        });
        if !deaf && *was {
            let _ = SockRef::from(&*self.listener).detach_filter();
        }
        *was = deaf;
    }

    /// Resets every connection that stands. Those to come meet what [`Way::set`] says.
    pub fn break_off(&self) {
        self.told.send_modify(|told| told.breaks += 1);
    }

    /// How often each kind of fault did something to a connection: ended it, or kept bytes back.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.struck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(&[Fault::Closed]);
    }
}

/// The kernel drops every packet that comes for this socket, before TCP sees it: `BPF_RET | BPF_K, 0`.
fn deafen<'a>(socket: impl Into<SockRef<'a>>) -> std::io::Result<()> {
    socket.into().attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    /// A way to one who says everything again.
    async fn way(seed: u64) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Way::to(listener.local_addr().unwrap(), seed).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        way
    }

    async fn client(way: &Way) -> TcpStream {
        TcpStream::connect(way.address()).await.unwrap()
    }

    /// What comes back within a moment; None: nothing at all.
    async fn said_again(client: &mut TcpStream, what: &[u8]) -> Option<Vec<u8>> {
        client.write_all(what).await.ok()?;
        let mut again = vec![0; what.len()];
        timeout(SOON, client.read_exact(&mut again)).await.ok()?.ok()?;
        Some(again)
    }

    #[tokio::test]
    async fn a_connection_that_has_lost_bytes_stays_silent_and_a_new_one_works() {
        for fault in [Fault::Swallowed, Fault::AnswersSwallowed, Fault::Vanished] {
            let way = way(1).await;
            let mut old = client(&way).await;
            assert_eq!(said_again(&mut old, b"a").await.unwrap(), b"a");
            way.set(std::slice::from_ref(&fault));
            assert_eq!(said_again(&mut old, b"b").await, None, "{fault:?}");
            way.set(&[]);
            assert_eq!(said_again(&mut old, b"c").await, None, "{fault:?}");
            assert_eq!(said_again(&mut client(&way).await, b"d").await.unwrap(), b"d", "{fault:?}");
            assert_eq!(way.struck(), [(fault.name(), 1)].into());
        }
    }

    #[tokio::test]
    async fn behind_a_cable_that_was_out_everything_arrives_and_nobody_new_came_in_meanwhile() {
        let way = way(1).await;
        let mut old = client(&way).await;
        assert_eq!(said_again(&mut old, b"a").await.unwrap(), b"a");
        way.set(&[Fault::Cable]);
        assert_eq!(said_again(&mut old, b"b").await, None);
        assert!(timeout(SOON, TcpStream::connect(way.address())).await.is_err(), "it was let in");
        way.set(&[]);
        let mut late = [0];
        timeout(Duration::from_secs(5), old.read_exact(&mut late)).await.unwrap().unwrap();
        assert_eq!(&late, b"b");
    }

    #[tokio::test]
    async fn just_so_many_bytes_of_an_answer_pass_before_the_cut() {
        let way = way(1).await;
        way.set(&[Fault::CutAfter(10..11)]);
        let (mut client, mut passed) = (client(&way).await, 0);
        client.write_all(&[7; 100]).await.unwrap();
        let mut byte = [0];
        while let Ok(Ok(1)) = timeout(Duration::from_secs(5), client.read(&mut byte)).await {
            passed += 1;
        }
        assert_eq!((passed, way.struck()), (10, [("answer cut", 1)].into()));
    }

    #[tokio::test]
    async fn just_so_many_bytes_of_a_request_arrive_before_the_cut_and_a_shorter_one_is_whole() {
        let way = way(1).await;
        way.set(&[Fault::CutAsked(10..11)]);
        let mut old = client(&way).await;
        assert_eq!(said_again(&mut old, &[7; 10]).await.unwrap(), [7; 10]);
        assert_eq!(way.struck(), [].into());
        assert_eq!(said_again(&mut old, b"more").await, None);
        assert_eq!(way.struck(), [("request cut", 1)].into());
    }

    #[tokio::test]
    async fn what_is_sent_first_on_one_connection_arrives_last_on_another() {
        // By this seed the first connection is late by far more than the second.
        let way = way(43).await;
        way.set(&[Fault::Late(Duration::from_millis(400))]);
        let (mut first, mut second) = (client(&way).await, client(&way).await);
        first.write_all(b"1").await.unwrap();
        second.write_all(b"2").await.unwrap();
        assert_eq!(second.read_u8().await.unwrap(), b'2');
        assert_eq!(first.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(first.read_u8().await.unwrap(), b'1');
    }
}
